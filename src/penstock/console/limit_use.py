"""How much of each limit is used right now, from the counters that gateways share. Numbers in, lines out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from penstock.console.formats import format_amount, format_money
from penstock.spec.limits import LimitRule
from penstock.spec.windows import find_window, read_counter_name
from penstock.store.counters import Counter

TOP = 8
_CENT = Decimal("0.01")
_NANO = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one subject has used of a rule in the window that is under way."""

    subject: str
    """Id or name; empty for a rule that counts all calls together."""
    label: str
    used: str
    pct: float
    """Of the amount, 100 at most: the length of the bar."""
    share: str
    """Of the amount as it is, which can be over 100 %."""
    is_full: bool
    is_near: bool
    resets_ns: int


@dataclass(frozen=True, kw_only=True)
class RuleUse:
    """A rule in words, with its busiest subjects."""

    rule: LimitRule
    sentence: str
    limit: str
    uses: tuple[Use, ...]
    n_more: int
    resets_ns: int


def tell_rule(rule: LimitRule, label: str | None = None) -> str:
    """Return the rule as a sentence."""
    whom = {
        "all": "all calls together",
        "project": "each project",
        "key": "each key",
        "user": "each user",
        "route": "each route",
        "model": "each model",
    }[rule.scope]
    if rule.match is not None:
        whom = f"the {rule.scope} {label or rule.match}"
    article = "an" if rule.window == "hour" else "a"
    verb = "At most" if rule.action == "refuse" else "Warn over"
    return f"{verb} {format_amount(rule.amount, rule.unit)} {article} {rule.window} for {whom}"


def list_use(
    rules: Iterable[LimitRule], counters: Sequence[Counter], key_names: Mapping[str, str], *, now_s: float
) -> tuple[RuleUse, ...]:
    """Return each rule with its use, the fullest first; counters of windows that are over are left out."""
    by_rule: dict[tuple[str, str, str], list[tuple[str, Counter]]] = {}
    for counter in counters:
        name = read_counter_name(counter.key)
        if name is not None and counter.window_end_s > now_s and counter.value > 0:
            by_rule.setdefault((name.rule, name.unit, name.window), []).append((name.subject, counter))
    found = [_rule_use(rule, by_rule, key_names, now_s) for rule in rules]
    return tuple(
        sorted(found, key=lambda each: (-max((one.pct for one in each.uses), default=0), each.rule.name))
    )


def use_of_key(counters: Sequence[Counter], key_id: str, *, now_s: float) -> dict[str, int]:
    """Return what a key used of its own limits in this minute, by unit."""
    used: dict[str, int] = {}
    for counter in counters:
        name = read_counter_name(counter.key)
        if name is not None and not name.rule and name.subject == key_id and counter.window_end_s > now_s:
            used[name.unit] = counter.value
    return used


def _rule_use(
    rule: LimitRule,
    by_rule: Mapping[tuple[str, str, str], list[tuple[str, Counter]]],
    key_names: Mapping[str, str],
    now_s: float,
) -> RuleUse:
    counted = [
        (subject, counter)
        for subject, counter in by_rule.get((rule.name, rule.unit, rule.window), ())
        if rule.match is None or subject == rule.match
    ]
    counted.sort(key=lambda each: (-each[1].value, each[0]))
    label = key_names.get(rule.match or "") if rule.scope == "key" else None
    return RuleUse(
        rule=rule,
        sentence=tell_rule(rule, label),
        limit=format_amount(rule.amount, rule.unit),
        uses=tuple(_use(rule, subject, counter, key_names) for subject, counter in counted[:TOP]),
        n_more=max(0, len(counted) - TOP),
        resets_ns=find_window(rule.window, now_s).end_s * _NANO,
    )


def _use(rule: LimitRule, subject: str, counter: Counter, key_names: Mapping[str, str]) -> Use:
    value = Decimal(counter.value) / _NANO if rule.unit == "usd" else Decimal(counter.value)
    share = float(value / rule.amount) if rule.amount else 1.0
    label = subject or "all calls"
    key_id = subject.removeprefix("key ")
    if key_id in key_names:
        label = f"{key_names[key_id]}" if rule.scope == "key" else f"{key_names[key_id]} (no user named)"
    return Use(
        subject=subject,
        label=label,
        used=_tell_used(value, rule),
        pct=round(min(100.0, 100 * share), 1),
        share=f"{100 * share:,.1f} %",
        is_full=share >= 1,
        is_near=0.8 <= share < 1,
        resets_ns=counter.window_end_s * _NANO,
    )


def _tell_used(value: Decimal, rule: LimitRule) -> str:
    """Return what was used, with a digit more than the amount needs, so that a little over it shows."""
    if rule.unit != "usd":
        return format_amount(value, rule.unit)
    return "< $0.01" if value < _CENT and rule.amount >= 1 else format_money(value, n_digits=3)
