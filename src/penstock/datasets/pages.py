"""Where a page of rows or changes begins, and how much one holds."""

from penstock.base.errors import InvalidInput

MAX_PAGE_BYTES = 16 * 1024 * 1024
"""A page ends with the row that brings it over this, however many rows were asked for."""
_MAX_DIGITS = 18


def read_cursor(cursor: str | None) -> int:
    """Return the place that a cursor of ours names, the first without one; raise `InvalidInput` for another."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= _MAX_DIGITS):
        raise InvalidInput(
            "The cursor is none of ours.", hint="Leave it out to begin at the start.", param="cursor"
        )
    return int(cursor)
