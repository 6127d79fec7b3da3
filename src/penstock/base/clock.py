"""Time as a parameter, so that tests and replays hold it in their hands."""

import time
from datetime import UTC, datetime


def now_ns() -> int:
    """Return wall-clock nanoseconds since the epoch."""
    return time.time_ns()


def iso_from_ns(stamp_ns: int) -> str:
    """Return an RFC 3339 timestamp in UTC with microseconds."""
    return (
        datetime.fromtimestamp(stamp_ns / 1e9, tz=UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )
