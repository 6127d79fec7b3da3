"""Everything between a span that arrives and the store that keeps it, put together for the control process."""

import logging
import os
import threading
from collections.abc import Mapping

from penstock.access.keys import KeyService
from penstock.control.otlp_grpc import GrpcIngest, PortUnusable
from penstock.main.trace_settings import TraceSettings
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.port import SpanSink
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.edge import SnapshotEdge
from penstock.telemetry.spool import open_writer
from penstock.traces.collector import Collector
from penstock.traces.estimates import CostEstimates, EstimatingSink
from penstock.traces.forward import Forwarder, ForwardTarget, read_headers, read_mark
from penstock.traces.ingest import IngestService
from penstock.traces.live_folder import LiveFolder

GRPC_PORT = 4317
"""Where OpenTelemetry SDKs look for a collector unless told otherwise."""
FORWARD_STOP_S = 1.0
_log = logging.getLogger("penstock.control")


class Recording:
    """The span store, the spool of this process, the collector and what takes requests."""

    def __init__(self, home: Home, settings: TraceSettings) -> None:
        self._settings = settings
        self.store = DuckDBSpanStore(home.span_db)
        self.counters = IngestCounters(home.run / "ingest.json")
        live = LiveFolder()
        self.spool = open_writer(home.spool, "control", taker=live.take)
        live.watch(self.spool.folder)
        self._forwarders = create_forwarders(home, settings, os.environ)
        self.collector = Collector(
            home.spool,
            self._sink(home),
            live=live,
            source=self.store,
            counters=self.counters,
            taps=[forwarder.tap for forwarder in self._forwarders],
        )
        self.ingest = IngestService(
            self.spool,
            self.collector,
            SnapshotEdge(home.snapshot),
            self.counters,
            max_waiting_bytes=settings.max_waiting_bytes,
        )
        self.ingest.list_forwards = lambda: tuple(forwarder.health for forwarder in self._forwarders)
        self._grpc: GrpcIngest | None = None
        self._stopping = threading.Event()
        self._sending = [
            threading.Thread(target=forwarder.run, args=(self._stopping,), name="forward", daemon=True)
            for forwarder in self._forwarders
        ]

    def _sink(self, home: Home) -> SpanSink:
        if not self._settings.estimate_cost:
            return self.store
        return EstimatingSink(self.store, CostEstimates(home.snapshot))

    def start_forwarding(self) -> None:
        """Send stored spans on to where the settings say."""
        for thread in self._sending:
            thread.start()

    def start_grpc(self, keys: KeyService, host: str) -> None:
        """Take OTLP over gRPC too, unless the settings say no; a port that is taken is told and stops nothing."""
        port = GRPC_PORT if self._settings.grpc_port is None else self._settings.grpc_port
        if self._settings.grpc_port == 0:
            return
        server = GrpcIngest(keys, self.ingest)
        try:
            server.start(host, port)
        except PortUnusable as error:
            self.ingest.grpc_problem = error.message
            _log.warning("OTLP over gRPC is not taken", extra={"reason": error.message})
            return
        self._grpc = server

    @property
    def grpc_warning(self) -> str | None:
        """Why gRPC is not taken though the settings ask for it by name."""
        return None if self._settings.grpc_port is None else self.ingest.grpc_problem

    def stop_taking(self) -> None:
        """Take no more; what was taken is on disk, and stored by the collector's last round."""
        self._stopping.set()
        if self._grpc is not None:
            self._grpc.stop()
        self.spool.close()

    def close(self) -> None:
        """Let go of the files."""
        self.collector.close()
        for thread in self._sending:
            if thread.is_alive():
                thread.join(FORWARD_STOP_S)  # what it has in hand is sent again after the next start
        for forwarder in self._forwarders:
            forwarder.close()
        self.counters.save(is_last=True)
        self.store.close()


def create_forwarders(home: Home, settings: TraceSettings, environ: Mapping[str, str]) -> list[Forwarder]:
    """Return what sends spans on, one for each target of the settings."""
    if not settings.forward:
        return []
    mark = read_mark(home.forward)
    return [
        Forwarder(
            ForwardTarget(
                name=target.name,
                url=target.url,
                headers=read_headers(environ.get(target.headers_env or "", "")),
                encoding=target.encoding,
                payloads=target.payloads,
                projects=frozenset(target.projects),
                max_waiting_bytes=target.max_waiting_bytes,
            ),
            home.forward / target.name,
            mark=mark,
        )
        for target in settings.forward
    ]
