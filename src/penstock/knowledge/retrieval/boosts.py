"""How much newer and more trusted documents rise. Pure; what a document does not tell counts as the middle."""

import math

from penstock.knowledge.index.types import IndexDocument
from penstock.spec.knowledge import SearchRecipe

NS_PER_DAY = 86_400 * 10**9
AUTHORITY = "authority"
UNKNOWN = 0.5


def measure_freshness(document: IndexDocument, *, now_ns: int, half_life_days: float) -> float:
    """Return 1 for what changed now, a half for each half-life of age; unknown age counts as one half-life.

    A change in the future (a wrong clock at the source) counts as now.
    """
    modified_ns = document.properties.modified_ns
    if modified_ns is None or half_life_days <= 0:
        return UNKNOWN
    age_days = max(0, now_ns - modified_ns) / NS_PER_DAY
    return float(0.5 ** min(age_days / half_life_days, 1000.0))


def measure_authority(document: IndexDocument) -> float:
    """Return the property `authority` held between 0 and 1; a half when it is no number."""
    value = document.properties.values.get(AUTHORITY)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return UNKNOWN
    return min(1.0, max(0.0, float(value)))


def mix_boosts(score: float, freshness: float | None, authority: float | None, recipe: SearchRecipe) -> float:
    """Return the score with its parts by weight. Weights that exceed 1 together are scaled down to 1."""
    fresh = recipe.freshness_weight if freshness is not None else 0.0
    trust = recipe.authority_weight if authority is not None else 0.0
    total = max(1.0, fresh + trust)
    fresh, trust = fresh / total, trust / total
    return (1.0 - fresh - trust) * score + fresh * (freshness or 0.0) + trust * (authority or 0.0)
