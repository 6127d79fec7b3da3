"""What pages, REST and the command line ask about money."""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast, get_args

import msgspec

from penstock.base.errors import InvalidInput
from penstock.providers.prices import PriceBook
from penstock.providers.rating import SETTINGS, cost_parts
from penstock.spec.usage import Cost, Usage
from penstock.store.spans.ledger_types import CostDimension, CostQuery, CostRow, LedgerRow
from penstock.store.spans.port import Ledger
from penstock.traces.costs.advice import Advice, advise
from penstock.traces.costs.errors import UnknownCall, UnknownDimension
from penstock.traces.costs.exports import Export
from penstock.traces.costs.reconcile import Reconciliation, reconcile

DIMENSIONS: tuple[str, ...] = get_args(CostDimension)
MAX_TRAFFIC = 50_000
DEFAULT_TTL_S = 3600
_DAY_NS = 86_400 * 1_000_000_000


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a window: of everything, and by group."""

    by: list[str]
    total: CostRow
    rows: list[CostRow]


class CostPart(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one class times their price."""

    usage_class: str
    tokens: int
    usd_per_million: Decimal | None
    """None where no price of this class is on record."""
    usd: Decimal | None


class CostExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one call cost what it did. The parts and `other_usd` add up to `call.cost_usd`."""

    call: LedgerRow
    parts: list[CostPart]
    other_usd: Decimal | None
    """What is not told by tokens: a price a request, or a sum that the provider told whole. None if unknown."""
    why: list[str]
    """The same in sentences."""


class CostService:
    """Sums, explanations, reconciliation and advice over a ledger."""

    def __init__(
        self,
        ledger: Ledger,
        prices: PriceBook | None = None,
        *,
        find_price_id: Callable[[str], str | None] = lambda provider: provider,
        follow: Callable[[], None] = lambda: None,
    ) -> None:
        """`find_price_id` tells under which name the price table knows a provider.

        `follow` brings `prices` and names up to date; it is called before each question that needs them.
        """
        self._ledger = ledger
        self._prices = prices or PriceBook()
        self._find_price_id = find_price_id
        self._follow = follow

    def sum_costs(self, query: CostQuery, by: Sequence[str]) -> CostReport:
        """Return the sums of a window by any of `DIMENSIONS`; raise `UnknownDimension`."""
        dimensions = check_dimensions(by)
        _check_window(query)
        (total,) = self._ledger.sum_costs(query, [])
        rows = self._ledger.sum_costs(query, dimensions) if dimensions else []
        return CostReport(by=list(by), total=total, rows=rows)

    def explain(self, identity: str) -> list[CostExplanation]:
        """Return the billed calls of a trace or span with the parts of their price; raise `UnknownCall`."""
        wanted = identity.strip().lower().replace("-", "")
        found = self._ledger.find_billed(wanted)
        if not found:
            raise UnknownCall(
                f"The ledger has no billed call {identity!r}.",
                hint="Give the whole id of a trace (32 characters) or span (16); refused calls are not billed.",
            )
        return [explain_call(call) for call in found]

    def reconcile(self, export: Export, *, provider: str | None, tolerance: Decimal) -> Reconciliation:
        """Compare an export with the calls to `provider` (default: the one whose format it is, if any).

        Raises `InvalidInput` for one without rows, and for a provider that was never called.
        """
        return reconcile_with(self.sum_costs, export, provider=provider, tolerance=tolerance)

    def advise(
        self, query: CostQuery, *, ttl_s: int = DEFAULT_TTL_S, candidates: Sequence[str] = ()
    ) -> Advice:
        """Return what could have been saved. `candidates` (`PROVIDER/MODEL`) are added to the models in use."""
        _check_window(query)
        self._follow()
        traffic = self._ledger.list_traffic(query, limit=MAX_TRAFFIC + 1)
        is_cut = len(traffic) > MAX_TRAFFIC
        traffic = traffic[-MAX_TRAFFIC:]
        wanted = [_candidate(text) for text in candidates]
        return advise(traffic, ttl_s=ttl_s, candidates=wanted, price=self._price, is_cut=is_cut)

    def _price(self, provider: str, model: str, usage: Usage, when_ns: int) -> Cost:
        return self._prices.price(self._find_price_id(provider), model, usage, when_ns, provider=provider)


def check_dimensions(by: Sequence[str]) -> list[CostDimension]:
    """Return `by` as dimensions; raise `UnknownDimension`."""
    for name in by:
        if name not in DIMENSIONS:
            raise UnknownDimension(
                f"Costs cannot be grouped by {name!r}.", hint=f"Use: {', '.join(DIMENSIONS)}."
            )
    if len(set(by)) < len(by):
        raise UnknownDimension("A dimension is named twice.")
    return [cast("CostDimension", name) for name in by]


def reconcile_with(
    sum_costs: Callable[[CostQuery, Sequence[str]], CostReport],
    export: Export,
    *,
    provider: str | None,
    tolerance: Decimal,
) -> Reconciliation:
    """Compare an export with the ledger that `sum_costs` reads; see `CostService.reconcile`."""
    if not export.rows:
        raise InvalidInput("The export has no rows.")
    if provider is not None and not sum_costs(CostQuery(provider=provider), []).total.n_calls:
        called = [row.group["provider"] for row in sum_costs(CostQuery(), ["provider"]).rows]
        raise InvalidInput(
            f"No call to a provider {provider!r} was ever billed.",
            hint=f"Providers in the ledger: {', '.join(sorted(name for name in called if name)) or 'none'}.",
        )
    rows = sum_costs(window_of(export, provider), ["day", "model"]).rows
    return reconcile(export, rows, tolerance=tolerance)


def window_of(export: Export, provider: str | None) -> CostQuery:
    """Return which calls an export is about: all days from its first to its last that one provider was sent; of all
    providers, without the engines and apps of this installation, which nobody bills."""
    days = sorted(row.day for row in export.rows)
    return CostQuery(
        since_ns=day_start_ns(days[0]),
        until_ns=day_start_ns(days[-1]) + _DAY_NS,
        provider=provider or export.provider,
        only_sent=True,
    )


def explain_call(call: LedgerRow) -> CostExplanation:
    """Return the parts of one call's price and the reasons behind it."""
    rates = {name: Decimal(text) for name, text in call.rates.items()}
    priced = {name: (each, usd) for name, _, each, usd in cost_parts(call.classes, rates)}
    parts = [
        CostPart(
            usage_class=name,
            tokens=count,
            usd_per_million=priced[name][0] if name in priced else None,
            usd=priced[name][1] if name in priced else None,
        )
        for name, count in call.classes.items()
    ]
    known = sum((usd for _, usd in priced.values()), Decimal(0))
    other = call.cost_usd - known if call.cost_usd is not None else None
    return CostExplanation(call=call, parts=parts, other_usd=other, why=_sentences(call, other, bool(priced)))


