"""What model calls cost that were made elsewhere and sent in without a cost: estimated from the gateway's price table.

Runs where spans are stored, never in a call's way. Own prices of the installation win over the table, a price is that of
the time of the call, and the source of every estimate begins with `estimate: `. A span that tells its own cost keeps it;
where provider, model or tokens are not known or no price is, there is no cost.
"""

import logging
import re
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from penstock.providers.catalogue import PROVIDERS
from penstock.providers.prices import PriceBook
from penstock.spec.routes import PriceRow
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import Usage
from penstock.store.spans.port import SpanSink

ESTIMATE = "estimate: "
"""Begins the `cost_source` of every cost that is estimated here."""
GUESSED = " (provider taken from the model's name)"
MAX_MODELS = 2000
"""Beyond so many models no further prices are looked up: names may be made up by senders."""
_KINDS = frozenset({"llm", "embedding", "rerank"})
_ANSWERED_FROM_CACHE = frozenset({"hit", "semantic", "shared"})
_NAMES = {
    "aws.bedrock": "bedrock",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "gcp.vertex_ai": "vertex",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshot",
    "x_ai": "xai",
}
"""Providers as OpenTelemetry calls them → as the catalogue does."""
_PRICE_IDS = {row.name: row.price_id for row in PROVIDERS if row.price_id not in (None, "local")}
_MAKERS = (
    (re.compile(r"(gpt-[345]|o[134](-|$)|chatgpt-|text-embedding-(3|ada))"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "gemini"),
)
"""Whose model it is when the sender names no provider: only names that nobody else serves under."""
_log = logging.getLogger("penstock.collector")
_Known = dict[tuple[str | None, str | None, Usage | None, int], tuple[Decimal | None, str]]
"""By provider, model, usage and second of the start: what it costs, and where that is known from."""


class CostEstimates:
    """Adds estimates to foreign spans. `snapshot` is where the installation's own prices stand."""

    def __init__(self, snapshot: Path, book: PriceBook | None = None) -> None:
        self._snapshot = snapshot
        self._book = book or PriceBook()
        self._guard = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._models: set[tuple[str, str]] = set()

    def add(self, spans: Sequence[Span]) -> list[Span]:
        """Return the spans, those with a cost that can be estimated.

        The first call of a model waits for its price, in one go for all models of `spans`.
        """
        done = list(spans)
        wanting = [(place, span) for place, span in enumerate(done) if _wants_estimate(span)]
        if not wanting:
            return done
        with self._guard:
            self._take_own_prices()
            self._book.preload(self._new_models([span for _, span in wanting]))
        known: _Known = {}
        for place, span in wanting:
            done[place] = self._estimate(span, known)
        return done

    def _new_models(self, wanting: Sequence[Span]) -> list[tuple[str, str]]:
        wanted: list[tuple[str, str]] = []
        for provider, model in dict.fromkeys([(span.provider, span.model) for span in wanting]):
            price_id = _PRICE_IDS.get(_provider_of(provider, model) or "")
            if price_id is None or model is None or (price_id, model) in self._models:
                continue
            if len(self._models) < MAX_MODELS:
                self._models.add((price_id, model))
                wanted.append((price_id, model))
        return wanted

    def _estimate(self, span: Span, known: _Known) -> Span:
        """Return a span with its estimate; `known` are those of this round, since calls of one second are much alike."""
        key = (span.provider, span.model, span.usage, span.start_ns // 10**9)
        if key not in known:
            known[key] = self._price(span)
        usd, source = known[key]
        return span if usd is None else msgspec.structs.replace(span, cost_usd=usd, cost_source=source)

    def _price(self, span: Span) -> tuple[Decimal | None, str]:
        """Return what a call costs and where that is known from."""
        model, name = span.model, _provider_of(span.provider, span.model)
        if model is None or name is None:
            return None, ""
        own = span.provider if span.provider and self._book.has_own(span.provider, model) else name
        price_id = _PRICE_IDS.get(name)
        if price_id is not None and (price_id, model) not in self._models:
            price_id = None
        cost = self._book.price(price_id, model, span.usage, span.start_ns, provider=own)
        guessed = GUESSED if not span.provider else ""
        return cost.usd, f"{ESTIMATE}{cost.source}{guessed}"

    def _take_own_prices(self) -> None:
        try:
            stat = self._snapshot.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            prices = msgspec.json.decode(self._snapshot.read_bytes(), type=_PricesOnly).prices
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return
        self._book.set_own_prices(prices)
        self._seen = seen


class EstimatingSink:
    """A store whose foreign model calls bear an estimated cost where they bring none."""

    def __init__(self, store: SpanSink, estimates: CostEstimates) -> None:
        self._store = store
        self._estimates = estimates

    def append(self, spans: Sequence[Span]) -> int:
        """Store spans; return how many were new. What goes wrong with an estimate costs the estimate alone."""
        try:
            spans = self._estimates.add(spans)
        except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
            _log.exception("costs could not be estimated")
        return self._store.append(spans)

    def rewrite(self, spans: Sequence[Span]) -> int:
        """Store spans as they are in place of what is stored of them; return how many were new."""
        return self._store.rewrite(spans)


class _PricesOnly(msgspec.Struct, frozen=True):
    prices: tuple[PriceRow, ...] = ()


def _wants_estimate(span: Span) -> bool:
    return (
        span.kind in _KINDS
        and span.cost_usd is None
        and span.usage is not None
        and span.usage.reported_usd is None
        and span.model is not None
        and span.cache not in _ANSWERED_FROM_CACHE
        and FOREIGN_MARK in span.attributes
    )


def _provider_of(provider: str | None, model: str | None) -> str | None:
    """Return a provider as the catalogue calls it; whose model it is where the sender names none."""
    if provider:
        return _NAMES.get(provider, provider)
    return next((name for pattern, name in _MAKERS if pattern.match(model or "")), None)
