"""What model calls cost that were made elsewhere and sent in without a cost: estimated from the gateway's price table.

Runs where spans are stored, never in a call's way. Own prices of the installation win over the table, a price is that of
the time of the call, and the source of every estimate begins with `estimate: `. A span that tells its own cost keeps it;
where provider, model or tokens are not known or no price is, there is no cost.
"""

import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.providers.catalogue import PROVIDERS
from penstock.providers.prices import PriceBook
from penstock.spec.routes import PriceRow
from penstock.spec.spans import Span
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
        wanting = [span for span in spans if _wants_estimate(span)]
        if not wanting:
            return list(spans)
        with self._guard:
            self._take_own_prices()
            self._book.preload(self._new_models(wanting))
        priced = {id(span): self._estimate(span) for span in wanting}
        return [priced.get(id(span), span) for span in spans]

    def _new_models(self, wanting: Sequence[Span]) -> list[tuple[str, str]]:
        wanted: list[tuple[str, str]] = []
        for provider, model in dict.fromkeys((_provider_of(span), span.model) for span in wanting):
            price_id = _PRICE_IDS.get(provider or "")
            if price_id is None or model is None or (price_id, model) in self._models:
                continue
            if len(self._models) < MAX_MODELS:
                self._models.add((price_id, model))
                wanted.append((price_id, model))
        return wanted

    def _estimate(self, span: Span) -> Span:
        model, name = span.model, _provider_of(span)
        if model is None or name is None:
            return span
        own = span.provider if span.provider and self._book.has_own(span.provider, model) else name
        price_id = _PRICE_IDS.get(name)
        if price_id is not None and (price_id, model) not in self._models:
            price_id = None
        cost = self._book.price(price_id, model, span.usage, span.start_ns, provider=own)
        if cost.usd is None:
            return span
        guessed = GUESSED if not span.provider else ""
        return msgspec.structs.replace(
            span, cost_usd=cost.usd, cost_source=f"{ESTIMATE}{cost.source}{guessed}"
        )

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
        and span.is_foreign
    )


def _provider_of(span: Span) -> str | None:
    if span.provider:
        return _NAMES.get(span.provider, span.provider)
    return next((name for pattern, name in _MAKERS if pattern.match(span.model or "")), None)
