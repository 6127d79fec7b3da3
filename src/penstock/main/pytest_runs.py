"""What the fixtures of the pytest plugin do: evaluate, judge, and tell each case."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.evals.gates.files import make_gate
from penstock.evals.gates.judging import judge_rules
from penstock.evals.gates.look_types import Room
from penstock.evals.gates.reports import to_lines
from penstock.evals.gates.service import digest_gate, find_problem, name_of
from penstock.evals.gates.sides import Side
from penstock.main.case_lines import case_line
from penstock.main.control_client import ControlClient
from penstock.main.evaluate import EvaluationReport, evaluate
from penstock.main.gate_files import read_gate_file
from penstock.main.gate_runs import EVALUATIONS, GATES, run_gate
from penstock.main.instance import running_instance
from penstock.main.report_files import FileEvaluations
from penstock.spec.evaluations import GateResult
from penstock.spec.home import DEFAULT_ROOT, Home

MAX_CASES = 500


@dataclass(frozen=True, kw_only=True)
class TestVerdict:
    """How a gate came out in a test. True when it passed; its text is the sentences of all rules."""

    __test__ = False  # it is none of pytest's, whatever its name says

    result: GateResult
    cases: Sequence[str]
    """One line a case: id, answer, scores."""
    report: EvaluationReport | None = None
    """Figures of the evaluation, for `penstock_eval`."""

    @property
    def verdict(self) -> str:
        """`pass`, `fail`, `undecided` or `invalid`."""
        return self.result.verdict

    @property
    def sentence(self) -> str:
        """What decided it."""
        return self.result.reason

    @property
    def line(self) -> str:
        """Verdict and sentence."""
        return f"{self.verdict}. {self.sentence}"

    def __bool__(self) -> bool:
        return self.verdict == "pass"

    def __str__(self) -> str:
        return "\n".join(to_lines(self.result))

    def __repr__(self) -> str:
        return f"\n{self}\n"


def evaluate_in_test(
    target: Any,
    cases: Any,
    scorers: Any = (),
    *,
    folder: Path,
    rules: Sequence[Any] = (),
    baseline: str | Path | None = None,
    level: float = 0.95,
    min_coverage: float = 0.95,
    name: str | None = None,
    home: Path | str | None = None,
    **options: Any,
) -> TestVerdict:
    """Return the verdict of `rules` over an evaluation of `target`; options are those of `penstock.evaluate`.

    `baseline` is `eval:ID` where a Penstock runs, else the file that an earlier evaluation wrote. Without rules every score
    must merely be there: the verdict is then about coverage and errors.
    """
    opened = _home(home)
    report = evaluate(target, cases, scorers, name=name, home=opened.root, **options)
    told = {
        "name": name or report.record.get("name") or "evaluation",
        "rules": list(rules) or ["errors == 0"],
        "level": level,
        "min_coverage": min_coverage,
    }
    if report.path is None:
        client = ControlClient(opened)
        body = {"gate": told, "candidate": report.id, "baseline": None if baseline is None else str(baseline)}
        result = msgspec.convert(client.post(GATES, body), GateResult, strict=False)
        return TestVerdict(result=result, cases=_stored_cases(client, report.id), report=report)
    kept = report.path.replace(folder / report.path.name)
    files = FileEvaluations([kept, *([Path(baseline)] if baseline is not None else [])])
    result = judge_files(told, files)
    report = _moved(report, kept)
    return TestVerdict(result=result, cases=files.lines(files.ids[0], MAX_CASES), report=report)


def judge_files(told: dict[str, Any], files: FileEvaluations) -> GateResult:
    """Return the verdict over evaluations that were written to files: the first one's, against the second's if there is one."""
    spec = make_gate(told)
    sides = [Side(files, each, files.figure) for each in files.ids]
    theirs = sides[1] if len(sides) > 1 else None
    room = Room(
        candidate=sides[0],
        baseline=theirs,
        baseline_problem=find_problem(sides[0], theirs),
        level=spec.level,
        min_coverage=spec.min_coverage,
        min_slice_cases=spec.min_slice_cases,
        different=frozenset() if theirs is None else files.different_cases(files.ids[1], files.ids[0]),
    )
    judged = judge_rules(spec.rules, room, correction=spec.correction)
    return GateResult(
        id="",
        name=spec.name,
        gate_digest=digest_gate(spec),
        verdict=judged.verdict,
        reason=judged.reason,
        rules=judged.rules,
        candidate=name_of(sides[0].record),
        baseline=None if theirs is None else name_of(theirs.record),
        versions={},
        evaluations=list(files.ids),
        made_ns=sides[0].record.finished_ns or 0,
        level=spec.level,
        correction=spec.correction,
        left_out=sorted(set(room.left_out)),
    )


def run_gate_in_test(
    file: Path, *, candidate: str | None = None, baseline: str | None = None, home: Path | str | None = None
) -> TestVerdict | None:
    """Return the verdict of a gate file, or None where no Penstock runs."""
    opened = _home(home)
    if running_instance(opened) is None:
        return None
    result = run_gate(
        opened,
        read_gate_file(file),
        candidate=candidate,
        baseline=baseline,
        tell=lambda _share, _text: None,
    )
    return TestVerdict(result=result, cases=_stored_cases(ControlClient(opened), result.evaluations[0]))


def _home(home: Path | str | None) -> Home:
    root = Path(home or os.environ.get("PENSTOCK_HOME") or DEFAULT_ROOT)
    return Home(root=root.expanduser().absolute())


def _moved(report: EvaluationReport, path: Path) -> EvaluationReport:
    return EvaluationReport(
        id=report.id,
        state=report.state,
        reason=report.reason,
        estimates=report.estimates,
        slices=report.slices,
        errors=report.errors,
        notes=report.notes,
        path=path,
        record=report.record,
    )


def _stored_cases(client: ControlClient, evaluation_id: str) -> list[str]:
    page = client.get(f"{EVALUATIONS}/{evaluation_id}/cases", limit=MAX_CASES)
    return [case_line(row["case"]["id"], row["outputs"], row["scores"]) for row in page["rows"]]
