"""What `penstock doctor` says about the record: store, spool, counters of what was lost, ages, erasures that wait."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from sqlalchemy import func, select

from penstock.base.clock import iso_from_ns
from penstock.base.errors import PenstockError
from penstock.main.instance import running_instance
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from penstock.store.control.tables.privacy import privacy_erasures
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.segments import list_segments
from penstock.telemetry.spool import SpoolReader
from penstock.traces.upkeep.retention import RetentionState

LAGGING_BYTES = 64 * 1024 * 1024


class Told(NamedTuple):
    """One thing that was looked at; `is_bad` None is a note."""

    what: str
    is_bad: bool | None
    detail: str
    cure: str | None = None


def examine_record(home: Home) -> Iterator[Told]:
    """Yield what there is to say; changes nothing."""
    yield from _examine_store(home)
    yield from _examine_spool(home)
    yield from _examine_losses(home)
    yield from _examine_upkeep(home)


def _examine_store(home: Home) -> Iterator[Told]:
    if not home.span_db.exists():
        return
    size = f"{home.span_db.stat().st_size / 1e6:.1f} MB"
    if running_instance(home) is not None:
        yield Told("span store", False, f"{size}, open in the control process")
        return
    try:
        file = DuckDBFile(home.span_db, read_only=True)
    except PenstockError as error:
        yield Told("span store", True, error.message, error.hint)
        return
    try:
        with file.cursor() as cursor:
            counted = cursor.execute("SELECT count(*) FROM spans").fetchall()[0][0]
        yield Told("span store", False, f"{size}, {counted:,} spans")
    finally:
        file.close()


def _examine_spool(home: Home) -> Iterator[Told]:
    if not home.spool.exists():
        return
    waiting = n_folders = n_unreadable = 0
    for folder in sorted(path for path in home.spool.iterdir() if path.is_dir()):
        try:
            waiting += SpoolReader(folder).waiting_bytes
            n_folders += bool(list_segments(folder))
        except OSError:
            n_unreadable += 1
    is_late = waiting > LAGGING_BYTES
    yield Told(
        "spool",
        None if is_late else False,
        f"{waiting / 1e6:.1f} MB of {n_folders} writers wait to be stored",
        "They are stored while the control process runs; its log says if that fails." if is_late else None,
    )
    if n_unreadable:
        yield Told(
            "spool", True, f"{n_unreadable} folders cannot be read", f"Look at the rights of {home.spool}."
        )


def _examine_losses(home: Home) -> Iterator[Told]:
    lost = IngestCounters(home.run / "ingest.json").read().get("dropped", {})
    if lost:
        told = ", ".join(f"{n:,} {name}" for name, n in lost.items())
        yield Told("lost spans", None, told, "The console says more under Settings, Record.")


def _examine_upkeep(home: Home) -> Iterator[Told]:
    state = _read_state(home)
    if state is not None and state.last is not None:
        when = iso_from_ns(state.last.finished_ns)[:16].replace("T", " ")
        gone = f"{when}: {state.last.n_spans:,} spans and {state.last.n_payloads:,} payloads went"
        yield Told("retention", state.last.error is not None, state.last.error or gone)
    rooms = Rooms(home, keeps_running=True)
    try:
        with rooms.engine.connect() as connection:
            n_waiting = connection.execute(
                select(func.count()).where(privacy_erasures.c.state != "done")
            ).scalar_one()
    finally:
        rooms.close()
    if n_waiting:
        cure = (
            None
            if running_instance(home)
            else f"They are carried out while it runs: penstock up{home.option}"
        )
        yield Told("erasures", None, f"{n_waiting} wait to be carried out", cure)


def _read_state(home: Home) -> RetentionState | None:
    try:
        return msgspec.json.decode((home.root / "retention.json").read_bytes(), type=RetentionState)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None
