"""Looking as often as one likes: intervals that hold at every look at once, and a rule to stop a run by.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024): the capital of a bettor
against "the mean is m" rarely grows if it is (Ville's inequality), so every m against which it passed 2 / (1 − level) is out.
Values must be independent and come in an order that has nothing to do with them: the planned (shuffled) order of cases,
not that of their completion, where quick answers come first.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from penstock.evals.statistics.types import Interval, ScoredCase

_GRID = 2_000
_BOLDNESS = 0.5
"""Share of the capital that a bet may lose at most."""


class _Bettor:
    """The next stake, from the values before it alone."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self.n = 0
        self.total = 0.0
        self._squares = 0.0

    def stake(self) -> float:
        t = self.n + 1
        variance = (0.25 + self._squares) / t
        return math.sqrt(2.0 * math.log(2.0 / self._alpha) / (variance * t * math.log(t + 1.0)))

    def see(self, value: float) -> None:
        self.n += 1
        self.total += value
        mean = (0.5 + self.total) / (self.n + 1)
        self._squares += (value - mean) ** 2


class ConfidenceSequence:
    """The mean of independent values within [low, high]; its interval is valid after any value, whenever one looks."""

    def __init__(self, *, low: float = 0.0, high: float = 1.0, level: float = 0.95) -> None:
        _check(low, high, level)
        self._low, self._width, self._level = low, high - low, level
        self._bettor = _Bettor(1.0 - level)
        self._means = (np.arange(_GRID) + 0.5) / _GRID
        self._up = np.zeros(_GRID)
        self._down = np.zeros(_GRID)
        self._first, self._last = 0, _GRID - 1
        self._is_empty = False

    def update(self, values: Iterable[float]) -> None:
        """Take further values, in the order in which they came; raises `ValueError` for one out of bounds."""
        limit = math.log(2.0 / (1.0 - self._level))
        for value in values:
            x = _scale(value, self._low, self._width)
            stake = self._bettor.stake()
            gain = x - self._means
            self._up += np.log1p(np.minimum(stake, _BOLDNESS / self._means) * gain)
            self._down += np.log1p(-np.minimum(stake, _BOLDNESS / (1.0 - self._means)) * gain)
            self._bettor.see(x)
            inside = np.flatnonzero(np.maximum(self._up, self._down) < limit)
            inside = inside[(inside >= self._first) & (inside <= self._last)]
            if len(inside):
                self._first, self._last = int(inside[0]), int(inside[-1])
            else:
                self._is_empty = True

    def interval(self) -> Interval:
        """Return the interval after all values so far; never wider than an earlier one."""
        n = self._bettor.n
        # a whole cell beyond the last mean that is in: the true edge lies between two means of the grid
        low = max(0.0, (self._first - 0.5) / _GRID)
        high = min(1.0, (self._last + 1.5) / _GRID)
        value = self._low + self._width * self._bettor.total / n if n else None
        method = "confidence sequence by betting"
        if value is None:
            return Interval(value=None, low=None, high=None, level=self._level, method="no case has a score")
        bounds = (self._low + self._width * low, self._low + self._width * high)
        if self._is_empty:
            method += "; values drift: no mean fits them all"
        return Interval(
            value=value, low=bounds[0], high=bounds[1], level=self._level, method=method, n=n, n_groups=None
        )


class StoppingRule:
    """Stops a run as soon as a threshold is decided: `-margin` for paired differences, a level for one mean.

    A group of cases is one value (their mean), taken when the whole group is there: `group_means` makes them.
    """

    def __init__(
        self, *, threshold: float, low: float, high: float, level: float = 0.95, minimum: int = 10
    ) -> None:
        _check(low, high, level)
        self._low, self._width, self._minimum = low, high - low, minimum
        self._mean = (threshold - low) / self._width
        self._limit = math.log(2.0 / (1.0 - level))
        self._bettor = _Bettor(1.0 - level)
        self._up = self._down = 0.0
        self._decided: Literal["above", "below"] | None = None

    @property
    def n(self) -> int:
        """Values taken so far."""
        return self._bettor.n

    def update(self, values: Sequence[float]) -> Literal["above", "below"] | None:
        """Take further values; return on which side of the threshold the mean is, or None while nobody can tell.

        What is decided stays decided. A threshold outside the bounds is decided at once.
        """
        if self._mean <= 0.0 or self._mean >= 1.0:
            return self._outside()
        for value in values:
            x = _scale(value, self._low, self._width)
            stake = self._bettor.stake()
            gain = x - self._mean
            self._up += math.log1p(min(stake, _BOLDNESS / self._mean) * gain)
            self._down += math.log1p(-min(stake, _BOLDNESS / (1.0 - self._mean)) * gain)
            self._bettor.see(x)
            if self._decided is None and self._bettor.n >= self._minimum:
                if self._up >= self._limit:
                    self._decided = "above"
                elif self._down >= self._limit:
                    self._decided = "below"
        return self._decided

    def _outside(self) -> Literal["above", "below"] | None:
        if self._mean < 0.0:
            return "above"
        return "below" if self._mean > 1.0 else None


def group_means(cases: Sequence[ScoredCase]) -> list[float]:
    """Return one value for each group (a case without one is its own), in order of first appearance."""
    sums: dict[tuple[bool, str], list[float]] = {}
    for case in cases:
        finite = [value for value in case.values if math.isfinite(value)]
        if finite:
            key = (True, case.group) if case.group is not None else (False, case.case_id)
            sums.setdefault(key, []).append(math.fsum(finite) / len(finite))
    return [math.fsum(values) / len(values) for values in sums.values()]


def _check(low: float, high: float, level: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("a confidence sequence needs a score with two bounds")
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, such as 0.95; not {level}")


def _scale(value: float, low: float, width: float) -> float:
    x = (float(value) - low) / width
    if not -1e-9 <= x <= 1.0 + 1e-9:
        raise ValueError(f"{value} is out of the bounds {low} to {low + width}")
    return min(1.0, max(0.0, x))
