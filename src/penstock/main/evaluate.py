"""`penstock.evaluate`: an evaluation from a program, a notebook or a test, in a few lines.

    report = penstock.evaluate(answer, "cases.jsonl", ["exact", "token_f1"])
    print(report)
    assert report["exact"].low > 0.8

While Penstock runs on the home, the evaluation is kept there like any other; without one everything is written to a file.
"""

import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.evals.scorers.python import PythonScorer
from penstock.evals.scorers.types import Scorer
from penstock.main.eval_files import convert_spec, resolve_paths
from penstock.main.local_runs import LocalResult, run_local
from penstock.spec.cases import Case
from penstock.spec.evaluations import Estimate, EvaluationSpec, ScorerSpec
from penstock.spec.home import DEFAULT_ROOT, Home

Target = Callable[..., Any] | str | Mapping[str, Any]
ScorerLike = str | Mapping[str, Any] | ScorerSpec | Scorer | Callable[..., Any]
Cases = str | Path | Iterable[Case | Mapping[str, Any]]
_KNOWN = frozenset(field.name for field in msgspec.structs.fields(Case))


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """How an evaluation came out. `report["exact"]` is the estimate of a score."""

    id: str
    state: str
    """`done`, `stopped` or `failed`."""
    reason: str | None
    estimates: tuple[Estimate, ...]
    slices: tuple[Estimate, ...] = ()
    errors: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    path: Path | None = None
    """The file with everything, when no Penstock was running."""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole record, as REST shows it."""

    def __getitem__(self, name: str) -> Estimate:
        """Return the estimate of a score over all cases; raises `KeyError` that names the known ones."""
        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        raise KeyError(f"no score {name!r}; there are {', '.join(each.name for each in self.estimates)}")

    def __str__(self) -> str:
        lines = [f"{self.id} {self.state}" + (f": {self.reason}" if self.reason else "")]
        lines += [_line(estimate) for estimate in self.estimates]
        lines += [f"{each['n']} × {each['where']} {each['code']}: {each['example']}" for each in self.errors]
        lines += self.notes
        if self.path is not None:
            lines.append(f"No Penstock is running here; everything is in {self.path}.")
        return "\n".join(lines)


def evaluate(
    target: Target,
    cases: Cases,
    scorers: Sequence[ScorerLike] = (),
    *,
    name: str | None = None,
    repeats: int = 1,
    concurrency: int = 8,
    limit: int | None = None,
    slices: Sequence[str] = (),
    tags: Sequence[str] = (),
    budget: Mapping[str, Any] | None = None,
    home: Path | str | None = None,
    tell: Callable[[float | None, str], None] | None = None,
) -> EvaluationReport:
    """Ask `target` every case, score every answer, and return figures with intervals.

    `target` is a function (called with the case if its parameter is named `case`, else with its input), the name of a model,
    or an object as `target` in an evaluation file. `cases` is a file, `dataset:NAME@3`, or objects with `input` and
    `expected`. `scorers` are names, objects with `scorer` and `parameters`, or functions. A function that raises is an
    error of that case and ends nothing; `preflight` stops a run whose first cases all fail. Raises `PreflightFailed`,
    `InvalidInput`, and what reading cases raises.
    """
    given: dict[str, Any] = {
        "repeats": repeats,
        "concurrency": concurrency,
        "limit": limit,
        "slices": list(slices),
        "tags": list(tags),
        "budget": dict(budget or {}),
    }
    function = target if callable(target) else None
    label = getattr(function, "__qualname__", None) or str(target)
    if function is not None:
        given["target"] = {"name": label, "python": f"{getattr(function, '__module__', '')}:{label}"}
    elif isinstance(target, str):
        given["target"] = {"model": target}
    elif isinstance(target, Mapping):
        given["target"] = dict(target)
    else:
        raise InvalidInput(
            f"{target!r} is no target.", hint="Give a function, the name of a model, or an object."
        )
    listed: list[Case] | None = None
    if isinstance(cases, str | Path):
        is_ref = str(cases).startswith("dataset:")
        given["dataset" if is_ref else "file"] = (
            str(cases) if is_ref else str(Path(cases).expanduser().resolve())
        )
    else:
        listed = [to_case(number, each) for number, each in enumerate(cases)]
    named = [each for each in scorers if isinstance(each, str | Mapping | ScorerSpec)]
    made = [_scorer_of(each) for each in scorers if not isinstance(each, str | Mapping | ScorerSpec)]
    given["scorers"] = [msgspec.to_builtins(each) if isinstance(each, ScorerSpec) else each for each in named]
    given["name"] = name or label
    spec: EvaluationSpec = convert_spec(resolve_paths(given, Path.cwd()), EvaluationSpec, "evaluate")
    root = Path(home or os.environ.get("PENSTOCK_HOME") or DEFAULT_ROOT).expanduser().absolute()
    result = run_local(
        spec,
        home=Home(root=root) if root.exists() else None,
        tell=tell or (lambda _share, _text: None),
        function=function,
        cases=listed,
        scorers=made,
    )
    return read_report(result)


def to_case(number: int, value: Case | Mapping[str, Any]) -> Case:
    """Return a case from an object: its own fields, `input` for a single text, any other key as metadata."""
    if isinstance(value, Case):
        return value
    given = dict(value)
    fields = {key: given.pop(key) for key in list(given) if key in _KNOWN}
    if "input" in given:
        fields["inputs"] = {"input": given.pop("input"), **fields.get("inputs", {})}
    fields.setdefault("id", str(number))
    fields["metadata"] = {**given, **fields.get("metadata", {})}
    try:
        return msgspec.convert(fields, Case, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"cases.{number}: {error}.", where=f"cases.{number}") from error


def read_report(result: LocalResult) -> EvaluationReport:
    """Return a run's result as a program reads it."""
    figures = result.figures

    def estimates(name: str) -> tuple[Estimate, ...]:
        return tuple(msgspec.convert(each, Estimate, strict=False) for each in figures.get(name, ()))

    return EvaluationReport(
        id=result.record["id"],
        state=result.record["state"],
        reason=result.record.get("reason"),
        estimates=estimates("estimates"),
        slices=estimates("slices"),
        errors=tuple(figures.get("errors", ())),
        notes=tuple(figures.get("notes", ())),
        path=result.path,
        record=result.record,
    )


def _scorer_of(value: Any) -> Scorer:
    if isinstance(value, Scorer):
        return value
    if not callable(value):
        raise InvalidInput(f"{value!r} is no scorer.", hint="Give a name, an object, or a function.")
    name = getattr(value, "__name__", type(value).__name__)
    module = getattr(value, "__module__", "") or "function"
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):  # typed into a shell: nothing tells two of them apart but the name
        text = name
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return PythonScorer(
        f"{module}:{name}", {}, "" if name.isidentifier() else "function", loaded=(value, digest)
    )


def _line(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"{estimate.name}: no case has a score"
    unit = f" {estimate.unit}" if estimate.unit else ""
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f" ({estimate.level * 100:g} % interval {estimate.low:.4g} to {estimate.high:.4g})"
    return f"{estimate.name}: {estimate.value:.4g}{unit}{interval}, {estimate.n} of {estimate.n_cases} cases"
