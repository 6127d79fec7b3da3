"""How measured values read: each with its unit, as short as it can be told, alike on every page."""

from decimal import Decimal

from penstock.console.formats import DASH, format_count, format_money, format_ms
from penstock.spec.measures import Unit


def format_value(value: float | None, unit: Unit, exact: Decimal | None = None) -> str:
    """Return a measured value with its unit, as short as it can be told."""
    if value is None:
        return DASH
    if unit == "ms":
        return format_ms(value)
    if unit == "usd":
        return format_money(exact if exact is not None else Decimal(repr(value)))
    if unit == "share":
        if 0 < value < 0.0005:
            return "< 0.1 %"  # not none
        return f"{100 * value:.1f} %" if value < 0.9995 or value == 1 else "> 99.9 %"
    if unit == "score":
        return f"{value:.2f}"
    tail = " tok/s" if unit == "tokens/s" else ""
    if value != int(value) and abs(value) < 1000:
        return f"{value:.3g}{tail}"
    return format_count(round(value)) + tail if abs(value) < 100_000 else _compact(value) + tail


def format_change(change: float | None) -> str:
    """Return +12 % or −3.4 %; a dash where it is unknown."""
    if change is None:
        return DASH
    percent = 100 * change
    sign = "+" if percent > 0 else "−" if percent < 0 else "±"
    return f"{sign}{abs(percent):.0f} %" if abs(percent) >= 10 else f"{sign}{abs(percent):.1f} %"


def _compact(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f} {letter}"
    return f"{value:.0f}"
