"""The next cheapest thing that would decide an undecided look: more cases, more repeats, or another margin."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np

from penstock.base.distributions import normal_quantile
from penstock.evals.gates.figures_text import count_text, figure_text, money_text
from penstock.evals.gates.look_types import Weighed
from penstock.evals.statistics.estimates import bounds_of, deviation_within
from penstock.evals.statistics.quantiles import values_needed
from penstock.evals.statistics.types import IntervalAt, ScoredCase

POWER = 0.8
MAX_REPEATS = 30
MANY = 20
"""Times as many cases as there are: few will run that, so another bound is named as well."""


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
    n = max(2, interval.n_groups or interval.n)
    if look.grown is not None:
        # cases that are all alike have no spread to plan with: ask how many more alike would do
        factor, how = _times_alike(look.grown, look), " that come out like these"
    else:
        half = max(interval.high - interval.value, interval.value - interval.low)
        z = normal_quantile(0.5 + look.level / 2.0)
        # to show a difference of this size with 80 % power the half width must come down to this
        wanted = gap * z / (z + normal_quantile(POWER))
        factor, how = (half / wanted) ** 2 if wanted > 0.0 else math.inf, ""
    room = _room(look)
    if not math.isfinite(factor):
        equal = "The figure is the bound itself, and no number of cases tells equal things apart"
        return f"{equal}: {room}." if room else f"{equal}: allow a wider margin."
    n_cases = max(1, interval.n or n)
    extra = max(1, math.ceil(n_cases * (factor - 1.0)))
    sides = 2 if look.is_difference else 1
    what = "groups" if interval.n_groups and interval.n_groups < interval.n else None
    told = f" in about {_rounded(math.ceil(n * (factor - 1.0))):,} more {what}" if what else ""
    price = _price(extra * sides * _repeats(look), cost_per_output)
    more = count_text(_rounded(extra), "more case")
    size = "it" if how else "a difference of this size"
    instead = f"; {room}" if room and factor > MANY else ""
    repeats = "" if how else _repeats_instead(look, factor)
    return f"About {more}{told}{price}{how}{repeats} would decide {size}{instead}."


def _times_alike(grown: Callable[[float], IntervalAt], look: Weighed) -> float:
    """How many times as many cases, none different, have an interval on one side of the bound; inf for no number."""

    def is_decided(times: float) -> bool:
        return grown(times)(look.level).excludes(look.threshold)

    if look.interval.value == look.threshold:
        return math.inf
    high = 2.0
    while not is_decided(high):
        high *= 2.0
        if high > 1e7:
            return math.inf
    low = high / 2.0
    for _ in range(10):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_decided(middle) else (middle, high)
    return high


def _room(look: Weighed) -> str:
    """Which bound the cases that are there would pass; nothing where that is a share of the baseline."""
    interval = look.interval
    assert interval.low is not None
    assert interval.high is not None
    wants_more = look.rule.operator in {">=", ">"}
    edge = interval.low if wants_more else interval.high
    outward = math.floor if wants_more else math.ceil
    bounds = bounds_of(look.column)
    if look.is_difference and look.rule.bound.unit == "%":
        return ""
    if not look.is_difference:
        shown = outward(100.0 * edge) / 100.0 if bounds == (0.0, 1.0) else edge
        text = f"{look.rule.operator} {figure_text(shown, look.column)}"
    else:
        points = None if bounds is None else outward(1000.0 * edge / (bounds[1] - bounds[0])) / 10.0
        size = figure_text(abs(edge), look.column) if points is None else f"{abs(points):g} points"
        text = f"{look.rule.operator} baseline {'−' if edge < 0.0 else '+'} {size}"
    return f'"{text}" would pass with the cases that are there'


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
