"""Upkeep of one home, put together: over the span store, the control tables and the places beside them."""

import threading
from collections.abc import Callable

from penstock.base.errors import PenstockError
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.main.copies import clear_copies, copies_folder
from penstock.main.dataset_rooms import create_datasets
from penstock.main.erasure_places import create_places, list_beyond
from penstock.main.rooms import Rooms
from penstock.main.settings import load_settings
from penstock.main.trace_settings import TraceSettings
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.subject_rows import DuckDBSubjectRows
from penstock.store.spans.upkeep import DuckDBUpkeep
from penstock.traces.collector import Collector
from penstock.traces.upkeep.erasure import ErasureService
from penstock.traces.upkeep.handout import Handout
from penstock.traces.upkeep.retention import Ages, Retention, RetentionPolicy
from penstock.traces.upkeep.seal import PrivacyKey
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.upkeep.tombstones import Tombstones


def create_upkeep(
    rooms: Rooms, store: DuckDBSpanStore, collector: Collector, cache: ResponseCacheService
) -> UpkeepService:
    """Return the service; from now on the collector keeps late spans of erased subjects out."""
    home, engine = rooms.home, rooms.engine
    clear_copies(home)
    upkeep, reader = DuckDBUpkeep(store.file), DuckDBSubjectRows(store.file)
    key = PrivacyKey.load(home.privacy_key)
    tombstones = Tombstones(engine, key, find_billed=store.find_billed, find_trace=store.get_summary)
    collector.sieve = tombstones.sift
    wake = threading.Event()
    read_settings = create_settings_reader(rooms)

    def read_forwards() -> dict[str, str]:
        return {target.name: target.url for target in read_settings().forward}

    return UpkeepService(
        upkeep=upkeep,
        retention=Retention(
            upkeep, reader, lambda: read_policy(read_settings()), home.root / "retention.json"
        ),
        erasures=ErasureService(
            engine,
            key,
            upkeep=upkeep,
            reader=reader,
            tombstones=tombstones,
            drain=lambda: (collector.run_once(), None)[1],
            places=create_places(
                home, engine, collector, cache, create_datasets(home, rooms.registry, rooms.blobs)
            ),
            list_beyond=lambda: list_beyond(engine, read_forwards, is_shared=cache.is_shared),
            root=home.root,
            wake=wake.set,
        ),
        handout=Handout(upkeep, reader, DuckDBSpanExport(store.file)),
        tombstones=tombstones,
        store_path=home.span_db,
        copies=copies_folder(home),
        wake=wake,
    )


def create_settings_reader(rooms: Rooms) -> Callable[[], TraceSettings]:
    """Return a function that reads `[traces]` as it stands in the file; while that is damaged, the last good one holds."""
    last = rooms.storage_file.settings.traces

    def read() -> TraceSettings:
        nonlocal last
        try:
            last = load_settings(rooms.home.settings).settings.traces
        except PenstockError:
            return last
        return last

    return read


def read_policy(settings: TraceSettings) -> RetentionPolicy:
    """Return what the settings say about ages, with what a project leaves unset filled in."""
    usual = settings.retention
    return RetentionPolicy(
        usual=Ages(payload_days=usual.payload_days, span_days=usual.span_days),
        projects={
            name: Ages(
                payload_days=usual.payload_days if own.payload_days is None else own.payload_days,
                span_days=usual.span_days if own.span_days is None else own.span_days,
            )
            for name, own in sorted(settings.projects.items())
            if own.payload_days is not None or own.span_days is not None
        },
        compact=usual.compact,
        every_hours=usual.every_hours,
    )
