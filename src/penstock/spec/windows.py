"""The windows of limits, by the clock in UTC, and the names of their counters. Arithmetic only."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from penstock.spec.limits import LimitUnit, LimitWindow

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_MAX_NAME_BYTES = 400
_BETWEEN = "\x1f"


class Window(NamedTuple):
    """From `start_s` on and before `end_s`, Unix seconds."""

    start_s: int
    end_s: int


class CounterName(NamedTuple):
    """What a counter counts. `subject` is the key id, user, project, route or model; empty for the scope `all`."""

    rule: str
    unit: str
    window: str
    subject: str


def find_window(window: LimitWindow, now_s: float) -> Window:
    """Return the window of that kind that holds the moment `now_s`."""
    now = int(now_s // 1)
    if window == "minute":
        start = now - now % _MINUTE
        return Window(start, start + _MINUTE)
    if window == "hour":
        start = now - now % _HOUR
        return Window(start, start + _HOUR)
    start = now - now % _DAY
    if window == "day":
        return Window(start, start + _DAY)
    today = datetime.fromtimestamp(start, tz=UTC).date()
    if window == "week":
        monday = today - timedelta(days=today.weekday())
        return Window(_midnight(monday), _midnight(monday + timedelta(days=7)))
    first = today.replace(day=1)
    return Window(_midnight(first), _midnight((first + timedelta(days=32)).replace(day=1)))


def write_counter_name(name: CounterName) -> str:
    """Return the text a counter is stored under: readable, and of at most 400 bytes whatever a client calls itself."""
    text = _BETWEEN.join(name)
    if len(text.encode()) <= _MAX_NAME_BYTES:
        return text
    digest = sha256(text.encode()).hexdigest()
    return _BETWEEN.join((name.rule[:40], name.unit, name.window, f"{name.subject[:20]}…{digest}"))


def read_counter_name(text: str) -> CounterName | None:
    """Return what `write_counter_name` wrote (a long subject shortened), or None for the name of another thing."""
    parts = text.split(_BETWEEN)
    return CounterName(*parts) if len(parts) == 4 else None


def name_counter(rule: str, unit: LimitUnit, window: LimitWindow, subject: str) -> str:
    """Return the counter's text for one rule and one subject."""
    return write_counter_name(
        CounterName(rule.replace(_BETWEEN, " "), unit, window, subject.replace(_BETWEEN, " "))
    )


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
