"""Several looks at once: p-values corrected over the family that was looked at."""

from collections.abc import Sequence
from typing import Literal

Correction = Literal["holm", "bh"]


def adjust(p_values: Sequence[float | None], method: Correction = "holm") -> list[float | None]:
    """Return the adjusted p-values, in the given order; None stays None and counts for nothing.

    `holm` bounds the chance of any false alarm, `bh` (Benjamini and Hochberg) the expected share of false alarms.
    """
    raise NotImplementedError
