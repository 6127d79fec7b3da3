"""Values as people write them: durations, money, counts, moments, and back again."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_MS = {
    "ns": Decimal("1e-6"),
    "us": Decimal("1e-3"),
    "µs": Decimal("1e-3"),
    "ms": Decimal(1),
    "s": Decimal(1000),
    "m": Decimal(60_000),
    "min": Decimal(60_000),
    "h": Decimal(3_600_000),
    "d": Decimal(86_400_000),
    "w": Decimal(604_800_000),
}
_SCALES = {"": 1, "k": 1000, "m": 1_000_000}
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,2})?")
_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_FLAGS = {"yes": True, "true": True, "no": False, "false": False}
_MAX_NS = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_number(text: str) -> int | float | None:
    """Return a plain number, or None when `text` is none."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return plain(Decimal(text))
    except (InvalidOperation, OverflowError):
        return None


def read_count(text: str) -> int | float | None:
    """Return a count such as `12`, `10k` or `1.5M`."""
    scale = _SCALES.get(text[-1:].lower()) if text[-1:].isalpha() else 1
    number = read_number(text[:-1] if text[-1:].isalpha() else text)
    return None if number is None or scale is None else plain(Decimal(str(number)) * scale)


def read_money(text: str) -> int | float | None:
    """Return dollars, with or without the sign."""
    return read_number(text.removeprefix("$"))


def read_duration(text: str) -> int | float | None:
    """Return milliseconds of a duration with its unit; 0 needs none."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzµ")
    number = read_number(digits)
    unit = text[len(digits) :]
    if number is None:
        return None
    if not unit:
        return 0 if number == 0 else None
    return plain(Decimal(str(number)) * _MS[unit]) if unit in _MS else None


def read_moments(text: str) -> tuple[int, int] | None:
    """Return the first nanosecond of a date or time (UTC unless it says else) and the first one after it."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    step = (
        timedelta(days=1)
        if hour is None
        else timedelta(minutes=1)
        if second is None
        else timedelta(seconds=1)
    )
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
        if zone and zone != "Z":
            away = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
            moment = moment - away if zone[0] == "+" else moment + away
    except (ValueError, OverflowError):
        return None
    fraction_ns = int((fraction or "0").ljust(9, "0"))
    first = (moment - _EPOCH) // timedelta(microseconds=1) * 1000 + fraction_ns
    length = step // timedelta(microseconds=1) * 1000 if fraction is None else 10 ** (9 - len(fraction))
    return (first, first + length) if first >= 0 and first + length <= _MAX_NS else None


def read_flag(text: str) -> bool | None:
    """Return what yes and no mean."""
    return _FLAGS.get(text.lower())


def write_number(value: float) -> str:
    """Return a number in the shortest form that reads back as it."""
    return f"{Decimal(repr(value)):f}"


def write_duration(value_ms: float) -> str:
    """Return milliseconds with the largest unit that keeps them short."""
    number = Decimal(repr(value_ms))
    for unit in ("d", "h", "m", "s", "ms"):
        scaled = number / _MS[unit]
        if scaled * _MS[unit] == number and (abs(scaled) >= 1 or unit == "ms") and len(f"{scaled:f}") <= 8:
            return f"{scaled.normalize():f}{unit}"
    return f"{number:f}ms"


def write_moment(stamp_ns: int) -> str:
    """Return a moment in UTC, as short as it can be."""
    moment = _EPOCH + timedelta(seconds=stamp_ns // 10**9)
    fraction = stamp_ns % 10**9
    if fraction:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}"
    if moment.second:
        return f"{moment:%Y-%m-%dT%H:%M:%S}"
    return f"{moment:%Y-%m-%d}" if moment.hour == moment.minute == 0 else f"{moment:%Y-%m-%dT%H:%M}"


def plain(number: Decimal) -> int | float:
    """Return an int where the number is whole and not too large for a column, else the nearest float."""
    return int(number) if abs(number) <= _MAX_NS and number == number.to_integral_value() else float(number)
