"""Exact money for a call: the operator's own prices, then rate cards by (price id, model).

Cards come from a loader, by default a short child process over genai-prices (`providers.rates` says why), and are
kept for the life of the book; one that could not be loaded is asked for again after a minute. A price that is not
known is `None` with the reason, never 0.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache

import msgspec

from penstock.providers.rates import RateCard
from penstock.providers.rating import apply_card, card_of_row
from penstock.spec.routes import PriceRow
from penstock.spec.usage import Cost, Usage

CardLoader = Callable[[Sequence[tuple[str, str]]], list[RateCard]]
_RETRY_S = 60.0
_MAX_CARDS = 4096
_FREE = Cost(usd=Decimal(0), source="local")
_NO_ID = Cost(usd=None, source="the provider row names no price_id")
_NO_USAGE = Cost(usd=None, source="the provider sent no usage")


class PriceBook:
    """Prices calls. Safe to use from several threads; a price that is not cached blocks in the loader."""

    def __init__(
        self, load_cards: CardLoader | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load_cards or load_cards_in_child
        self._monotonic = monotonic
        self._cards: dict[tuple[str, str], RateCard] = {}
        self._failed_at: dict[tuple[str, str], float] = {}
        self._own = _OwnPrices(())
        self._guard = threading.Lock()

    def set_own_prices(self, rows: Sequence[PriceRow]) -> None:
        """Let the operator's prices win from now on over the table; what was priced before stays as it was."""
        self._own = _OwnPrices(rows)

    def has_own(self, provider: str, model: str) -> bool:
        """Return whether the operator set a price for `model`."""
        return self._own.find(provider, model) is not None

    def is_ready(self, price_id: str | None, model: str, *, provider: str | None = None) -> bool:
        """Return whether `price` would answer without loading anything."""
        if price_id is None or price_id == "local" or (price_id, model) in self._cards:
            return True
        return self._own.find(provider, model) is not None

    def preload(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Load the cards of `wanted` that are missing, in one go."""
        missing = [item for item in dict.fromkeys(wanted) if not self.is_ready(*item)]
        if missing:
            self._fill(missing)

    def price(
        self,
        price_id: str | None,
        model: str,
        usage: Usage | None,
        when_ns: int,
        *,
        provider: str | None = None,
    ) -> Cost:
        """Return the cost of a call made at `when_ns`; `usd` is None, with the reason, where it is not known.

        `provider` is the name of the provider row, for the operator's own prices.
        """
        card = self._own.find(provider, model)
        if card is None:
            if price_id == "local":
                return _FREE
            if price_id is None:
                return _NO_ID
        if usage is None:
            return _NO_USAGE
        if card is None:
            assert price_id is not None
            card = self._cards.get((price_id, model))
            if card is None:
                self._fill([(price_id, model)])
                card = self._cards.get((price_id, model))
        if card is None:
            return Cost(usd=None, source="the price table could not be read")
        return apply_card(card, usage, when_ns)

    def price_now(
        self, price_id: str | None, model: str, usage: Usage | None, when_ns: int, *, provider: str
    ) -> Cost | None:
        """Return what `price` would, or None where it would have to load the price first. Never blocks."""
        card = self._own.find(provider, model)
        if card is None:
            if price_id == "local":
                return _FREE
            if price_id is None:
                return _NO_ID
            if usage is None:
                return _NO_USAGE
            card = self._cards.get((price_id, model))
            if card is None:
                return None
        return _NO_USAGE if usage is None else apply_card(card, usage, when_ns)

    def estimate(
        self,
        price_id: str | None,
        model: str,
        usage: Usage,
        *,
        provider: str | None = None,
        when_ns: int | None = None,
    ) -> Decimal | None:
        """Return what `usage` would cost now, or None where that is not known at once. Never blocks."""
        if not self.is_ready(price_id, model, provider=provider):
            return None
        return self.price(price_id, model, usage, when_ns or time.time_ns(), provider=provider).usd

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


class _OwnPrices:
    """The rows of the settings: an exact name before a prefix, a longer prefix before a shorter one."""

    def __init__(self, rows: Sequence[PriceRow]) -> None:
        self._exact: dict[tuple[str, str], RateCard] = {}
        self._prefixes: list[tuple[str, str, RateCard]] = []
        for row in rows:
            if row.model.endswith("*"):
                self._prefixes.append((row.provider, row.model[:-1], card_of_row(row)))
            else:
                self._exact[row.provider, row.model] = card_of_row(row)
        self._prefixes.sort(key=lambda item: -len(item[1]))

    def find(self, provider: str | None, model: str) -> RateCard | None:
        if provider is None or not (self._exact or self._prefixes):
            return None
        found = self._exact.get((provider, model))
        if found is not None:
            return found
        for name, prefix, card in self._prefixes:
            if name == provider and model.startswith(prefix):
                return card
        return None


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
