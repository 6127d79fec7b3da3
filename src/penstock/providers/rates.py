"""Looks prices up in genai-prices and writes them as rate cards. Run as a child process: `python -m …rates`.

Loading that price table takes 40 MB and most of a second, and one calculation with it 0.2 ms, which a gateway worker
cannot spare. This module is therefore started only when a model is met for the first time; it reads a JSON list of
`[price_id, model]` from standard input and writes one card (or a reason) for each to standard output.
"""

import sys
from decimal import Decimal
from typing import Any

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """US dollars per million tokens, and from which input size on other ones hold for the whole call."""

    usd: Decimal
    tiers: list[tuple[int, Decimal]] = []
    lent_by: str | None = None
    """Of a class that providers price apart and the table does not: whose rate this is, `input` or `output`."""


class RateSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rates by token class, and when they hold: always, from a day on (UTC), or at certain hours."""

    starts_on: str | None = None
    """ISO date."""
    hours: tuple[str, str] | None = None
    """ISO times, start inclusive and end exclusive; the end may be on the next day."""
    rates: dict[str, Rate]
    usd_per_request: Decimal | None = None


class RateCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs, or why that is not known. Of the sets that apply, the last one counts."""

    source: str
    sets: list[RateSet] = []
    reason: str | None = None


_CLASSES: dict[str, tuple[str, ...]] = {
    "input_uncached": ("input_mtok",),
    "input_cache_read": ("cache_read_mtok", "input_mtok"),
    "input_cache_write": ("cache_write_mtok", "input_mtok"),
    "input_cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "input_audio": ("input_audio_mtok", "input_mtok"),
    "input_image": ("input_image_mtok", "input_mtok"),
    "output_text": ("output_mtok",),
    "output_reasoning": ("output_reasoning_mtok", "output_mtok"),
    "output_audio": ("output_audio_mtok", "output_mtok"),
    "output_image": ("output_image_mtok", "output_mtok"),
}
"""Token class → the prices that may hold for it, the most exact first."""
_PRICED_APART = frozenset({"input_audio", "input_image", "output_audio", "output_image"})
"""Cached input without a price of its own costs what input does, and thoughts what the answer does: so providers say."""


def look_up(price_id: str, model: str) -> RateCard:
    """Return the card of a model as genai-prices knows it. Loads the price table."""
    import genai_prices
    from genai_prices import data_snapshot

    source = f"genai-prices {genai_prices.__version__}"
    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, price_id, None)
    except LookupError:
        return RateCard(source=source, reason=f"{source} has no price for {model!r} of {price_id!r}")
    prices = found.prices
    if not isinstance(prices, list):
        return RateCard(source=source, sets=[_rate_set(None, prices)])
    return RateCard(source=source, sets=[_rate_set(item.constraint, item.prices) for item in prices])


def _rate_set(constraint: Any, prices: Any) -> RateSet:
    starts_on: str | None = None
    hours: tuple[str, str] | None = None
    if constraint is not None and hasattr(constraint, "start_date"):
        starts_on = constraint.start_date.isoformat()
    elif constraint is not None:
        hours = (constraint.start_time.isoformat(), constraint.end_time.isoformat())
    rates: dict[str, Rate] = {}
    for name, keys in _CLASSES.items():
        value = next((found for key in keys if (found := getattr(prices, key, None)) is not None), None)
        lent_by = None
        if name in _PRICED_APART and getattr(prices, keys[0], None) is None:
            lent_by = name.partition("_")[0]
        if value is not None and hasattr(value, "tiers"):
            tiers = [(tier.start, tier.price) for tier in value.tiers]
            rates[name] = Rate(usd=value.base, tiers=tiers, lent_by=lent_by)
        elif value is not None:
            rates[name] = Rate(usd=value, lent_by=lent_by)
    per_thousand = getattr(prices, "requests_kcount", None)
    per_request = per_thousand / 1000 if per_thousand is not None else None
    return RateSet(starts_on=starts_on, hours=hours, rates=rates, usd_per_request=per_request)


def main() -> None:
    """Answer the list on standard input."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=list[tuple[str, str]])
    cards = [look_up(price_id, model) for price_id, model in wanted]
    sys.stdout.buffer.write(msgspec.json.encode(cards))


if __name__ == "__main__":
    main()
