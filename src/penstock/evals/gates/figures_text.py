"""How figures, differences and intervals are written in a gate's sentences."""

from decimal import Decimal

from penstock.evals.statistics.estimates import bounds_of
from penstock.evals.statistics.types import Measure, unit_of


def figure_text(value: float, measure: Measure) -> str:
    """Return a figure with its unit: `0.71`, `1,840 ms`, `$0.0021`, `3.2 of 5`."""
    unit = unit_of(measure)
    if unit == "usd":
        return _signed("$", value, _digits(value))
    if unit is not None:
        return f"{_plain(value)} {unit}"
    bounds = bounds_of(measure)
    if bounds == (0.0, 1.0):
        return _share(value)
    return _plain(value)


def difference_text(value: float, measure: Measure, *, is_signed: bool = True) -> str:
    """Return a difference: in points where the score has bounds, else with its unit."""
    points = points_of(value, measure)
    if points is not None:
        return f"{_points(points, is_signed)} {'point' if abs(round(points, 1)) == 1 else 'points'}"
    sign = "+" if is_signed and value > 0 else ""
    return sign + figure_text(value if is_signed else abs(value), measure).replace("-", "−")


def interval_text(low: float | None, high: float | None, measure: Measure, *, is_difference: bool) -> str:
    """Return `1.2 to 7.0`, or `no interval`."""
    if low is None or high is None:
        return "no interval"
    if is_difference:
        pair = (points_of(low, measure), points_of(high, measure))
        if pair[0] is not None and pair[1] is not None:
            return f"{_points(pair[0], False)} to {_points(pair[1], False)}"
    return f"{figure_text(low, measure)} to {figure_text(high, measure)}".replace("-", "−")


def points_of(value: float, measure: Measure) -> float | None:
    """Return a difference in points, hundredths of the range; None where the score has no range or a unit of its own."""
    bounds = bounds_of(measure)
    if bounds is None or unit_of(measure) is not None:
        return None
    return 100.0 * value / (bounds[1] - bounds[0])


def count_text(n: int, noun: str) -> str:
    """Return `1 case`, `214 cases`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def money_text(amount: Decimal | float) -> str:
    """Return an amount in dollars with as many digits as it needs."""
    value = float(amount)
    return _signed("$", value, _digits(value))


def _points(value: float, is_signed: bool) -> str:
    shown = f"{abs(value):.1f}" if abs(value) >= 0.05 or value == 0 else f"{abs(value):.2g}"
    return ("−" if value < 0 and shown.strip("0.") else "+" if is_signed and value > 0 else "") + shown


def _share(value: float) -> str:
    if value in {0.0, 1.0}:
        return f"{value:.0f}"
    near_edge = abs(value) < 0.1 or 0.99 < value < 1.0
    return f"{value:.3f}" if near_edge else f"{value:.2f}"


def _plain(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-4 or value == 0 else f"{value:.2e}"


def _digits(value: float) -> str:
    size = abs(value)
    if size == 0 or size >= 0.1:
        return f"{size:,.2f}"
    return f"{size:.2g}" if size >= 1e-4 else f"{size:.7f}".rstrip("0")


def _signed(mark: str, value: float, digits: str) -> str:
    return f"{'−' if value < 0 else ''}{mark}{digits}"
