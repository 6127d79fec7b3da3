"""A control plane on real sockets, HTTP and gRPC, whose span store can be looked into."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn

from penstock.control.app import create_control
from penstock.control.otlp_grpc import GrpcIngest
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.types import TraceQuery
from tests.fixtures.furnished import Furnished


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Where exporters send, and what is stored of it."""

    url: str
    grpc: str
    key: str
    store: DuckDBSpanStore

    def take(self) -> list[Span]:
        """Return the spans of every trace that no earlier call returned, with their payloads, by start time."""
        found: list[Span] = []
        for row in self.store.list_traces(TraceQuery(limit=500)).rows:
            if row.trace_id in _SEEN:
                continue
            _SEEN.add(row.trace_id)
            found += [self._with_payload(span) for span in self.store.get_trace(row.trace_id)]
        return sorted(found, key=lambda span: span.start_ns)

    def _with_payload(self, span: Span) -> Span:
        payload = self.store.get_payload(span.trace_id, span.span_id)
        return msgspec.structs.replace(span, input=payload.input, output=payload.output)


_SEEN: set[str] = set()


@contextmanager
def serve(house: Furnished) -> Iterator[Receiver]:
    """Serve the control plane of `house` while inside."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_control(house.services), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    grpc = GrpcIngest(house.services.keys, house.services.ingest)
    grpc_port = grpc.start("127.0.0.1", 0)
    port = listener.getsockname()[1]
    try:
        yield Receiver(
            url=f"http://127.0.0.1:{port}",
            grpc=f"127.0.0.1:{grpc_port}",
            key=house.call_key,
            store=house.spans,
        )
    finally:
        grpc.stop(grace_s=0.1)
        server.should_exit = True
        thread.join(10)
        listener.close()


def texts_of(value: Any) -> str:
    """Return a payload as text to look for words in."""
    return msgspec.json.encode(value).decode()
