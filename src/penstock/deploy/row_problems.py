"""One thing that is wrong in a row: which row, which of its fields, and what."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

RowKind = Literal["provider", "route", "key", "limit", "price", "secret", "limits"]


@dataclass(frozen=True, kw_only=True)
class RowProblem:
    """What is wrong, in words that stand alone behind the row's name."""

    kind: RowKind
    name: str
    field: str | None = None
    """The field that a person would change, such as `fallbacks`; None when it is the row as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.message}" if self.name else f"{self.kind}: {self.message}"


Found = tuple[str | None, str]
"""Field and message of a problem, before it is known whose it is."""


_MAX_DIGITS = 30
_LEAST_PLACE, _GREATEST_PLACE = -12, 15


def is_writable(number: Decimal) -> bool:
    """Return whether a finite number can be written out: 30 digits at most, the first between 10^15 and 10^-12.

    An exponent is a few characters that stand for any number of digits; numbers are stored, shown and compared with
    their digits written out.
    """
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or len(digits) > _MAX_DIGITS:
        return False
    return exponent <= _GREATEST_PLACE and _LEAST_PLACE <= number.adjusted() <= _GREATEST_PLACE


def is_header_text(text: str, *, longest: int) -> bool:
    """Return whether `text` can stand in a header: 1 to `longest` printable ASCII characters."""
    return 1 <= len(text) <= longest and text.isascii() and text.isprintable()


def not_over_zero(row: Any, *fields: str) -> Iterator[Found]:
    """Yield the fields that are set and no finite number over 0."""
    for field in fields:
        value = getattr(row, field)
        if value is not None and (not math.isfinite(value) or value <= 0):
            yield field, f"{field} must be over 0, not {value}"


def not_a_share(row: Any, *fields: str) -> Iterator[Found]:
    """Yield the fields that are no number between 0 and 1."""
    for field in fields:
        value = getattr(row, field)
        if not 0 <= value <= 1:
            yield field, f"{field} must be between 0 and 1, not {value}"
