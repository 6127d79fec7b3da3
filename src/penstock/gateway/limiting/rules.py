"""Limit rules made ready for calls: which of them hold for a call, in which counters, for how much.

Money is counted in whole nano-dollars, rounded up, so that sums are exact.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

import msgspec

from penstock.spec.callers import Caller
from penstock.spec.limits import LimitRule, LimitScope, LimitUnit, LimitWindow
from penstock.spec.routes import KeyRow
from penstock.spec.windows import name_counter
from penstock.store.counters import MAX_VALUE

NANO = 1_000_000_000
MOST_RESERVED = 2**40
"""Reserved by one call where nothing is refused: many of them must fit into a counter, whatever their callers ask for."""
UNBOUNDED_TOKENS = 1024
"""Tokens reserved for a reply whose length the caller does not bound; fewer where less is left."""


class LimitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is, as far as limits ask."""

    key: KeyRow
    route: str
    """The route's name."""
    model: str | None = None
    """The upstream model that is going to be asked first."""
    user: str | None = None
    """Whom the call says it is for."""
    prompt_tokens: int = 0
    """An estimate."""
    completion_tokens: int | None = None
    """The most that the caller lets be written, over all choices; None if nothing bounds it."""
    usd: Decimal | None = None
    """What the call may cost at most; 0 if it is free, None if no price is known (yet)."""
    caller: Caller | None = None
    """For whom an app makes the call. `key` is then that caller's."""
    passes_on: bool = False
    """Whether only apps are asked: what is used is reserved and counted by the calls that they make."""

    @property
    def project(self) -> str:
        """The key's project."""
        return self.key.project


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, ready to count."""

    rule: str | None
    """None: a per-minute limit that stands in the key's own row."""
    scope: LimitScope
    unit: LimitUnit
    window: LimitWindow
    amount: Decimal
    limit: int
    """`amount` as it is counted."""
    refuses: bool


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one call asks of one meter."""

    meter: Meter
    subject: str
    counter: str
    amount: int
    least: int


class RuleBook:
    """All rules of a snapshot, found by what a call is."""

    def __init__(self, rules: Iterable[LimitRule] = ()) -> None:
        self._by_scope: dict[LimitScope, dict[object, list[Meter]]] = {}
        self.is_empty = True
        self.counts_money = False
        """Whether any rule is on money, so that prices are worth looking up."""
        for rule in rules:
            meter = Meter(
                rule=rule.name,
                scope=rule.scope,
                unit=rule.unit,
                window=rule.window,
                amount=rule.amount,
                limit=count_units(rule.unit, rule.amount),
                refuses=rule.action == "refuse",
            )
            match = None if rule.scope == "all" else rule.match
            self._by_scope.setdefault(rule.scope, {}).setdefault(match, []).append(meter)
            self.is_empty = False
            self.counts_money = self.counts_money or rule.unit == "usd"

    def list_charges(self, facts: LimitFacts) -> list[Charge]:
        """Return what a call is going to count; empty when no rule is for it.

        Of calls with the installation's own key, which are nobody's, only the rules for all, for routes and for models
        know. A call that an app makes for a caller is that caller's; one that comes through no route, such as an agent's
        tool, is its first, so its request counts too.
        """
        if facts.caller is not None and facts.caller.routes:
            return self._list_passed_on(facts, facts.caller)
        row = facts.key
        charges: list[Charge] = []
        is_internal = "internal" in row.scopes
        for scope, by_match in self._by_scope.items():
            if is_internal and scope in ("key", "user", "project"):
                continue
            subject = _subject(scope, facts)
            if subject is None:
                continue
            for match in (None, subject) if subject else (None,):
                for meter in by_match.get(match, ()):
                    _add_charge(charges, meter, subject, facts)
        if row.requests_per_minute is not None:
            charges.append(_one_request(row.id, row.requests_per_minute))
        if row.tokens_per_minute is not None:
            _add_charge(charges, _key_meter("tokens", row.tokens_per_minute), row.id, facts)
        return charges

    def _list_passed_on(self, facts: LimitFacts, caller: Caller) -> list[Charge]:
        """Return what a call of an app's counts: tokens and money for its caller and for each route and app on the way.

        The request was counted when the caller's own came in; this is one more only for its own route and model.
        """
        row = facts.key
        is_nobody = "internal" in row.scopes
        charges: list[Charge] = []
        for scope, by_match in self._by_scope.items():
            own = _subject(scope, facts)
            if own is None or (is_nobody and scope in ("key", "user", "project")):
                continue
            others = caller.routes if scope == "route" else caller.models if scope == "model" else ()
            for subject in dict.fromkeys((own, *others)):
                for match in (None, subject) if subject else (None,):
                    for meter in by_match.get(match, ()):
                        if meter.unit != "requests" or (scope in ("route", "model") and subject == own):
                            _add_charge(charges, meter, subject, facts)
        if row.tokens_per_minute is not None:
            _add_charge(charges, _key_meter("tokens", row.tokens_per_minute), row.id, facts)
        return charges


def count_units(unit: LimitUnit, amount: Decimal) -> int:
    """Return an amount as it is counted: nano-dollars for money, rounded up, within what counters can hold."""
    whole = (amount * NANO if unit == "usd" else amount).to_integral_value(ROUND_CEILING)
    return min(int(whole), MAX_VALUE)


@lru_cache(maxsize=8192)
def _counter(rule: str, unit: LimitUnit, window: LimitWindow, subject: str) -> str:
    return name_counter(rule, unit, window, subject)


@lru_cache(maxsize=1024)
def _key_meter(unit: LimitUnit, limit: int) -> Meter:
    return Meter(
        rule=None, scope="key", unit=unit, window="minute", amount=Decimal(limit), limit=limit, refuses=True
    )


@lru_cache(maxsize=8192)
def _one_request(key_id: str, limit: int) -> Charge:
    """Return what each call of a key counts against the limit of requests in its row: always the same."""
    meter = _key_meter("requests", limit)
    counter = _counter("", meter.unit, meter.window, key_id)
    return Charge(meter=meter, subject=key_id, counter=counter, amount=1, least=1)


def _subject(scope: LimitScope, facts: LimitFacts) -> str | None:
    """Return whom a scope counts this call for. A key of a user's counts as that user; only with a key of nobody's the
    call may name one, else it counts as the key itself: limits cannot be passed by leaving a name out."""
    if scope == "key":
        return facts.key.id
    if scope == "user":
        return facts.key.user or facts.user or f"key {facts.key.id}"
    if scope == "project":
        return facts.project
    if scope == "route":
        return facts.route
    if scope == "model":
        return facts.model
    return ""


def _add_charge(charges: list[Charge], meter: Meter, subject: str, facts: LimitFacts) -> None:
    amount = least = 1
    if meter.unit == "tokens" and facts.passes_on:
        amount = least = 0  # asked for all the same, since another route may take over
    elif meter.unit == "tokens":
        prompt = max(1, facts.prompt_tokens)
        if facts.completion_tokens is None:
            amount, least = prompt + UNBOUNDED_TOKENS, prompt
        else:
            amount = least = prompt + max(0, facts.completion_tokens)
    elif meter.unit == "usd":
        if facts.usd is not None:
            if facts.usd <= 0:
                return  # what is free is not kept from anybody
            amount = count_units("usd", facts.usd)
        # without a price nothing can be reserved, but a budget that is used up still refuses
        least = amount if facts.completion_tokens is not None else 1
    if not meter.refuses and amount > MOST_RESERVED:
        amount, least = MOST_RESERVED, min(least, MOST_RESERVED)
    charges.append(
        Charge(
            meter=meter,
            subject=subject,
            counter=_counter(meter.rule or "", meter.unit, meter.window, subject),
            amount=amount,
            least=least,
        )
    )
