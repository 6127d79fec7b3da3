"""What processes do that the tests of kills and full disks end at every step: record, tidy, copy, erase, migrate, map.

Each function is one life over one home. What was acknowledged is noted in a file outside of the home.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config

from penstock.base.errors import PenstockError
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.main.backup import back_up
from penstock.main.control_process import run_control
from penstock.main.recording import Recording
from penstock.main.rooms import Rooms
from penstock.main.trace_settings import ForwardSettings, TraceSettings
from penstock.main.upkeeping import create_upkeep
from penstock.spec.home import Home
from penstock.spec.snapshot import Snapshot
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.store.control.engine import MIGRATIONS, open_control
from penstock.store.spans import duckdb_file
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.upkeep import DuckDBScan, DuckDBUpkeep
from penstock.store.spans.upkeep_types import RetentionRule, Subject
from penstock.telemetry.encode import encode_span
from penstock.telemetry.errors import SpoolUnavailable
from penstock.telemetry.otlp import JSON
from penstock.telemetry.spool import open_writer
from penstock.traces.collector import Collector
from penstock.traces.remap import remap_history
from penstock.traces.upkeep.service import UpkeepService
from tests.fixtures.mortal.moments import die
from tests.fixtures.spans import T0, make_span
from tests.telemetry.test_otlp_logs import record as log_record
from tests.telemetry.test_otlp_logs import request_of as logs_of

N_REQUESTS = 5
TEXT = "how far is it to the next well? " * 40
USER = "mira.quist@example.org"
SECRET = "my knee has hurt since the seventh of May"


def settings_of(forward_url: str | None = None) -> TraceSettings:
    """Return settings without gRPC, sending on to `forward_url` if there is one."""
    targets = [] if forward_url is None else [ForwardSettings(name="far", url=forward_url, encoding="json")]
    return TraceSettings(forward=targets, grpc_port=0)


def prepare(root: Path) -> Home:
    """Make the folders of a home and a snapshot that lets content be kept."""
    home = Home(root=root)
    for folder in (home.run, home.spool, home.snapshot.parent):
        folder.mkdir(parents=True, exist_ok=True)
    home.snapshot.write_bytes(msgspec.json.encode(Snapshot(digest="d", written_ns=1)))
    return home


class Notes:
    """What was acknowledged, one line each, written so that a kill loses no line."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, text: object) -> None:
        """Note one thing."""
        os.write(self._file, f"{text}\n".encode())


def trace_of(number: int) -> str:
    """Return the trace that the request `number` is about; two follow each other in one."""
    return f"{number // 2 + 1:032x}"


