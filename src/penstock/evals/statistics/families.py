"""Several looks at once: p-values corrected over the family that was looked at.

Sources: Holm, Scandinavian Journal of Statistics 6 (1979); Benjamini and Hochberg, JRSS B 57 (1995).
"""

from collections.abc import Sequence
from typing import Literal

Correction = Literal["holm", "bh"]


def adjust(p_values: Sequence[float | None], method: Correction = "holm") -> list[float | None]:
    """Return the adjusted p-values, in the given order; None stays None and counts for nothing.

    `holm` bounds the chance of any false alarm, `bh` (Benjamini and Hochberg) the expected share of false alarms.
    """
    known = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    m = len(known)
    if method == "holm":
        running = 0.0
        for rank, (p, position) in enumerate(known):
            running = max(running, min(1.0, (m - rank) * p))
            adjusted[position] = running
    else:
        running = 1.0
        for rank, (p, position) in reversed(list(enumerate(known))):
            running = min(running, m * p / (rank + 1))
            adjusted[position] = running
    return adjusted


def simultaneous_level(level: float, n_intervals: int) -> float:
    """Return the level that each of `n_intervals` needs for all of them to hold at once with `level` (Bonferroni)."""
    return 1.0 - (1.0 - level) / max(1, n_intervals)
