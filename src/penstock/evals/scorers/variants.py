"""Turns of a scorer that every scorer takes: `threshold` (1 on the good side of it, 0 beyond) and `not` (1 − value).

Both are parameters beside the scorer's own and part of its stamp. A figure that is no mean is lost under them: what remains is
the share of outputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.types import Figure, Preparable, Scorer, ScorerInfo, ScorerTools
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score


class Variant:
    """A scorer seen through a threshold, a negation, or both, in this order."""

    def __init__(self, scorer: Scorer, *, threshold: float | None, is_negated: bool) -> None:
        info = scorer.info
        changes: dict[str, Any] = {"parameters": dict(info.parameters)}
        if threshold is not None:
            changes |= {"direction": "higher", "scale": "binary", "low": 0.0, "high": 1.0, "unit": None}
            changes["parameters"]["threshold"] = threshold
        elif info.low != 0.0 or info.high != 1.0:
            raise BadScorerParameters(
                info.name, "`not` needs a value between 0 and 1; give a `threshold` too"
            )
        if is_negated:
            direction = {"higher": "lower", "lower": "higher", "none": "none"}[info.direction]
            # without a threshold, "not contains" is a wish: what was asked for is better
            changes["direction"] = (
                "higher" if info.direction != "none" or threshold is not None else direction
            )
            changes["parameters"]["not"] = True
        self._scorer, self._threshold, self._is_negated = scorer, threshold, is_negated
        self._info: ScorerInfo = replace(info, **changes)

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._scorer.name

    @property
    def figure(self) -> Figure | None:
        """The mean."""
        return None

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return the turned scores; what is undefined or failed stays so."""
        return [self._turn(score) for score in await self._scorer.score(case, outputs, tools)]

    def _turn(self, score: Score) -> Score:
        value = score.value
        evidence = dict(score.evidence)
        if value is not None:
            if self._threshold is not None:
                evidence["before_threshold"] = value
                is_lower_better = self._scorer.info.direction == "lower"
                value = float(value <= self._threshold if is_lower_better else value >= self._threshold)
            if self._is_negated:
                value = 1.0 - value
        return msgspec.structs.replace(
            score, value=value, scorer=self._info.stamp, statistics=[], evidence=evidence
        )


class PreparableVariant(Variant):
    """A variant of a scorer that must see all cases first."""

    def __init__(
        self, scorer: Scorer, inner: Preparable, *, threshold: float | None, is_negated: bool
    ) -> None:
        super().__init__(scorer, threshold=threshold, is_negated=is_negated)
        self._inner = inner

    def prepare(self, cases: Iterable[Case], outputs: Iterable[Output] = ()) -> Scorer:
        """Return the variant of the prepared scorer."""
        return vary(
            self._inner.prepare(cases, outputs), threshold=self._threshold, is_negated=self._is_negated
        )


def vary(scorer: Scorer, *, threshold: float | None, is_negated: bool) -> Scorer:
    """Return the scorer, seen through what is asked for."""
    if threshold is None and not is_negated:
        return scorer
    if isinstance(scorer, Preparable):
        return PreparableVariant(scorer, scorer, threshold=threshold, is_negated=is_negated)
    return Variant(scorer, threshold=threshold, is_negated=is_negated)


def take_turns(name: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], float | None, bool]:
    """Return the scorer's own parameters, the threshold, and whether it is negated; raise `BadScorerParameters`."""
    own = dict(parameters)
    threshold, is_negated = own.pop("threshold", None), own.pop("not", False)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | None):
        raise BadScorerParameters(name, "`threshold` is a number")
    if not isinstance(is_negated, bool):
        raise BadScorerParameters(name, "`not` is true or false")
    return own, None if threshold is None else float(threshold), is_negated
