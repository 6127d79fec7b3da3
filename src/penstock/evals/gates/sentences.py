"""Verdicts as sentences.

token_f1 0.71 beats baseline 0.66 by 4.1 points (95 % interval 1.2 to 7.0, 214 paired cases): pass.
"""

from penstock.evals.gates.figures_text import (
    count_text,
    difference_text,
    figure_text,
    interval_text,
    money_text,
)
from penstock.evals.gates.look_types import Counted, Unreadable, Weighed
from penstock.evals.statistics.types import Interval
from penstock.spec.evaluations import VerdictWord

_WORDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below", "==": "exactly"}


def sentence_of(look: Weighed | Counted | Unreadable, verdict: VerdictWord, note: str = "") -> str:
    """Return what was found, and how it came out."""
    if isinstance(look, Unreadable):
        return f"{_name(look)}: {look.reason.rstrip('.')}: {verdict}."
    if isinstance(look, Counted):
        text = look.text if look.part is None else f"{look.part}: {look.text}"
        return f"{text}; asked for {_bound_text(look)}: {verdict}."
    text = _difference(look) if look.is_difference else _level(look)
    return f"{text}{f'; {note}' if note else ''}: {verdict}."


def _name(look: Weighed | Counted | Unreadable) -> str:
    rule = look.rule
    statistic = f" p{100 * rule.quantile:g}" if rule.quantile else ""
    return f"{rule.measure}{statistic}{f' ({look.part})' if look.part else ''}"


def _level(look: Weighed) -> str:
    interval, column = look.interval, look.column
    value = "unknown" if interval.value is None else figure_text(interval.value, column)
    return (
        f"{_name(look)} {value} ({_interval(look, interval)}, {_amount(look)}), "
        f"{_WORDS[look.rule.operator]} {figure_text(look.threshold, column)} asked for"
    )


def _difference(look: Weighed) -> str:
    interval, column, compared = look.interval, look.column, look.comparison
    assert compared is not None
    ours = "unknown" if compared.candidate is None else figure_text(compared.candidate, column)
    theirs = "unknown" if compared.baseline is None else figure_text(compared.baseline, column)
    plain = (compared.candidate or 0.0) - (compared.baseline or 0.0)
    if plain == 0.0:
        relation = f"equals baseline {theirs}"
    elif column.direction == "none" or not _is_sure(look):
        # better and worse are words for what chance does not explain
        size = difference_text(abs(plain), column, is_signed=False)
        relation = f"is {size} {'above' if plain > 0 else 'below'} baseline {theirs}"
    else:
        word = "beats" if (plain > 0) == (column.direction == "higher") else "is behind"
        relation = f"{word} baseline {theirs} by {difference_text(abs(plain), column, is_signed=False)}"
    margin = _margin(look)
    return f"{_name(look)} {ours} {relation} ({_interval(look, interval)}, {_amount(look)}){margin}{_floor(look)}"


def _floor(look: Weighed) -> str:
    """Say so where neither side could have done worse: such a comparison shows no loss, whatever was lost."""
    compared, column = look.comparison, look.column
    worst = {"higher": column.low, "lower": column.high}.get(column.direction)
    if compared is None or worst is None or compared.n_pairs == 0:
        return ""
    if not compared.candidate == compared.baseline == worst:
        return ""
    return f"; both have the worst score there is in every case ({figure_text(worst, column)}), so this shows nothing"


def _is_sure(look: Weighed) -> bool:
    compared = look.comparison
    if compared is None or compared.low is None or compared.high is None:
        return False
    return not compared.low <= 0.0 <= compared.high


def _margin(look: Weighed) -> str:
    bound, operator = look.rule.bound, look.rule.operator
    if bound.amount == 0.0:
        return ""
    if bound.unit == "%":
        size = f"{abs(bound.amount):g} %"
    else:
        size = difference_text(abs(look.threshold), look.column, is_signed=False)
    is_slack = (bound.amount < 0.0) == (operator in {">=", ">"})
    if is_slack:
        return f"; up to {size} {'less' if bound.amount < 0.0 else 'more'} is allowed"
    return f"; {size} {'less' if bound.amount < 0.0 else 'more'} is asked for"


def _interval(look: Weighed, interval: Interval) -> str:
    if interval.low is None:
        return interval.method.replace("none: ", "no interval: ")
    relative = look.is_difference and look.rule.bound.unit == "%" and look.rule.bound.amount != 0.0
    if relative and look.comparison is not None:
        # the weighed figure is candidate − factor × baseline; people read the plain difference
        compared = look.comparison
        text = interval_text(compared.low, compared.high, look.column, is_difference=True)
        return f"{100 * look.level:g} % interval {text}"
    text = interval_text(interval.low, interval.high, look.column, is_difference=look.is_difference)
    return f"{100 * look.level:g} % interval {text}"


def _amount(look: Weighed) -> str:
    n, n_groups = look.interval.n, look.interval.n_groups
    if look.is_difference:
        n = look.comparison.n_pairs if look.comparison is not None else n
    noun = "paired case" if look.is_difference else "output" if look.rule.quantile else "case"
    groups = f" in {count_text(n_groups, 'group')}" if n_groups is not None and n_groups < n else ""
    return count_text(n, noun) + groups


def _bound_text(look: Counted) -> str:
    rule = look.rule
    if rule.statistic == "new":
        return "none that is new"
    if rule.bound.unit == "usd" or rule.measure.endswith("_usd"):
        return f"{_WORDS[rule.operator]} {money_text(rule.bound.amount)}"
    unit = {"point": " points", "%": " %", "": ""}.get(rule.bound.unit, f" {rule.bound.unit}")
    return f"{_WORDS[rule.operator]} {rule.bound.amount:,g}{unit}"
