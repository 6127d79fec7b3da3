"""Dates as documents write them, to nanoseconds since 1970."""

from datetime import UTC, date, datetime, time

_ONE_SECOND_NS = 1_000_000_000


def read_date(value: object) -> int | None:
    """Return an ISO 8601 text, a date or a time as nanoseconds; None for anything else. No zone counts as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(), tzinfo=UTC)
    if not isinstance(value, datetime):
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        return int(aware.timestamp()) * _ONE_SECOND_NS
    except (OverflowError, ValueError):
        return None
