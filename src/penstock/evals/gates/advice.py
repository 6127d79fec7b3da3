"""The next cheapest thing that would decide an undecided look: more cases, more repeats, or another margin."""

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from penstock.evals.gates.figures_text import count_text, money_text
from penstock.evals.gates.looks import Weighed
from penstock.evals.statistics.distributions import normal_quantile
from penstock.evals.statistics.estimates import deviation_within
from penstock.evals.statistics.quantiles import values_needed
from penstock.evals.statistics.types import ScoredCase

POWER = 0.8
MAX_REPEATS = 30
HOPELESS = 50
"""Times as many cases as there are: nobody will run that."""


def advise(look: Weighed, *, cost_per_output: Decimal | None, corrected: float | None = None) -> str:
    """Return one sentence: what to do next, about how much of it, and what that costs.

    `corrected` is the p-value after correction where that alone keeps the look from failing.
    """
    interval = look.interval
    if interval.value is None:
        return ""
    if interval.low is None or interval.high is None:
        return _without_interval(look, cost_per_output)
    if corrected is not None:
        return (
            "It would fail by itself, but not as one of so many looks: more cases, or fewer rules and slices."
        )
    gap = abs(interval.value - look.threshold)
    half = max(interval.high - interval.value, interval.value - interval.low)
    z = normal_quantile(0.5 + look.level / 2.0)
    # to show a difference of this size with 80 % power the half width must come down to this
    wanted = gap * z / (z + normal_quantile(POWER))
    n = max(2, interval.n_groups or interval.n)
    factor = (half / wanted) ** 2 if wanted > 0.0 else math.inf
    if factor > HOPELESS:
        return (
            "The figure lies so near the bound that no reasonable number of cases decides it: "
            "allow a wider margin, or take it as equal."
        )
    n_cases = max(1, interval.n or n)
    extra = max(1, math.ceil(n_cases * (factor - 1.0)))
    sides = 2 if look.is_difference else 1
    what = "groups" if interval.n_groups and interval.n_groups < interval.n else None
    told = f" in about {math.ceil(n * (factor - 1.0)):,} more {what}" if what else ""
    price = _price(extra * sides * _repeats(look), cost_per_output)
    more = count_text(_rounded(extra), "more case")
    return (
        f"About {more}{told}{price}{_repeats_instead(look, factor)} would decide a difference of this size."
    )


def _without_interval(look: Weighed, cost_per_output: Decimal | None) -> str:
    share = look.rule.quantile
    n = look.interval.n_groups or look.interval.n
    needed = values_needed(share, look.level) if share is not None else 2
    if n < needed:
        extra = needed - n
        return f"At least {needed} cases bound it at all: {extra:,} more{_price(extra, cost_per_output)}."
    return "More cases, of more than one group and not all the same, are needed for an interval."


def _repeats_instead(look: Weighed, factor: float) -> str:
    """How many repeats of the same cases would do, for whoever has no more cases.

    More cases are never dearer: they average out what differs between cases and within them, repeats only the second.
    """
    now = _repeats(look)
    if now < 2 or look.rule.statistic != "mean":
        return ""
    within = 0.0
    for side in (look.cases, look.baseline_cases):
        deviation = deviation_within(side)
        if deviation is not None:
            within += deviation**2 / now
    total = _variance(look)
    within = min(within, total)
    allowed = total / factor
    between = total - within
    if within <= 0.0 or between >= allowed:
        return ""
    wanted = math.ceil(now * within / (allowed - between))
    return f", or repeats = {wanted} of the same cases," if now < wanted <= MAX_REPEATS else ""


def _variance(look: Weighed) -> float:
    means = _means(look.cases)
    if look.is_difference:
        means = means - _means(look.baseline_cases)
    return float(np.var(means, ddof=1)) if len(means) > 1 else 0.0


def _means(cases: Sequence[ScoredCase]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array([float(np.mean(case.values)) for case in cases if case.values])


def _repeats(look: Weighed) -> int:
    return max((len(case.values) for case in look.cases), default=1) or 1


def _rounded(n: int) -> int:
    """Two figures: nobody knows it better."""
    if n < 100:
        return n
    step = int(10 ** (len(str(n)) - 2))
    return math.ceil(n / step) * step


def _price(n_outputs: int, cost_per_output: Decimal | None) -> str:
    if not cost_per_output:
        return ""
    return f" (≈ {money_text(cost_per_output * n_outputs)})"