def sent_span(number: int, *, is_done: bool) -> dict[str, Any]:
    """Return a step in OTLP, begun or done."""
    span: dict[str, Any] = {
        "traceId": trace_of(number),
        "spanId": f"{number:016x}",
        "name": f"step {number}",
        "startTimeUnixNano": str(T0 + number),
        "attributes": [
            {"key": "gen_ai.prompt", "value": {"stringValue": f"{number}: {TEXT}"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        ],
    }
    if is_done:
        span |= {"endTimeUnixNano": str(T0 + number + 1000), "status": {"code": 1}}
    return span


def request(number: int) -> bytes:
    """Return a request that begins step `number` and ends the one before it."""
    spans = [sent_span(number, is_done=False)]
    if number > 1:
        spans.append(sent_span(number - 1, is_done=True))
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def event_request(number: int, text: str) -> bytes:
    """Return an event about step `number`."""
    event = log_record(
        "gen_ai.user.message",
        {"content": text},
        traceId=trace_of(number),
        spanId=f"{number:016x}",
    )
    return json.dumps(logs_of(event)).encode()


def gateway_span(number: int) -> Span:
    """Return a span as a gateway writes it."""
    return make_span(1000 + number, trace=900 + number, kind="llm", input=TEXT, output="far")


def record(root: str, notes: str, forward_url: str | None = None) -> None:
    """Take requests, events and spans of a gateway, store them, send them on; then stop in order."""
    home, told = prepare(Path(root)), Notes(notes)
    recording = Recording(home, settings_of(forward_url))
    gateway = open_writer(home.spool, "gateway")

    def take(what: str, signal: Any, body: bytes) -> None:
        try:
            recording.ingest.take(signal, body, JSON, way="http", project="shop")
        except SpoolUnavailable:
            return  # the sender is told, and tries again; here it does not
        told.add(what)

    for number in range(1, N_REQUESTS + 1):
        take(f"event {number}", "logs", event_request(number, "before"))
        take(f"request {number}", "traces", request(number))
        if number > 2:
            take(f"later {number - 2}", "logs", event_request(number - 2, "later"))
        lost = gateway.dropped_records + gateway.dropped_payloads
        gateway.append(encode_span(gateway_span(number)))
        gateway.flush()
        if gateway.dropped_records + gateway.dropped_payloads == lost:
            told.add(f"gateway {number}")
        if number % 2 == 0:
            collect(recording)
    collect(recording)
    recording.stop_taking()
    gateway.close()
    collect(recording)
    recording.close()


def collect(recording: Recording) -> None:
    """Store and send on what there is; a disk without room is a failure like any other, to be tried again."""
    try:
        recording.collector.run_once()
        for forwarder in recording._forwarders:
            forwarder.send_once()
    except (PenstockError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")


def fill(root: Path, n_traces: int = 30) -> list[Span]:
    """Put spans of earlier days into the home's store, in no order of time; return them."""
    home = prepare(root)
    spans = [
        make_span(
            number, trace=trace, kind="llm", input=f"{trace} {TEXT}", project="old" if trace % 3 else "shop",
            attributes={FOREIGN_MARK: 1, "gen_ai.request.model": "m"}, user_id=USER if trace == 4 else None,
            parent_id=f"{1:016x}" if number > 1 else None,
        )
        for trace in range(n_traces, 0, -1)
        for number in (1, 2)
    ]  # fmt: skip
    store = DuckDBSpanStore(home.span_db)
    for start in range(0, len(spans), 20):
        store.append(spans[start : start + 20])
    store.close()
    return spans


@contextmanager
def open_store(root: str) -> Iterator[DuckDBSpanStore]:
    """Open the store of a home and close it."""
    store = DuckDBSpanStore(Home(root=Path(root)).span_db)
    try:
        yield store
    finally:
        store.close()


def compact(root: str) -> None:
    """Write the span file anew."""
    with open_store(root) as store:
        DuckDBUpkeep(store.file).compact()


def checkpoint(root: str) -> None:
    """Append, and bring what was appended from the log into the file."""
    with open_store(root) as store:
        store.append([make_span(1, trace=500, input=TEXT)])
        with store.file.paused_writes() as cursor:
            cursor.execute("CHECKPOINT").fetchall()
        store.append([make_span(1, trace=501, input=TEXT)])


def checkpoint_that_dies(root: str, where: str) -> None:
    """Die inside of the engine's checkpoint, where the engine itself can be told to stop."""
    duckdb_file._CONFIG["debug_checkpoint_abort"] = where  # type: ignore[attr-defined]
    store = DuckDBSpanStore(Home(root=Path(root)).span_db)
    store.append([make_span(1, trace=500, input=TEXT)])
    try:
        with store.file.paused_writes() as cursor:
            cursor.execute("CHECKPOINT").fetchall()
    except Exception:  # the engine has stopped there; so does the process
        die()


def expire(root: str) -> None:
    """Let payloads of one project and traces of another go."""
    rules = [
        RetentionRule(project="old", spans_before_ns=T0 + 10 * 10**9),
        RetentionRule(project="shop", payloads_before_ns=T0 + 10**12),
    ]
    with open_store(root) as store:
        upkeep = DuckDBUpkeep(store.file)
        while not upkeep.expire(rules, max_spans=8).is_done:
            continue


def copy(root: str, out: str) -> None:
    """Copy the span file."""
    with open_store(root) as store:
        DuckDBUpkeep(store.file).back_up(Path(out))


def copy_home(root: str, out: str) -> None:
    """Back the whole home up."""
    back_up(Home(root=Path(root)), Path(out), environ={})


def remap(root: str) -> None:
    """Map history anew."""
    with open_store(root) as store:
        remap_history(DuckDBScan(store.file), store)


def migrate(root: str) -> None:
    """Open the span file, which brings it up to date."""
    with open_store(root):
        pass


def old_control(url: str, revision: str) -> None:
    """Make a control database as an older program left it."""
    engine = open_control(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


def migrate_control(url: str) -> None:
    """Open the control database, which brings it up to date."""
    open_control(url).dispose()


@contextmanager
def open_upkeep(home: Home) -> Iterator[tuple[DuckDBSpanStore, UpkeepService]]:
    """Open a home's store with what looks after it."""
    rooms = Rooms(home, environ={})
    store = DuckDBSpanStore(home.span_db)
    collector = Collector(home.spool, store, source=store)
    upkeep = create_upkeep(rooms, store, collector, ResponseCacheService(home.cache, lambda: None, {}))
    try:
        yield store, upkeep
    finally:
        collector.close()
        store.close()
        rooms.close()


def erase(root: str) -> None:
    """Ask for the erasure of a user and carry it out."""
    with open_upkeep(Home(root=Path(root))) as (_, upkeep):
        upkeep.erasures.submit(Subject(kind="user", id=USER), reason="ticket 4711", actor="admin")
        upkeep.erasures.carry_out_waiting()


def control(root: str, port: int) -> None:
    """Be the control process."""
    run_control(Home(root=Path(root)), host="127.0.0.1", port=port)
