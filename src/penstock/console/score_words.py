"""How figures of evaluations read: values with their unit, intervals, differences in points, comparisons as sentences.

Unknown is a dash, and `explain_missing` says why. A difference of what lies between 0 and 1 is told in points, hundredths.
"""

from decimal import Decimal

from penstock.console.formats import DASH, format_money, format_ms
from penstock.spec.evaluations import Comparison, Estimate

MINUS = "−"
SHARE_UNITS = frozenset({"share", "%", "rate"})


def format_score(value: float | None, *, scale: str = "bounded", unit: str | None = None) -> str:
    """Return a value with its unit: 71.4 %, 0.714, 412 ms, $0.0021, 38.2 words; a dash when it is unknown."""
    if value is None:
        return DASH
    if unit == "ms":
        return format_ms(value) if value >= 0 else MINUS + format_ms(-value)
    if unit in {"s", "seconds"}:
        return format_ms(1000 * value)
    if unit == "usd":
        text = format_money(Decimal(repr(abs(value))))
        return MINUS + text if value < 0 else text
    if unit in SHARE_UNITS or (unit is None and scale == "binary"):
        return f"{_sign(100 * value, 1)} %"
    tail = f" {unit}" if unit else ""
    if scale == "bounded" and abs(value) <= 1:
        return f"{_sign(value, 3)}{tail}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}{tail}".replace("-", MINUS)
    return f"{value:,.4g}{tail}".replace("-", MINUS)


def format_interval(item: Estimate | Comparison) -> str:
    """Return `0.661 to 0.762`; empty where there is no interval."""
    if item.low is None or item.high is None:
        return ""
    if isinstance(item, Comparison):
        ends = [_bare_difference(item, each) for each in (item.low, item.high)]
    else:
        ends = [format_score(each, scale=item.scale, unit=item.unit) for each in (item.low, item.high)]
    unit = ends[1].rpartition(" ")[2]
    if " " in ends[1] and ends[0].endswith(f" {unit}"):
        ends[0] = ends[0].removesuffix(f" {unit}")
    return " to ".join(ends)


def format_difference(item: Comparison, value: float | None = None) -> str:
    """Return the difference, or `value` on its scale, with sign and unit: `+4.1 points`, `−120 ms`."""
    shown = item.difference if value is None else value
    if shown is None:
        return DASH
    if not is_in_points(item):
        return _bare_difference(item, shown, with_plus=True)
    bare = _bare_difference(item, shown, with_plus=True)
    return f"{bare} {'point' if bare.lstrip('+' + MINUS) == '1.0' else 'points'}"


def is_in_points(item: Comparison) -> bool:
    """Whether differences are told in hundredths: both sides are shares or lie between 0 and 1."""
    if item.unit is not None and item.unit not in SHARE_UNITS:
        return False
    if item.scale == "binary" or item.unit in SHARE_UNITS:
        return True
    sides = [each for each in (item.baseline, item.candidate) if each is not None]
    return item.scale == "bounded" and all(abs(each) <= 1 for each in sides)


def say_comparison(item: Comparison, baseline: str, candidate: str) -> str:
    """Return the comparison as a sentence that a person can act on."""
    name = f"{item.name} of {item.slice}" if item.slice else item.name
    if item.word == "invalid" or item.difference is None:
        return f"{name}: no verdict. {_as_sentence(item.reason) or 'Nothing could be compared.'}"
    behind = _say_behind(item)
    gap = format_difference(item, abs(item.difference)).lstrip("+")
    if item.word == "better":
        return f"{candidate} beats {baseline} in {name} by {gap} ({behind})."
    if item.word == "worse":
        return f"{candidate} is behind {baseline} in {name} by {gap} ({behind})."
    if item.difference == 0 and not item.n_wins and not item.n_losses and item.n_ties:
        return (
            f"{name}: undecided. {candidate} and {baseline} are alike in all {item.n_pairs:,} paired cases."
        )
    told = f"{name}: undecided. {candidate} {MINUS} {baseline} is {format_difference(item)} ({behind})"
    if item.detectable is not None:
        told += f"; so many cases show a difference from about {format_difference(item, item.detectable).lstrip('+')} on"
    return f"{told}."


def explain_missing(item: Estimate) -> str:
    """Return why an estimate has no value or no interval; empty where it has both."""
    if item.value is None:
        if not item.n_cases:
            return "There are no cases."
        parts = [
            f"{count:,} {word}"
            for count, word in (
                (item.n_undefined, "undefined"),
                (item.n_errors, "failed"),
                (item.n_skipped, "not asked"),
            )
            if count
        ]
        return (
            f"None of {_cases(item.n_cases)} has a score: {', '.join(parts)}." if parts else "Not scored yet."
        )
    if item.low is None:
        return f"No interval: {item.method}." if item.method else f"No interval from {_cases(item.n)}."
    return ""


def say_method(item: Estimate | Comparison) -> str:
    """Return how a figure was made, for who wants to know: method, level, number of cases and groups."""
    parts = [item.method] if item.method else []
    parts.append(f"{100 * item.level:g} % interval")
    if isinstance(item, Comparison):
        parts.append(_cases(item.n_pairs, "paired case"))
        if item.p_value is not None:
            parts.append(f"p {_p(item.p_value)}")
        if item.p_adjusted is not None:
            parts.append(
                f"adjusted {_p(item.p_adjusted)}{f' ({item.correction})' if item.correction else ''}"
            )
    else:
        parts.append(f"{item.n:,} of {_cases(item.n_cases)}")
        if item.worst is not None and item.best is not None and item.n < item.n_cases:
            ends = [format_score(each, scale=item.scale, unit=item.unit) for each in (item.worst, item.best)]
            parts.append(f"{ends[0]} to {ends[1]} whatever the missing scores were")
    if item.n_groups is not None:
        parts.append(f"{item.n_groups:,} groups")
    return "; ".join(parts)


def format_share_of(part: float, whole: int) -> str:
    """Return a share in whole percent that is 100 only for all and 0 only for none."""
    if not whole:
        return DASH
    if part in {0, whole}:
        return "100 %" if part else "0 %"
    return f"{min(99.0, max(1.0, 100 * part / whole)):.0f} %"


def format_likely(value: float | None) -> str:
    """Return a p value: 0.012, < 0.001; a dash when there is none."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _say_behind(item: Comparison) -> str:
    interval = format_interval(item)
    pairs = _cases(item.n_pairs, "paired case")
    return f"{100 * item.level:g} % interval {interval}, {pairs}" if interval else f"no interval, {pairs}"


def _bare_difference(item: Comparison, value: float, *, with_plus: bool = False) -> str:
    sign = "+" if with_plus and value > 0 else ""
    if is_in_points(item):
        return sign + _sign(100 * value, 1)
    return sign + format_score(value, scale=item.scale, unit=item.unit)


def _sign(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}".replace("-", MINUS)
    return text.removeprefix(MINUS) if not text.strip(f"{MINUS}0.") else text


def _cases(count: int, noun: str = "case") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _p(value: float) -> str:
    text = format_likely(value)
    return text if text.startswith("<") else f"= {text}"


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