def _sentences(call: LedgerRow, other: Decimal | None, has_parts: bool) -> list[str]:
    source = call.cost_source or "unknown"
    why: list[str] = []
    if call.cost_usd is None:
        why.append(f"The cost is unknown: {source}.")
        if source.startswith(SETTINGS):
            why.append(f"Add it: penstock price edit {call.provider}/{call.model} --set CLASS=USD.")
    elif call.cached:
        saved = f" It saved {call.saved_usd} USD." if call.saved_usd is not None else ""
        why.append(f"Answered from Penstock's cache, so no provider charged for it.{saved}")
    elif source == "local":
        why.append("The model runs here: no charge.")
    elif source == "provider":
        why.append("The provider itself told this sum.")
    elif source.startswith(SETTINGS):
        why.append("Priced by your own [[prices]].")
        if "(" in source:
            why.append(
                f"No price of their own there: {source.partition('(')[2].rstrip(')')}. If the provider charges otherwise, "
                f"add theirs: penstock price edit {call.provider}/{call.model} --set CLASS=USD."
            )
    else:
        why.append(f"Priced by {source}, at the time of the call; later prices do not change it.")
        if "(" in source:
            why.append(
                "The table has no price of its own for these tokens, which mostly cost more: set one under [[prices]]."
            )
    if has_parts and other:
        why.append(f"{other} USD of it are charged for the request, not for tokens.")
    if call.estimated:
        why.append(
            "Tokens are estimated (a quarter of the bytes of the text): the provider sent no usage, or not all."
        )
    if call.kind == "attempt":
        why.append(
            "This request was sent and lost; another attempt served the call. The provider may charge for both."
        )
    if call.error_code == "PS-9661":
        why.append("The worker died while it served this call; the figures come from its journal.")
    return why


def day_start_ns(day: str) -> int:
    """Return when a UTC day (`2026-03-31`) began."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1_000_000_000


def _candidate(text: str) -> tuple[str, str]:
    provider, slash, model = text.partition("/")
    if not slash or not provider or not model:
        raise InvalidInput(
            f"{text!r} is no candidate.", hint="Write it as PROVIDER/MODEL, such as openai/gpt-4o-mini."
        )
    return provider, model


def _check_window(query: CostQuery) -> None:
    if query.since_ns > query.until_ns:
        raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
