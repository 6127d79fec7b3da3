"""Money for the command line: of the running control process, else straight from the stopped home's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from penstock.base.errors import NotFound
from penstock.base.late import late_imports
from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.snapshots import read_snapshot
from penstock.main.control_client import ControlClient
from penstock.main.instance import running_instance
from penstock.providers.catalogue import find_provider
from penstock.providers.prices import PriceBook
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot
from penstock.store.spans.ledger_types import CostQuery
from penstock.traces.costs.exports import Export

with late_imports():
    from penstock.store.spans import duckdb as duckdb_store
    from penstock.store.spans import port as span_port
    from penstock.traces.costs import advice, reconcile
    from penstock.traces.costs import service as cost_service


class CostAccess(Protocol):
    """What the command line asks."""

    def sum_costs(self, query: CostQuery, by: Sequence[str]) -> cost_service.CostReport:
        """Return the sums of a window by dimensions."""

    def explain(self, identity: str) -> list[cost_service.CostExplanation]:
        """Return the billed calls of a trace or span with the parts of their price."""

    def advise(self, query: CostQuery, *, ttl_s: int, candidates: Sequence[str]) -> advice.Advice:
        """Return what could have been saved."""


def reconcile_through(
    costs: CostAccess, export: Export, *, provider: str | None, tolerance: Decimal
) -> reconcile.Reconciliation:
    """Compare an export with the ledger that `costs` reaches."""
    return cost_service.reconcile_with(costs.sum_costs, export, provider=provider, tolerance=tolerance)


@contextmanager
def open_costs(home: Home) -> Iterator[CostAccess]:
    """Yield access to the ledger of `home`, running or not."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    if not home.span_db.exists():
        raise NotFound(
            f"{home.root} holds no calls yet.",
            hint=f"Start it and make a call: penstock up --home {home.root}",
        )
    store = duckdb_store.DuckDBSpanStore(home.span_db, read_only=True)
    try:
        yield create_costs(store, lambda: _read_snapshot(home))
    finally:
        store.close()


def create_costs(
    ledger: span_port.Ledger, find_snapshot: Callable[[], Snapshot | None]
) -> cost_service.CostService:
    """Return the service over a ledger, with the operator's prices and providers of the snapshot of the moment."""
    prices = _Prices(find_snapshot)
    return cost_service.CostService(
        ledger, prices.book, find_price_id=prices.find_price_id, follow=prices.follow
    )


class _Prices:
    """Prices and providers as they were published last. Safe for threads."""

    def __init__(self, find_snapshot: Callable[[], Snapshot | None]) -> None:
        self.book = PriceBook()
        self._find_snapshot = find_snapshot
        self._snapshot: Snapshot | None = None

    def follow(self) -> None:
        """Take up what was published since; what cannot be read leaves things as they were."""
        found, known = self._find_snapshot(), self._snapshot
        if found is None or (known is not None and found.digest == known.digest):
            return
        self.book.set_own_prices(found.prices)
        self._snapshot = found

    def find_price_id(self, name: str) -> str | None:
        """Return under which name the price table knows a provider."""
        for provider in self._snapshot.providers if self._snapshot is not None else ():
            if provider.name == name:
                return "local" if provider.local else provider.price_id
        try:
            return find_provider(name).price_id
        except NotFound:
            return None


def _read_snapshot(home: Home) -> Snapshot | None:
    try:
        return read_snapshot(home.snapshot)
    except (SnapshotMissing, SnapshotDamaged, SnapshotInvalid):
        return None


class _Remote:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def sum_costs(self, query: CostQuery, by: Sequence[str]) -> cost_service.CostReport:
        value = self._client.get("/api/v1/costs", **_filters(query), by=list(by) or None)
        return msgspec.convert(value, cost_service.CostReport, strict=False)

    def explain(self, identity: str) -> list[cost_service.CostExplanation]:
        return msgspec.convert(
            self._client.get(f"/api/v1/costs/calls/{identity}"),
            list[cost_service.CostExplanation],
            strict=False,
        )

    def advise(self, query: CostQuery, *, ttl_s: int, candidates: Sequence[str]) -> advice.Advice:
        value = self._client.get(
            "/api/v1/costs/advice", **_filters(query), ttl_s=ttl_s, candidate=list(candidates) or None
        )
        return msgspec.convert(value, advice.Advice, strict=False)


def _filters(query: CostQuery) -> dict[str, Any]:
    filters: dict[str, Any] = msgspec.to_builtins(query)
    return filters
