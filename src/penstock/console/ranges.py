"""Time windows as they stand in URLs: `range=24h`, or exact nanoseconds from a chart."""

from dataclasses import dataclass
from datetime import UTC, datetime

HOUR_NS = 3600 * 1_000_000_000
RANGES: dict[str, tuple[str, int]] = {
    "1h": ("Last hour", HOUR_NS),
    "24h": ("Last 24 hours", 24 * HOUR_NS),
    "7d": ("Last 7 days", 7 * 24 * HOUR_NS),
    "30d": ("Last 30 days", 30 * 24 * HOUR_NS),
}


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a page looks at. `name` is the key of `RANGES`, or None for an exact window."""

    name: str | None
    label: str
    since_ns: int | None
    until_ns: int | None


def read_window(name: str, since_ns: int | None, until_ns: int | None, *, now_ns: int) -> Window:
    """Return the window that the URL names; anything unknown is the last 24 hours."""
    if since_ns is not None or until_ns is not None:
        return Window(name=None, label="Chosen window", since_ns=since_ns, until_ns=until_ns)
    if name == "all":
        return Window(name="all", label="All time", since_ns=None, until_ns=None)
    if name not in RANGES:
        name = "24h"
    label, length = RANGES[name]
    return Window(name=name, label=label, since_ns=now_ns - length, until_ns=now_ns)


def read_moment(text: str) -> int | None:
    """Return the moment that a form field names (`2026-11-20T08:00`, UTC), or None for anything else."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    moment = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    stamp_ns = round(moment.timestamp()) * 1_000_000_000
    return stamp_ns if 0 <= stamp_ns < 2**63 else None


def write_moment(stamp_ns: int | None) -> str:
    """Return a moment as a form field takes it, UTC; empty for None."""
    return (
        "" if stamp_ns is None else f"{datetime.fromtimestamp(stamp_ns // 10**9, tz=UTC):%Y-%m-%dT%H:%M:%S}"
    )
