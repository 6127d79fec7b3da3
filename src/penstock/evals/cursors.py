"""Where a page of what evaluations keep went on: the time and the id of its last row, newest first."""

from penstock.base.errors import InvalidInput

MAX_DIGITS = 19
"""Of nanoseconds that the control tables can hold."""


def read_cursor(cursor: str | None, what: str) -> tuple[int, str] | None:
    """Return time and id of `TIME.ID`, None for the first page; raise `InvalidInput` for what is no cursor of `what`."""
    if cursor is None:
        return None
    time, _, last_id = cursor.partition(".")
    if not time.isascii() or not time.isdigit() or len(time) > MAX_DIGITS or not last_id:
        raise InvalidInput(f"This is no cursor of {what}.", where="cursor")
    return int(time), last_id
