"""Evaluations that run in the process of the person who asks: user functions, HTTP endpoints, and scorers that people wrote.

While Penstock runs on the home, cases come from control and everything that is made is sent there, so the evaluation looks
like any other. Without one it is kept in memory and written to a file, and the report says so.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from penstock.base.clock import now_ns
from penstock.base.files import write_atomic
from penstock.base.ids import new_id
from penstock.evals.catalogue import Catalogue
from penstock.evals.checks import check_spec
from penstock.evals.errors import EvaluationInvalid, PreflightFailed
from penstock.evals.figures import OPERATIONAL
from penstock.evals.ports import PinnedTarget
from penstock.evals.rows import slices_of
from penstock.evals.running.asking import Asker
from penstock.evals.running.budget import Budget
from penstock.evals.running.control_run import is_user_code
from penstock.evals.running.following import TraceFollower
from penstock.evals.running.http_target import HttpTarget
from penstock.evals.running.journal import Journal, MemoryJournal
from penstock.evals.running.pace import Pace
from penstock.evals.running.runner import Progress, Runner, RunOutcome, RunParts
from penstock.evals.running.scoring import column_of, make_early, prepare
from penstock.evals.running.targets import FunctionTarget, ModelTarget, RunTarget, StoredTarget, read_outputs
from penstock.evals.scorers.python import load_function
from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.evals.statistics.estimates import estimate
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.main.control_client import ControlClient
from penstock.main.eval_cases import DatasetCases
from penstock.main.eval_gateway import HttpGateway
from penstock.main.eval_ports import RegistryPins, read_registered_scorer
from penstock.main.home_files import read_internal_key
from penstock.main.instance import find_addresses, running_instance
from penstock.main.job_wait import Tell
from penstock.main.last_snapshot import LastSnapshot
from penstock.main.local_links import ROOT, RestJournal, RestTraceFacts, read_all_cases
from penstock.main.progress_text import progress_text
from penstock.main.rooms import Rooms
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import Estimate, EvaluationSpec
from penstock.spec.home import Home


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """How a local run came out."""

    record: dict[str, Any]
    """As REST shows an evaluation."""
    figures: dict[str, Any]
    """As REST shows its estimates."""
    path: Path | None = None
    """Where everything was written, when no Penstock was running."""
    outputs: Mapping[tuple[str, int], Output] = field(default_factory=dict)


def run_local(
    spec: EvaluationSpec,
    *,
    home: Home | None,
    tell: Tell,
    function: Callable[..., Any] | None = None,
    cases: Sequence[Case] | None = None,
    scorers: Sequence[Scorer] = (),
    resume_id: str | None = None,
    folder: Path | None = None,
) -> LocalResult:
    """Run an evaluation in this process and return how it came out.

    `function` is asked instead of the function that `spec` names; `scorers` come after those of `spec`; `cases` take the
    place of dataset or file. Raises what reading cases raises, `PreflightFailed`, and what sending raises.
    """
    check_spec(spec)
    is_running = home is not None and running_instance(home) is not None
    rooms = Rooms(home) if home is not None and is_running else None
    read = None if rooms is None else (lambda reference: read_registered_scorer(rooms.registry, reference))
    catalogue = Catalogue(load_python=True, read_registered=read)
    made = [*(catalogue.create(each) for each in spec.scorers), *scorers]
    run = _LocalRun(spec, made, function, tell)
    if home is not None and rooms is not None:
        return run.with_control(home, rooms, cases, resume_id)
    if resume_id is not None:
        raise EvaluationInvalid("Only with a running Penstock can a local run go on.", hint="penstock up")
    return run.alone(cases if cases is not None else _read_cases(spec), folder or Path.cwd())


def _read_cases(spec: EvaluationSpec) -> list[Case]:
    if spec.file is None:
        raise EvaluationInvalid("Without a running Penstock cases come from a `file`.", hint="penstock up")
    with TemporaryDirectory(prefix="penstock-cases-") as folder:
        source = DatasetCases(lambda: None, lambda: nullcontext(Path(folder)))
        return list(source.read(spec.file, where=spec.where, limit=spec.limit, seed=spec.seed).cases)


@dataclass(frozen=True, kw_only=True)
class _Links:
    """What a run reaches through a running Penstock."""

    gateway: HttpGateway
    facts: RestTraceFacts
    pins: RegistryPins


async def _quiet_when_interrupted(run: Coroutine[Any, Any, RunOutcome]) -> RunOutcome:
    """Await the run; interrupted, what its unfinished parts would still complain of is not told."""
    try:
        return await run
    except asyncio.CancelledError:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        raise


class _LocalRun:
    def __init__(
        self, spec: EvaluationSpec, scorers: Sequence[Scorer], function: Callable[..., Any] | None, tell: Tell
    ) -> None:
        self._spec = spec
        self._scorers = list(scorers)
        self._function = function
        self._tell = tell
        self._stamp: str | None = None
        if function is None and spec.target.python is not None:
            self._function, digest = load_function(spec.target.python)
            self._stamp = f"{spec.target.python} {digest[:19]}"

    def _columns(self) -> list[ScoreColumn]:
        specs = [None if is_user_code(each) else each for each in self._spec.scorers]
        padded = [*specs, *[None] * (len(self._scorers) - len(specs))]
        return [column_of(scorer, each) for scorer, each in zip(self._scorers, padded, strict=True)]

    # with control

    def with_control(
        self, home: Home, rooms: Rooms, cases: Sequence[Case] | None, resume_id: str | None
    ) -> LocalResult:
        """Run with everything kept in control."""
        client = ControlClient(home)
        if resume_id is not None:
            record = client.post(f"{ROOT}/local/{resume_id.removeprefix('eval:')}/reopen", {})
        else:
            body = {
                "spec": msgspec.to_builtins(self._spec),
                "cases": None if cases is None else [msgspec.to_builtins(case) for case in cases],
                "columns": [],
                "target_stamp": self._stamp or "",
            }
            record = client.post(f"{ROOT}/local", body, timeout_s=600.0)
        path = f"{ROOT}/local/{record['id']}/finish"
        try:
            journal = RestJournal(client, record["id"])
            self._scorers = prepare(self._scorers, lambda: read_all_cases(client, record["id"]))
            pins = RegistryPins(rooms.registry, LastSnapshot(home.snapshot).read)
            gateway = HttpGateway(find_addresses(home).gateway_url, read_internal_key(home))
            links = _Links(gateway=gateway, facts=RestTraceFacts(client), pins=pins)
            outcome = asyncio.run(
                _quiet_when_interrupted(self._run(record["id"], record["n_cases"], journal, links))
            )
        except KeyboardInterrupt:
            client.post(path, self._ending("stopped", "interrupted"))
            raise KeyboardInterrupt(record["id"]) from None  # whoever was asked to run it says how to go on
        except Exception as error:
            client.post(path, self._ending("failed", str(error)[:4000]))
            raise
        record = client.post(path, self._ending(outcome.state, outcome.reason))
        figures = client.get(f"{ROOT}/{record['id']}/estimates")
        return LocalResult(record=record, figures=figures)

    def _ending(self, state: str, reason: str | None) -> dict[str, Any]:
        columns = [msgspec.to_builtins(column) for column in self._columns()]
        return {"state": state, "reason": reason, "columns": columns}

    # alone

    def alone(self, cases: Sequence[Case], folder: Path) -> LocalResult:
        """Run without control; everything is written to one file at the end, also when it fails."""
        _check_cases(cases)
        evaluation_id = new_id("eval")
        began_ns = now_ns()
        journal = MemoryJournal(cases)
        self._scorers = prepare(self._scorers, lambda: cases)
        outcome = RunOutcome(state="failed", reason="it broke off")
        path = folder / f"{evaluation_id}.jsonl"
        try:
            outcome = asyncio.run(
                _quiet_when_interrupted(self._run(evaluation_id, len(cases), journal, None))
            )
        except KeyboardInterrupt:
            outcome = RunOutcome(state="stopped", reason="interrupted")
            raise
        except PreflightFailed as error:
            outcome = RunOutcome(state="failed", reason=error.message)
            raise
        finally:
            record, figures = self._report(evaluation_id, cases, journal, outcome, began_ns)
            _write_report(path, record, figures, cases, journal)
        return LocalResult(record=record, figures=figures, path=path, outputs=journal.outputs)

    def _report(
        self,
        evaluation_id: str,
        cases: Sequence[Case],
        journal: MemoryJournal,
        outcome: RunOutcome,
        began_ns: int,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        outputs = list(journal.outputs.values())
        spec = self._spec
        record = {
            "id": evaluation_id,
            "name": spec.name,
            "state": outcome.state,
            "reason": outcome.reason,
            "spec": msgspec.to_builtins(spec),
            "target": spec.target.name or spec.target.python or getattr(self._function, "__name__", "target"),
            "is_local": True,
            "n_cases": len(cases),
            "n_outputs": sum(output.status != "skipped" for output in outputs),
            "n_ok": sum(output.status == "ok" for output in outputs),
            "n_errors": sum(output.status == "error" for output in outputs),
            "columns": [msgspec.to_builtins(column) for column in self._columns()],
            "created_ns": began_ns,
            "finished_ns": now_ns(),
        }
        estimates = [
            estimate(
                _scored_cases(cases, journal, column.name, spec.slices),
                column,
                name=column.name,
                figure=scorer.figure,
            )
            for scorer, column in zip(self._scorers, self._columns(), strict=True)
        ]
        estimates += _operational(cases, outputs)
        return record, {
            "evaluation": evaluation_id,
            "estimates": [msgspec.to_builtins(each) for each in estimates],
            "notes": [],
        }

    # both

    async def _run(
        self,
        evaluation_id: str,
        n_cases: int,
        journal: Journal,
        links: "_Links | None",
    ) -> RunOutcome:
        spec, clock = self._spec, time.monotonic
        pace = Pace(spec.concurrency, clock=clock)
        budget = Budget(spec.budget, clock=clock)
        follower = TraceFollower(None if links is None else links.facts, clock=clock)
        asker = None
        if links is not None:
            asker = Asker(
                gateway=links.gateway,
                pace=pace,
                budget=budget,
                follower=follower,
                session=f"eval:{evaluation_id}",
                timeout_s=spec.case_timeout_s,
                clock=clock,
            )
        target = self._target(pace, asker, None if links is None else links.pins)

        def hear(progress: Progress) -> None:
            self._tell(progress.fraction, progress_text(progress))

        runner = Runner(
            RunParts(
                evaluation_id=evaluation_id,
                spec=spec,
                n_cases=n_cases,
                journal=journal,
                target=target,
                scorers=self._scorers,
                tools=ScorerTools() if asker is None else ScorerTools(ask=asker.ask, embed=asker.embed),
                budget=budget,
                clock=clock,
                tell=hear,
                should_stop=lambda: None,
                now_ns=now_ns,
                early=make_early(spec, self._scorers, None),
            )
        )
        try:
            return await runner.run()
        finally:
            await follower.close()
            if isinstance(target, HttpTarget):
                await target.close()
            if links is not None:
                await links.gateway.close()

    def _target(self, pace: Pace, asker: Asker | None, pins: RegistryPins | None) -> RunTarget:
        spec = self._spec.target
        if self._function is not None:
            return FunctionTarget(
                function=self._function,
                stamp=None,
                pace=pace,
                clock=time.monotonic,
                timeout_s=self._spec.case_timeout_s,
            )
        if spec.http is not None:
            return HttpTarget(
                spec=spec.http,
                environ=os.environ,
                pace=pace,
                clock=time.monotonic,
                timeout_s=self._spec.case_timeout_s,
            )
        if spec.outputs is not None and not spec.outputs.startswith("eval:"):
            lines = Path(spec.outputs).expanduser().read_text(encoding="utf-8").splitlines()
            stored = read_outputs(lines, place=Path(spec.outputs).name)

            async def find(case_id: str, repeat: int) -> Output | None:
                return stored.get((case_id, repeat))

            return StoredTarget(find=find)
        if asker is None or pins is None or spec.model is None:
            raise EvaluationInvalid("Models are asked through a running Penstock.", hint="penstock up")
        pinned: PinnedTarget = pins.pin(spec)
        return ModelTarget(pinned=pinned, asker=asker)


def _check_cases(cases: Sequence[Case]) -> None:
    if not cases:
        raise EvaluationInvalid("There is no case to ask.")
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        twice = next(case_id for case_id in ids if ids.count(case_id) > 1)
        raise EvaluationInvalid(f"Two cases have the id {twice!r}.", hint="Pairs are made by id.")


def _scored_cases(
    cases: Sequence[Case], journal: MemoryJournal, name: str, slice_keys: Sequence[str]
) -> list[ScoredCase]:
    by_case: dict[str, list[Any]] = {}
    for (case_id, _, score_name), score in journal.scores.items():
        if score_name == name:
            by_case.setdefault(case_id, []).append(score)
    made = []
    for case in cases:
        scores = by_case.get(case.id, [])
        scored = [score for score in scores if score.value is not None]
        made.append(
            ScoredCase(
                case_id=case.id,
                group=case.group,
                values=[score.value for score in scored],
                statistics=[score.statistics for score in scored if score.statistics],
                slices=tuple(slices_of(case, slice_keys)),
                n_undefined=sum(score.status == "undefined" for score in scores),
                n_errors=sum(score.status == "error" for score in scores),
                n_skipped=0 if scores else 1,
            )
        )
    return made


def _operational(cases: Sequence[Case], outputs: Sequence[Output]) -> list[Estimate]:
    latencies: dict[str, list[float]] = {}
    for output in outputs:
        if output.status == "ok" and output.latency_ms is not None:
            latencies.setdefault(output.case_id, []).append(output.latency_ms)
    scored = [
        ScoredCase(case_id=case.id, group=case.group, values=latencies.get(case.id, [])) for case in cases
    ]
    return [estimate(scored, OPERATIONAL["latency_ms"], name="latency_ms")] if latencies else []


def _write_report(
    path: Path,
    record: Mapping[str, Any],
    figures: Mapping[str, Any],
    cases: Sequence[Case],
    journal: MemoryJournal,
) -> None:
    encode = msgspec.json.encode
    lines = [encode({"evaluation": record, "figures": figures})]
    outputs: dict[str, list[Output]] = {}
    for output in journal.outputs.values():
        outputs.setdefault(output.case_id, []).append(output)
    scores: dict[str, list[Any]] = {}
    for (case_id, repeat, _), score in journal.scores.items():
        scores.setdefault(case_id, []).append({"repeat": repeat, **msgspec.to_builtins(score)})
    lines += [
        encode({"case": case, "outputs": outputs.get(case.id, []), "scores": scores.get(case.id, [])})
        for case in cases
    ]
    write_atomic(path, b"\n".join(lines) + b"\n")
