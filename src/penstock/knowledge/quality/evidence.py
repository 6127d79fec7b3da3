"""Stored comparisons as evidence for a switch.

Documents come and go between a comparison and a switch, and each change makes other generations of both tracks. So a comparison
also holds for generations of the same recipes and embedders, for a while.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.digest import digest_json, short_digest
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.errors import SwitchUnproven, UnknownComparison
from penstock.knowledge.quality.types import GenerationComparison

MAX_AGE_DAYS = 7
"""How long a comparison of the same recipes over other documents counts."""
_DAY_NS = 86_400 * 10**9


def recipe_digest(recipe: Mapping[str, Any], embedder: str) -> str:
    """Return what stays of a generation while documents come and go: twelve characters over recipe and embedder."""
    return short_digest(digest_json({"recipe": dict(recipe), "embedder": embedder}))


def make_evidence(made: GenerationComparison) -> dict[str, Any]:
    """Return what a switch keeps of a comparison: enough to read it without the store, and its id to check it by."""
    return {
        "comparison": made.id,
        "verdict": made.verdict,
        "baseline": made.baseline,
        "candidate": made.candidate,
        "sentences": made.sentences,
        "questions": made.questions,
        "measurements": made.measurements,
    }


class ComparisonEvidence:
    """Reads stored comparisons. May be called from any thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._clock = clock

    def get(self, comparison_id: str) -> GenerationComparison:
        """Return a comparison; raise `UnknownComparison`."""
        with self._engine.connect() as connection:
            found = queries.find_comparison(connection, comparison_id.strip())
        if found is None:
            raise UnknownComparison(
                f"No comparison has the id {comparison_id!r}.",
                hint="penstock knowledge compare NAME --list shows them.",
            )
        return found

    def check(
        self, base: str, *, live: str | None, candidate: str, evidence: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what to keep with the switch from generation `live` to `candidate`.

        `evidence` names a stored comparison (`{"comparison": ID}`); what else it says of itself counts for nothing.
        Raises `SwitchUnproven` unless that passed and was of these two.
        """
        named = evidence.get("comparison")
        if not isinstance(named, str) or not named:
            raise SwitchUnproven(
                f"nothing shows that the candidate of {base!r} is no worse than what is live.",
                hint=f"Run penstock knowledge compare {base} TRACK, then switch with --evidence ID; or give an override "
                "reason, which is recorded.",
            )
        try:
            made = self.get(named)
        except UnknownComparison as error:
            raise SwitchUnproven(f"the comparison {named!r} is not stored here.", hint=error.hint) from error
        if made.base != base or made.verdict != "pass":
            told = (
                f"is of {made.base!r}"
                if made.base != base
                else f"did not pass: {made.verdict}. {made.reason}"
            )
            raise SwitchUnproven(
                f"comparison {made.id} {told}",
                hint="Switch on a passing comparison, or give an override reason, which is recorded.",
                comparison=made.id,
            )
        notes = [
            note
            for side in (
                _Side(name="what is live", now=live, then=made.baseline, recipe=made.baseline_recipe),
                _Side(name="the candidate", now=candidate, then=made.candidate, recipe=made.candidate_recipe),
            )
            if (note := self._check_side(made, side))
        ]
        return {**make_evidence(made), **({"notes": notes} if notes else {})}

    def _check_side(self, made: GenerationComparison, side: "_Side") -> str | None:
        if side.now == side.then:
            return None
        with self._engine.connect() as connection:
            row = None if side.now is None else queries.find_generation(connection, made.base, side.now)
        age_days = (self._clock() - made.made_ns) / _DAY_NS
        is_same = row is not None and recipe_digest(row.recipe, row.embedder) == side.recipe
        if is_same and age_days <= MAX_AGE_DAYS:
            return f"documents changed since: {side.name} was {side.then}, is {side.now} by the same recipe"
        why = (
            f"it is {age_days:.1f} days old, over the {MAX_AGE_DAYS} that a comparison of other documents counts"
            if is_same
            else "its recipe or embedder is another"
        )
        raise SwitchUnproven(
            f"comparison {made.id} is not of {side.name} ({side.now}): {why}.",
            hint=f"Compare again: penstock knowledge compare {made.base} TRACK.",
            comparison=made.id,
        )


@dataclass(frozen=True, kw_only=True)
class _Side:
    name: str
    now: str | None
    then: str
    recipe: str
