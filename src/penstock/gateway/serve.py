"""Runs one gateway worker: socket shared by port, uvicorn on uvloop, drain and flush at the end."""

import gc
import logging
import os
import resource
import socket
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import uvicorn

from penstock.base.errors import ConflictError, PenstockError
from penstock.deploy.followed import write_followed
from penstock.gateway.app import create_gateway
from penstock.gateway.health import HealthBoard
from penstock.gateway.journal import open_journal, recover_journals
from penstock.gateway.metering.families import ERRORS
from penstock.gateway.metrics import Metrics
from penstock.gateway.metrics_page import is_loopback
from penstock.gateway.opened_secrets import SecretOpener
from penstock.gateway.protocol import Guard, ListenerLimits
from penstock.providers.prices import PriceBook
from penstock.spec.home import Home
from penstock.spec.spans import Span
from penstock.store.counters import CounterStore
from penstock.store.files import FileStore
from penstock.store.response_cache import ResponseStore
from penstock.store.sealing import master_key_path
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.recorder import SpanRecorder
from penstock.telemetry.spool import SpoolWriter, open_writer

_RECOVERY_EVERY_S = 5.0
_MOST_FILES = 65_536
_FILES_FOR_OTHERS = 4096
"""Kept for connections to providers and for files."""
_log = logging.getLogger("penstock.gateway")


class PortTaken(ConflictError):
    """Somebody else listens on the port."""

    code = "PS-3601"


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket that other workers may share (`SO_REUSEPORT`); raise `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only on sockets that say they are TCP; with it on, each kept connection
    # would wait 40 ms between the head and the body of a reply.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Choose another with --port."
        ) from None
    listener.listen(2048)
    return listener


def raise_file_limit() -> int:
    """Let this process open as many files as it may; return how many client connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > _MOST_FILES:
        hard = max(soft, _MOST_FILES)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            soft = hard
        except (OSError, ValueError):
            _log.info("the limit of open files cannot be raised", extra={"limit": soft})
    return soft - min(soft // 2, _FILES_FOR_OTHERS)


def _count_lost(spool: SpoolWriter) -> dict[str, int]:
    return {"payload": spool.dropped_payloads, "record": spool.dropped_records}


class NotedServer(uvicorn.Server):
    """Leaves a file for as long as it serves: of workers that share a port, no answer tells who gave it."""

    def __init__(self, config: uvicorn.Config, note: Path) -> None:
        super().__init__(config)
        self._note = note

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, then say so."""
        await super().startup(sockets)
        if self.started:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.touch()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it ends, then let running calls end."""
        self._note.unlink(missing_ok=True)
        await super().shutdown(sockets)


def recover_in_background(
    folder: Path, spool: SpoolWriter, prices: PriceBook, snapshot_path: Path
) -> threading.Event:
    """Bill what dead workers left, now and every few seconds, through this worker's spool, until the event is set."""
    stop = threading.Event()

    def store(spans: Sequence[Span]) -> None:
        edge = SnapshotEdge(
            snapshot_path
        ).refresh()  # made when it is needed: most workers never find anything
        spool.append_durable([edge.admit(span)[1] for span in spans])

    def recover() -> None:
        while not stop.is_set():
            try:
                recover_journals(folder, store, prices)
            except (OSError, PenstockError):
                _log.exception("journals could not be recovered, will try again")
            stop.wait(_RECOVERY_EVERY_S)

    threading.Thread(target=recover, name="journal-recovery", daemon=True).start()
    return stop


def serve_gateway(
    home: Home,
    *,
    host: str,
    port: int,
    environ: Mapping[str, str],
    internal_key: str | None = None,
    snapshot_path: Path | None = None,
    drain_s: float = 20.0,
) -> None:
    """Serve until SIGTERM or SIGINT, then let running calls end (at most `drain_s`), then flush the spool.

    `internal_key` defaults to the content of `HOME/run/internal.key`, where that file exists.
    """
    if internal_key is None and home.internal_key.exists():
        internal_key = home.internal_key.read_text().strip()
    spool = open_writer(home.spool, "gateway")
    sink = SpanRecorder(spool)
    journal = open_journal(home.journal)
    prices = PriceBook()
    recovery = recover_in_background(home.journal, spool, prices, snapshot_path or home.snapshot)
    counters = CounterStore(home.counters)
    health = HealthBoard(home.run / "health")
    metrics = Metrics(home.run / "metrics", health=health, spans_lost=partial(_count_lost, spool))
    gateway = create_gateway(
        snapshot_path=snapshot_path or home.snapshot,
        sink=sink,
        counters=counters,
        internal_key=internal_key,
        environ=environ,
        open_secrets=SecretOpener(master_key_path(home.master_key, environ)),
        prices=prices,
        journal=journal,
        open_replies=partial(ResponseStore, home.cache),
        files=FileStore(home.files),
        health=health,
        metrics=metrics,
        metrics_open=is_loopback(host),
        note_followed=partial(write_followed, home.followed, os.getpid()),
    )
    limits = ListenerLimits(connections=raise_file_limit())
    guard = Guard(limits, note=partial(metrics.count, ERRORS))
    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http=guard.protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(drain_s)),
        backlog=2048,
    )
    listener = open_socket(host, port)
    gc.collect()
    gc.freeze()  # what is alive now lives for ever: the collector need not look at it again
    gc.set_threshold(20_000, 20, 50)
    try:
        NotedServer(config, home.ready / str(os.getpid())).run(sockets=[listener])
    finally:
        recovery.set()
        (home.followed / str(os.getpid())).unlink(missing_ok=True)
        sink.close()
        if journal is not None:
            journal.close()  # after the spool, which has freed the slots of what it wrote
        counters.close()
        listener.close()
