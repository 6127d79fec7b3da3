"""How values read on a page: one function a kind of value, alike everywhere. Unknown is a dash, never a zero."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

DASH = "–"
_LEAST = Decimal("0.000001")
_STEPS = ((60, "s"), (3600, "min"), (86_400, "h"), (86_400 * 60, "d"))


def end_cut(text: str, limit: int) -> str:
    """Return a text that was cut at `limit` characters so that one sees it: whole words and an ellipsis."""
    if len(text) < limit:
        return text
    words = text.rsplit(" ", 1)
    return f"{words[0] if len(words[0]) > limit // 2 else text} …"


def format_count(value: int | None) -> str:
    """Return 12,345."""
    return DASH if value is None else f"{value:,}"


def format_calls(value: int) -> str:
    """Return 1 call, 12,345 calls."""
    return "1 call" if value == 1 else f"{value:,} calls"


def format_ms(value: float | None) -> str:
    """Return a duration with its unit: 0.41 ms, 412 ms, 2.10 s, 3 min 05 s."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.2f} ms"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.2f} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def format_money(value: Decimal | None, *, n_digits: int = 2) -> str:
    """Return US dollars with as many digits as matter: $12.34, $0.0042, < $0.000001, $0, or a dash when unknown."""
    if value is None:
        return DASH
    if value == 0:
        return "$0"
    if abs(value) >= 1:
        return f"${value:,.2f}"
    if 0 < value < _LEAST:
        return f"< ${_LEAST}"
    digits = max(2, n_digits - 1 - value.adjusted())
    return f"${value:.{min(digits, 10)}f}"


def format_ago(stamp_ns: int | None, now_ns: int) -> str:
    """Return 42 s ago, 5 min ago, 3 h ago, 2 d ago; a date when it is over two months."""
    if stamp_ns is None:
        return DASH
    seconds = (now_ns - stamp_ns) / 1e9
    if seconds < 0:
        return "in the future" if seconds < -5 else "now"
    size = 1
    for limit, unit in _STEPS:
        if seconds < limit:
            return f"{int(seconds // size)} {unit} ago"
        size = limit if unit != "h" else 86_400
    return f"{datetime.fromtimestamp(stamp_ns / 1e9, tz=UTC):%Y-%m-%d}"


def format_exact(stamp_ns: int | None) -> str:
    """Return 2026-11-21 05:02:11.123 UTC."""
    if stamp_ns is None:
        return DASH
    return f"{datetime.fromtimestamp(stamp_ns / 1e9, tz=UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def format_bytes(value: int | None) -> str:
    """Return 512 B, 3.4 KB, 11.9 MB."""
    if value is None:
        return DASH
    size = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return DASH


def format_share(part: int | None, whole: int | None) -> str:
    """Return part of whole in percent, a dash when it is undefined."""
    return DASH if not whole or part is None else f"{100 * part / whole:.1f} %"


def add_known(*counts: int | None) -> int | None:
    """Return the sum of what is known, None where nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def name_job(kind: str, spec: Mapping[str, Any]) -> str:
    """Return what a job does and to what, such as `model.pull minilm`; the kind alone when it names nothing."""
    subject = spec.get("name")
    return f"{kind} {subject}" if isinstance(subject, str) and subject else kind


def format_json(value: Any) -> str:
    """Return indented JSON text of anything that a span or an asset can hold."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
        return json.dumps(plain, indent=2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown here)"


def short_id(text: str | None) -> str:
    """Return the first eight characters of an id or the first twelve of a digest."""
    if not text:
        return DASH
    return text.removeprefix("sha256:")[:12] if text.startswith("sha256:") else text[:8]


def format_until(stamp_ns: int | None, now_ns: int) -> str:
    """Return in 42 s, in 5 min, in 3 h, in 2 d; a date when it is over two months; `over` when it is past."""
    if stamp_ns is None:
        return DASH
    seconds = (stamp_ns - now_ns) / 1e9
    if seconds <= 0:
        return "over"
    size = 1
    for limit, unit in _STEPS:
        if seconds < limit:
            return f"in {math.ceil(seconds / size)} {unit}"
        size = limit if unit != "h" else 86_400
    return f"{datetime.fromtimestamp(stamp_ns / 1e9, tz=UTC):%Y-%m-%d}"


def format_amount(value: Decimal | int, unit: str) -> str:
    """Return an amount of a limit with what it counts: $12.50, 1,200 tokens."""
    if unit == "usd":
        return format_money(Decimal(value))
    whole = f"{int(value):,}"
    return f"{whole} {unit.removesuffix('s')}" if whole == "1" else f"{whole} {unit}"
