"""What a rule's bound is in the score's own unit: a threshold, or an offset and a factor of the baseline.

A bound that no figure can miss, or that none can reach, is a slip (`errors <= 5` for 5 %): it has no meaning here.
"""

import math
from collections.abc import Sequence

from penstock.evals.gates.figures_text import figure_text
from penstock.evals.gates.types import Bound, Rule
from penstock.evals.statistics.estimates import bounds_of
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import Estimate


def holds(value: float, rule: Rule, threshold: float) -> bool:
    """Return whether a known value keeps to its bound."""
    return {
        ">=": value >= threshold,
        ">": value > threshold,
        "<=": value <= threshold,
        "<": value < threshold,
        "==": value == threshold,
    }[rule.operator]


def number_of(rule: Rule, column: ScoreColumn) -> float | str:
    """Return the threshold in the score's unit, or why it has none."""
    threshold = _amount(rule.bound, column)
    if isinstance(threshold, str) or rule.statistic == "total":
        return threshold
    low, high = bounds_of(column) or (column.low, column.high)
    if (low is None or threshold >= low) and (high is None or threshold <= high):
        return threshold
    if low is not None and high is not None:
        reach = f"lies between {low:g} and {high:g}"
    elif low is not None:
        reach = f"is never below {figure_text(low, column)}"
    else:
        reach = "" if high is None else f"is never above {figure_text(high, column)}"
    slip = rule.bound.unit == "" and (low, high) == (0.0, 1.0) and 1.0 < threshold <= 100.0
    return f"it {reach}, so {rule.bound.amount:g}{_unit(rule.bound)} of it means nothing" + (
        f"; write {threshold:g} %" if slip else ""
    )


def margin_of(
    rule: Rule, column: ScoreColumn, baseline: Sequence[ScoredCase], figure: Estimate | None
) -> tuple[float, float] | str:
    """Return offset and factor of the baseline, or why there are none.

    A share of the baseline is one of its size: 10 % less than −8 is −8.8. So its sign must be known: from the score's bounds, from all
    of the baseline's values, or from the interval of its `figure`, where that is what the rule is about.
    """
    bound = rule.bound
    if bound.unit == "%":
        if bound.amount <= -100.0:
            return f"{-bound.amount:g} % less than the baseline is all of it, so the margin allows everything"
        sign = _sign(column, baseline, figure) if bound.amount else 1.0
        if sign is None:
            return (
                f"the baseline's {column.name} may be on either side of 0, so {abs(bound.amount):g} % of it means "
                "nothing; write the margin as a number or in points"
            )
        return 0.0, 1.0 + sign * bound.amount / 100.0
    bounds = bounds_of(column)
    if bound.unit == "point":
        if bounds is None:
            return (
                f"{column.name} has no bounds, so points of it mean nothing; write a number or a share in %"
            )
        offset: float | str = bound.amount / 100.0 * (bounds[1] - bounds[0])
    else:
        offset = _offset(bound, column)
    if isinstance(offset, str):
        return offset
    if bounds is not None and abs(offset) >= bounds[1] - bounds[0]:
        return f"it lies between {bounds[0]:g} and {bounds[1]:g}, so a margin of {abs(bound.amount):g}{_unit(bound)} is all of it"
    return offset, 1.0


def _amount(bound: Bound, column: ScoreColumn) -> float | str:
    unit = bound.unit
    if unit in {"%", "point"}:
        bounds = bounds_of(column)
        if bounds is not None:
            return bounds[0] + bound.amount / 100.0 * (bounds[1] - bounds[0])
        return f"{column.name} has no bounds, so {bound.amount:g} {unit} of it means nothing"
    return _offset(bound, column)


def _offset(bound: Bound, column: ScoreColumn) -> float | str:
    unit, own = bound.unit, column.unit
    if unit in {"", own}:
        return bound.amount
    if unit == "s" and own == "ms":
        return 1000.0 * bound.amount
    if unit == "ms" and own == "s":
        return bound.amount / 1000.0
    return f"{column.name} is measured in {own or 'plain numbers'}, not in {unit}"


def _unit(bound: Bound) -> str:
    return f" {'points' if bound.unit == 'point' else bound.unit}" if bound.unit else ""


def _sign(column: ScoreColumn, baseline: Sequence[ScoredCase], figure: Estimate | None) -> float | None:
    """1 or −1 where the baseline's figure surely is on that side of 0."""
    low, high = bounds_of(column) or (column.low, column.high)
    if figure is None:
        values = [value for case in baseline for value in case.values if math.isfinite(value)]
        low = min(values, default=low) if low is None or low < 0.0 else low
        high = max(values, default=high) if high is None or high > 0.0 else high
    elif low is None or low < 0.0:
        low, high = figure.low, figure.high
    if low is not None and low >= 0.0:
        return 1.0
    return -1.0 if high is not None and high <= 0.0 else None
