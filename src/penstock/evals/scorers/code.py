"""Scorers that are code: a kind (name, parameters, what its numbers mean) and a function that judges one output.

The scorer of a kind is made from checked parameters; all of them, defaults too, are part of its stamp.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.reading import NoScore
from penstock.evals.scorers.types import (
    Figure,
    Need,
    Scorer,
    ScorerInfo,
    ScorerTools,
    make_error,
    make_score,
    score_unanswered,
)
from penstock.spec.cases import Case, Output, OutputStatus
from penstock.spec.evaluations import Direction, Scale
from penstock.spec.scores import Score


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What judging one output gave; a value of None is undefined, with the reason beside it."""

    value: float | None
    label: str | None = None
    reason: str | None = None
    statistics: Sequence[float] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


Judge = Callable[[Case, Output], Verdict]
"""Judges one output; raises `NoScore` where there is no number."""
P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True)
class ScorerKind(Generic[P]):
    """One built-in scorer, before it has parameters."""

    name: str
    summary: str
    parameters: type[P]
    """Its fields' docstrings and defaults are what people read."""
    build: Callable[[P], Judge]
    """Raises `ValueError` for parameters that cannot be."""
    group: str
    """Under which heading it stands in lists."""
    version: int = 1
    direction: Direction = "higher"
    scale: Scale = "bounded"
    low: float | None = 0.0
    high: float | None = 1.0
    unit: str | None = None
    undefined_when: str = ""
    needs: frozenset[Need] = frozenset()
    statuses: frozenset[OutputStatus] = frozenset({"ok"})
    """Which outputs it judges; others are errors of the target, or skipped."""
    figure: Callable[[P], Figure] | None = None
    adapt: Callable[[P], Mapping[str, Any]] | None = None
    """Facts of `ScorerInfo` that depend on the parameters."""
    make: "Callable[[ScorerKind[P], P, str], Scorer] | None" = None
    """For scorers that are more than a function of one output."""

    def describe(self, parameters: P) -> ScorerInfo:
        """Return what a scorer with these parameters says of itself."""
        info = ScorerInfo(
            name=self.name,
            version=self.version,
            parameters=msgspec.to_builtins(parameters),
            direction=self.direction,
            scale=self.scale,
            low=self.low,
            high=self.high,
            unit=self.unit,
            summary=self.summary,
            undefined_when=self.undefined_when,
            needs=self.needs,
            takes_errors=self.statuses != {"ok"},
        )
        changes = dict(self.adapt(parameters)) if self.adapt else {}
        if getattr(parameters, "expected", None) is not None:
            changes.setdefault("needs", self.needs - {"expected"})
        return replace(info, **changes)

    def read_parameters(self, given: Mapping[str, Any]) -> P:
        """Return checked parameters; raise `BadScorerParameters` that names the wrong one."""
        try:
            return msgspec.convert(dict(given), self.parameters)
        except msgspec.ValidationError as error:
            raise BadScorerParameters(self.name, str(error).replace("Object ", "").rstrip(".")) from error

    def create(self, given: Mapping[str, Any], name: str = "") -> Scorer:
        """Return the scorer; raise `BadScorerParameters`."""
        parameters = self.read_parameters(given)
        try:
            return (self.make or CodeScorer)(self, parameters, name or self.name)
        except ValueError as error:
            raise BadScorerParameters(self.name, str(error).rstrip(".")) from error


class CodeScorer(Generic[P]):
    """A scorer that is a function of one output."""

    def __init__(self, kind: ScorerKind[P], parameters: P, name: str) -> None:
        self._judge = kind.build(parameters)
        self._statuses = kind.statuses
        self._info = kind.describe(parameters)
        self._name = name
        self._figure = kind.figure(parameters) if kind.figure else None

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    @property
    def figure(self) -> Figure | None:
        """How the figure over many outputs is made; None: the mean."""
        return self._figure

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return one score an output."""
        _ = tools
        return [self.score_one(case, output) for output in outputs]

    def score_one(self, case: Case, output: Output) -> Score:
        """Return the score of one output; it is computed here and now, without any tool."""
        if output.status not in self._statuses:
            return score_unanswered(self, output)
        try:
            verdict = self._judge(case, output)
        except NoScore as reason:
            return make_score(self, None, reason=str(reason))
        except (RecursionError, OverflowError) as error:
            return make_error(
                self, f"{type(error).__name__}: {error}"
            )  # a content too deep or large for this scorer
        return make_score(
            self,
            verdict.value,
            label=verdict.label,
            reason=verdict.reason,
            statistics=verdict.statistics,
            evidence=verdict.evidence,
        )
