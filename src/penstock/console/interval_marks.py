"""Values with their intervals as small drawings: numbers in, places in percent out.

A mark lies on an axis from 0 to 100. Estimates between 0 and 1 are drawn on the whole of that range, so that rows can be read against
each other, but parts of one figure on an axis just wide enough, whose ends are told; differences lie around zero in the middle, on one
scale for all rows of a table that have the same unit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.console.score_words import SHARE_UNITS, is_in_points
from penstock.spec.evaluations import Comparison, Estimate

N_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point with a line through it; places in percent of the axis."""

    at: float | None
    low: float | None
    high: float | None
    zero: float | None = None
    """Where no difference is; None where the axis is not about differences."""
    tone: str = "even"
    """`better`, `worse` or `even`; told in words beside it, too."""
    words: str = ""
    """What it shows, for who does not see it."""
    reference: float | None = None
    """A value that it is held against."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bar of a histogram."""

    x: float
    width: float
    height: float
    words: str
    href: str = ""


def scale_of_estimates(items: Iterable[Estimate]) -> tuple[float, float]:
    """Return the ends of an axis on which all of them lie: 0 and 1 for shares, else zero and the highest end."""
    known = [each for each in items if each.value is not None]
    ends = [end for each in known for end in (each.value, each.low, each.high) if end is not None]
    if all(is_share(each) for each in known) and all(0 <= end <= 1 for end in ends):
        return 0.0, 1.0
    low, high = min(0.0, *ends), max(0.0, *ends)
    return (low, high + 0.04 * (high - low)) if high > low else (low, low + 1.0)


def scale_of_parts(items: Iterable[Estimate]) -> tuple[float, float]:
    """Return the ends of an axis just wide enough for all of them: for rows that are one figure of several parts."""
    known = [each for each in items if each.value is not None]
    ends = [end for each in known for end in (each.value, each.low, each.high) if end is not None]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - room, high + room
    if all(is_share(each) for each in known) and all(0 <= end <= 1 for end in ends):
        low, high = max(0.0, low), min(1.0, high)
    return low, high


def is_share(item: Estimate) -> bool:
    """Whether its values lie between 0 and 1 by what they are."""
    return (
        item.scale == "binary" or item.unit in SHARE_UNITS or (item.scale == "bounded" and item.unit is None)
    )


def mark_estimate(
    item: Estimate, scale: tuple[float, float], words: str, *, reference: float | None = None
) -> Mark | None:
    """Return the mark of an estimate; None without a value."""
    if item.value is None:
        return None
    return Mark(
        at=place(item.value, scale),
        low=None if item.low is None else place(item.low, scale),
        high=None if item.high is None else place(item.high, scale),
        words=words,
        reference=None if reference is None else place(reference, scale),
    )


def reaches(items: Sequence[Comparison]) -> dict[str, float]:
    """Return for each unit how far from zero its differences reach; intervals that run away count up to thrice the rest."""
    found: dict[str, list[float]] = {}
    for each in items:
        ends = [abs(end) for end in (each.difference, each.low, each.high) if end is not None]
        if ends:
            found.setdefault(kind_of(each), []).append(max(ends))
    return {
        unit: min(max(ends), 3 * sorted(ends)[len(ends) // 2]) * 1.08 or 1.0 for unit, ends in found.items()
    }


def kind_of(item: Comparison) -> str:
    """Return what its differences are measured in; equal ones are drawn on one scale."""
    return "points" if is_in_points(item) else item.unit or item.name


def mark_difference(item: Comparison, reach: float, words: str) -> Mark | None:
    """Return the mark of a difference around zero; None where there is none."""
    if item.difference is None:
        return None
    scale = (-reach, reach)
    return Mark(
        at=place(item.difference, scale),
        low=None if item.low is None else place(item.low, scale),
        high=None if item.high is None else place(item.high, scale),
        zero=50.0,
        tone={"better": "better", "worse": "worse"}.get(item.word, "even"),
        words=words,
    )


def place(value: float, scale: tuple[float, float]) -> float:
    """Return where on the axis a value lies, in percent; what is beyond an end lies on it."""
    low, high = scale
    return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)


def count_bins(values: Sequence[float], scale: tuple[float, float], *, n_bins: int = N_BINS) -> list[int]:
    """Return how many values lie in each of `n_bins` equal parts of the axis, both ends included."""
    counts = [0] * n_bins
    low, high = scale
    for value in values:
        at = int(n_bins * (value - low) / (high - low)) if high > low else 0
        counts[min(n_bins - 1, max(0, at))] += 1
    return counts
