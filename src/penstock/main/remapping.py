"""`penstock traces remap`: as a job of the running instance, which owns the spans, else right here."""

from collections.abc import Callable
from typing import Any

from penstock.base.clock import iso_from_ns, now_ns
from penstock.base.errors import NotFound
from penstock.jobs.context import JobContext
from penstock.jobs.worker import Handler
from penstock.main.instance import running_instance
from penstock.main.job_kinds import TRACES_REMAP
from penstock.main.job_wait import Tell
from penstock.main.rooms import Rooms
from penstock.main.submitting import follow
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.upkeep import DuckDBScan
from penstock.telemetry.mapping_table import load_table
from penstock.traces.remap import remap_history


def remap_handler(store: DuckDBSpanStore) -> Handler:
    """Return the handler of the job, over the store of this process."""

    def remap(ctx: JobContext, _spec: dict[str, Any]) -> dict[str, Any]:
        ctx.log(f"mapping spans by version {load_table().version} of the table")

        def tell(fraction: float | None, text: str) -> None:
            ctx.check_cancelled()
            ctx.progress(fraction, text)

        return _remap(store, tell)

    return remap


def remap_home(home: Home, tell: Tell) -> dict[str, Any]:
    """Bring the foreign spans of a home up to the present table; return `n_spans` and `version`.

    While Penstock runs this is a job of its control process. Raises `NotFound` for a home without traces.
    """
    if running_instance(home) is not None:
        rooms = Rooms(home)
        try:
            job = rooms.jobs.submit(TRACES_REMAP, {}, dedupe_key=TRACES_REMAP)
            return follow(rooms, job, tell).result or {}
        finally:
            rooms.close()
    if not home.span_db.exists():
        raise NotFound(f"{home.root} holds no traces yet.", hint="There is nothing to be mapped.")
    store = DuckDBSpanStore(home.span_db)
    try:
        return _remap(store, tell)
    finally:
        store.close()


def _remap(store: DuckDBSpanStore, tell: Callable[[float | None, str], object]) -> dict[str, Any]:
    begun: list[int] = []
    until = now_ns()

    def on_batch(n_done: int, start_ns: int) -> None:
        begun.append(start_ns)
        span = max(1, until - begun[0])
        tell(min(1.0, (start_ns - begun[0]) / span), f"{n_done} spans, up to {iso_from_ns(start_ns)[:10]}")

    n_spans = remap_history(DuckDBScan(store.file), store, tell=on_batch)
    return {"n_spans": n_spans, "version": load_table().version}
