"""Rate card × usage = exact money. Pure: the card says what tokens cost and when, the usage how many there were.

The surprise: a tier holds for the whole call, not for the tokens beyond its border, as providers bill it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from operator import attrgetter

from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.routes import PriceRow
from penstock.spec.usage import INPUT_CLASSES, TOKEN_CLASSES, Cost, Usage

SETTINGS = "settings"
_FAMILIES = {
    name: ("input_uncached", "input") if name in INPUT_CLASSES else ("output_text", "output")
    for name in TOKEN_CLASSES
}
"""Token class → the class whose price an operator's row lends it, and what that price is called."""
_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)
_counts = attrgetter(*TOKEN_CLASSES)


def apply_card(card: RateCard, usage: Usage, when_ns: int) -> Cost:
    """Return what `usage` costs at `when_ns`; `usd` is None, with the reason, where a class has no rate.

    In the operator's own prices a class without a rate counts at that of its family, and the source says so: cached
    input as input, thoughts as output.
    """
    if card.reason is not None:
        return Cost(usd=None, source=card.reason)
    rates = pick_rates(card.sets, when_ns)
    if rates is None:
        return Cost(usd=None, source=f"{card.source} lists the model without a price")
    total = _ZERO
    used: dict[str, Decimal] = {}
    lent: list[str] = []
    tier_over: int | None = None
    for name, count in zip(TOKEN_CLASSES, _counts(usage), strict=True):
        if not count:
            continue
        rate = rates.rates.get(name)
        if rate is None and card.source == SETTINGS:
            lender, called = _FAMILIES[name]
            rate = rates.rates.get(lender)
            lent.append(f"{name} at the {called} rate")
        if rate is None:
            return Cost(usd=None, source=f"{card.source} has no price for {name} tokens of this model")
        if rate.lent_by is not None:
            lent.append(f"{name} at the {rate.lent_by} rate")
        usd = rate.usd
        if rate.tiers:
            usd, over = _usd_per_million(rate, usage.input_tokens or 0)
            tier_over = over if tier_over is None else tier_over
        used[name] = usd
        total += usd * count
    total = total.scaleb(-6)
    return Cost(
        usd=total if rates.usd_per_request is None else total + rates.usd_per_request,
        source=f"{card.source} ({', '.join(lent)})" if lent else card.source,
        rates=used,
        usd_per_request=rates.usd_per_request,
        tier_over=tier_over,
    )


def cost_parts(
    counts: Mapping[str, int | None], rates: Mapping[str, Decimal]
) -> list[tuple[str, int, Decimal, Decimal]]:
    """Return (class, tokens, US dollars per million, US dollars) of each class that was used and has a rate."""
    return [
        (name, count, rates[name], rates[name] * count / _MILLION)
        for name in TOKEN_CLASSES
        if (count := counts.get(name)) and name in rates
    ]


def note_gaps(priced: Collection[str]) -> tuple[str, ...]:
    """Return what an operator should know of the classes that a price leaves out, given those that it names."""
    notes: list[str] = []
    for lender, called in dict.fromkeys(_FAMILIES.values()):
        without = [
            name
            for name, (of, _) in _FAMILIES.items()
            if of == lender and name != lender and name not in priced
        ]
        if lender not in priced:
            notes.append(
                f"{called} tokens have no price, so calls that use them have none: set {lender}, to 0 if they are free"
            )
        elif without:
            notes.append(
                f"{', '.join(without)} count at the {called} rate: set those for which the provider charges otherwise"
            )
    return tuple(notes)


def card_of_row(row: PriceRow) -> RateCard:
    """Return a price of the settings as a card that always holds."""
    rates = {name: Rate(usd=usd) for name, usd in row.usd_per_million.items()}
    return RateCard(source=SETTINGS, sets=[RateSet(rates=rates, usd_per_request=row.usd_per_request)])


def pick_rates(sets: Sequence[RateSet], when_ns: int) -> RateSet | None:
    """Return the set that holds at `when_ns`, None if there is none at all."""
    if not sets:
        return None
    if len(sets) == 1:
        return sets[0]
    moment = datetime.fromtimestamp(when_ns / 1e9, tz=UTC)
    for candidate in reversed(sets):
        if _holds(candidate, moment):
            return candidate
    return sets[0]


def _usd_per_million(rate: Rate, input_tokens: int) -> tuple[Decimal, int | None]:
    usd, over = rate.usd, None
    for start, tier_usd in rate.tiers:
        if input_tokens > start:
            usd, over = tier_usd, start
    return usd, over


def _holds(rates: RateSet, moment: datetime) -> bool:
    if rates.starts_on is not None:
        return moment.date() >= date.fromisoformat(rates.starts_on)
    if rates.hours is None:
        return True
    start, end = (_utc(clock_time.fromisoformat(text)) for text in rates.hours)
    now = moment.timetz()
    if start <= end:
        return start <= now < end
    return now >= start or now < end


def _utc(value: clock_time) -> clock_time:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).timetz()
