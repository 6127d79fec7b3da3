"""Exact money for a call: rate cards by (price id, model), applied to disjoint token classes.

Cards come from a loader, by default a short child process over genai-prices (`providers.rates` says why), and are
kept for the life of the book; one that could not be loaded is asked for again after a minute. A price that is not
known is `None` with the reason, never 0.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from datetime import time as clock_time
from decimal import Decimal
from functools import cache

import msgspec

from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.usage import Cost, Usage

CardLoader = Callable[[Sequence[tuple[str, str]]], list[RateCard]]
_MILLION = Decimal(1_000_000)
_RETRY_S = 60.0
_MAX_CARDS = 4096
_FREE = Cost(usd=Decimal(0), source="local")
_NO_ID = Cost(usd=None, source="the provider row names no price_id")
_NO_USAGE = Cost(usd=None, source="the provider sent no usage")
_CLASSES = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write",
    "input_audio",
    "output_text",
    "output_reasoning",
    "output_audio",
)


class PriceBook:
    """Prices calls. Safe to use from several threads; a price that is not cached blocks in the loader."""

    def __init__(
        self, load_cards: CardLoader | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load_cards or load_cards_in_child
        self._monotonic = monotonic
        self._cards: dict[tuple[str, str], RateCard] = {}
        self._failed_at: dict[tuple[str, str], float] = {}
        self._guard = threading.Lock()

    def is_ready(self, price_id: str | None, model: str) -> bool:
        """Return whether `price` would answer without loading anything."""
        return price_id is None or price_id == "local" or (price_id, model) in self._cards

    def preload(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Load the cards of `wanted` that are missing, in one go."""
        missing = [item for item in dict.fromkeys(wanted) if not self.is_ready(*item)]
        if missing:
            self._fill(missing)

    def price(self, price_id: str | None, model: str, usage: Usage | None, when_ns: int) -> Cost:
        """Return the cost of a call made at `when_ns`; `usd` is None, with the reason, where it is not known."""
        if price_id == "local":
            return _FREE
        if price_id is None:
            return _NO_ID
        if usage is None:
            return _NO_USAGE
        card = self._cards.get((price_id, model))
        if card is None:
            self._fill([(price_id, model)])
            card = self._cards.get((price_id, model))
        if card is None:
            return Cost(usd=None, source="the price table could not be read")
        if card.reason is not None:
            return Cost(usd=None, source=card.reason)
        return _apply(card, usage, when_ns)

    def _fill(self, missing: Sequence[tuple[str, str]]) -> None:
        with self._guard:
            now = self._monotonic()
            wanted = [
                item
                for item in missing
                if item not in self._cards and now - self._failed_at.get(item, -_RETRY_S) >= _RETRY_S
            ]
            if not wanted:
                return
            if len(self._cards) > _MAX_CARDS:
                self._cards.clear()
            try:
                self._cards.update(zip(wanted, self._load(wanted), strict=True))
            except (OSError, ValueError, subprocess.SubprocessError):
                self._failed_at = dict.fromkeys(wanted, now)


def load_cards_in_child(wanted: Sequence[tuple[str, str]]) -> list[RateCard]:
    """Return the cards of `wanted` from genai-prices, read in a child process that ends at once."""
    run = subprocess.run(
        [sys.executable, "-m", "penstock.providers.rates"],
        input=msgspec.json.encode(wanted),
        capture_output=True,
        timeout=30,
        check=True,
        env={},
    )
    return msgspec.json.decode(run.stdout, type=list[RateCard])


@cache
def _default_book() -> PriceBook:
    return PriceBook()


def price_call(price_id: str | None, model: str, usage: Usage | None, when_ns: int) -> Cost:
    """Return the cost of one call, from a book that this process keeps."""
    return _default_book().price(price_id, model, usage, when_ns)


def _apply(card: RateCard, usage: Usage, when_ns: int) -> Cost:
    rates = _pick(card.sets, when_ns)
    if rates is None:
        return Cost(usd=None, source=f"{card.source} lists the model without a price")
    input_tokens = usage.input_tokens or 0
    total = rates.usd_per_request or Decimal(0)
    for name in _CLASSES:
        count = getattr(usage, name)
        if not count:
            continue
        rate = rates.rates.get(name)
        if rate is None:
            return Cost(usd=None, source=f"{card.source} has no price for {name} tokens of this model")
        total += _usd_per_million(rate, input_tokens) * count / _MILLION
    return Cost(usd=total, source=card.source)


def _usd_per_million(rate: Rate, input_tokens: int) -> Decimal:
    usd = rate.usd
    for start, tier_usd in rate.tiers:
        if input_tokens > start:
            usd = tier_usd
    return usd


def _pick(sets: Sequence[RateSet], when_ns: int) -> RateSet | None:
    if not sets:
        return None
    if len(sets) == 1:
        return sets[0]
    moment = datetime.fromtimestamp(when_ns / 1e9, tz=UTC)
    for candidate in reversed(sets):
        if _holds(candidate, moment):
            return candidate
    return sets[0]


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
