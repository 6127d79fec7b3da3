"""Whether a document meets a condition. Pure: a document's properties in, a truth value out.

What a document does not have is unequal to everything and neither less nor greater than anything. A date stands for
its whole period: `> 2026-01-01` begins on the day after, `= 2026-01` is all of January. Times are UTC.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from penstock.knowledge.index.types import IndexDocument
from penstock.spec.knowledge import Condition

BUILT_IN = ("source", "path", "title", "media_type", "language", "modified", "added", "url")
TIMES = frozenset({"modified", "added"})
_DATE = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(Z|[+-]\d{2}:\d{2})?)?)?)?"
)
_NS = 10**9
Period = tuple[int, int]
"""First nanosecond and the first one after it."""


def read_field(document: IndexDocument, field: str) -> Any:
    """Return a built-in field or a property; None when the document does not have it."""
    properties = document.properties
    match field:
        case "source" | "path" | "title" | "media_type":
            return getattr(document, field)
        case "language" | "url":
            return getattr(properties, field)
        case "modified":
            return properties.modified_ns
        case "added":
            return document.added_ns or None
    return properties.values.get(field)


def meets(document: IndexDocument, condition: Condition) -> bool:
    """Return whether the document meets the condition."""
    return compile_condition(condition)(document)


def compile_condition(condition: Condition) -> Callable[[IndexDocument], bool]:
    """Return a test for many documents; what is the same for all is done once."""
    if condition.op in ("all_of", "any_of", "none_of"):
        parts = [compile_condition(part) for part in condition.parts]
        if condition.op == "all_of":
            return lambda document: all(part(document) for part in parts)
        is_any = condition.op == "any_of"
        return lambda document: any(part(document) for part in parts) == is_any
    field = condition.field
    test = _compile_value(condition)
    return lambda document: test(read_field(document, field))


def list_fields(conditions: Sequence[Condition]) -> Iterator[str]:
    """Yield every field that is asked about."""
    for condition in conditions:
        if condition.field:
            yield condition.field
        yield from list_fields(condition.parts)


def read_period(value: Any) -> Period | None:
    """Return the period that a date (`2026`, `2026-01`, `2026-01-31`, `2026-01-31T10:00`) or a number of seconds
    since 1970 stands for; None for anything else. Larger numbers count as milliseconds and nanoseconds."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        scale = _NS if abs(value) < 1e11 else 10**6 if abs(value) < 1e14 else 1
        start = int(value * scale)
        return start, start + scale
    if not isinstance(value, str) or (match := _DATE.fullmatch(value.strip())) is None:
        return None
    year, month, day, time, zone = match.groups()
    try:
        start_day = dt.date(int(year), int(month or 1), int(day or 1))
        if time is not None:
            moment = dt.datetime.fromisoformat(
                f"{year}-{month}-{day}T{time}{(zone or 'Z').replace('Z', '+00:00')}"
            )
            start = int(moment.timestamp()) * _NS
            return start, start + (60 if time.count(":") == 1 else 1) * _NS
        end_day = _next(start_day, has_month=month is not None, has_day=day is not None)
    except (ValueError, OverflowError):
        return None
    return _midnight(start_day), _midnight(end_day)


def _next(day: dt.date, *, has_month: bool, has_day: bool) -> dt.date:
    if has_day:
        return day + dt.timedelta(days=1)
    if has_month:
        return dt.date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return dt.date(day.year + 1, 1, 1)


def _midnight(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()) * _NS


def _compile_value(condition: Condition) -> Callable[[Any], bool]:
    wanted, is_time = condition.value, condition.field in TIMES
    match condition.op:
        case "is" | "any":
            return _Wanted(_as_list(wanted) if condition.op == "any" else [wanted], is_time=is_time).holds
        case "not" | "none":
            refused = _Wanted(_as_list(wanted) if condition.op == "none" else [wanted], is_time=is_time)
            return lambda value: not refused.holds(value)
        case "exists":
            return lambda value: (value is not None and value not in ("", [])) == (wanted is not False)
        case "prefix":
            start = str(wanted).casefold()
            return lambda value: any(str(each).casefold().startswith(start) for each in _as_list(value))
        case "lt" | "lte" | "gt" | "gte" as op:
            compare = _compile_order(op, wanted, is_time=is_time)
            return lambda value: any(compare(each) for each in _as_list(value))
    raise ValueError(f"unknown operation {condition.op!r}")


def _as_list(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple | set | frozenset) else [value]  # type: ignore[return-value]


class _Wanted:
    """Values of which one is to be met, read once for many documents."""

    def __init__(self, wanted: Sequence[Any], *, is_time: bool) -> None:
        texts = [each for each in wanted if isinstance(each, str)]
        self._is_time = is_time
        self._periods = [
            period for each in (wanted if is_time else texts) if (period := read_period(each)) is not None
        ]
        self._texts = frozenset(each.casefold() for each in texts)
        self._truths = frozenset(each for each in wanted if isinstance(each, bool))
        self._told_truths = self._truths | {_truth(each) for each in texts} - {None}
        self._numbers = frozenset(
            each for each in wanted if isinstance(each, int | float) and not isinstance(each, bool)
        )
        self._told_numbers = self._numbers | {_number(each) for each in texts} - {None}

    def holds(self, value: Any) -> bool:
        """Return whether the value, or one of a list of values, is wanted."""
        return any(map(self._meets, _as_list(value)))

    def _meets(self, value: Any) -> bool:
        if self._is_time:
            return any(start <= value < end for start, end in self._periods)
        if isinstance(value, bool):
            return value in self._told_truths
        if not isinstance(value, str):
            return value in self._told_numbers
        if value.casefold() in self._texts:
            return True
        if self._truths and _truth(value) in self._truths:
            return True
        if self._numbers and _number(value) in self._numbers:
            return True
        # one date lies within another one's period, as `2026-02-10` does within `2026-02`
        own = read_period(value) if self._periods else None
        return own is not None and any(start <= own[0] and own[1] <= end for start, end in self._periods)


def _compile_order(op: str, wanted: Any, *, is_time: bool) -> Callable[[Any], bool]:
    period, number = read_period(wanted), _number(wanted)
    bound = wanted.casefold() if isinstance(wanted, str) else None

    def compare(value: Any) -> bool:
        if is_time:
            return period is not None and _in_order((value, value + 1), op, period)
        if number is not None and (left := _number(value)) is not None:
            return _in_order((left, left), op, (number, number))
        if bound is None or not isinstance(value, str):
            return False
        if period is not None and (own := read_period(value)) is not None:
            return _in_order(own, op, period)
        text = value.casefold()
        return _in_order((text, text), op, (bound, bound))

    return compare


def _in_order(own: tuple[Any, Any], op: str, other: tuple[Any, Any]) -> bool:
    """Compare spans by where they begin; a point is a span whose two ends are equal."""
    start, (low, high) = own[0], other
    if low == high:
        return bool({"lt": start < low, "lte": start <= low, "gt": start > low, "gte": start >= low}[op])
    return bool({"lt": start < low, "lte": start < high, "gt": start >= high, "gte": start >= low}[op])


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.casefold())
    return None
