"""The way of a span through the put-together recording: in, stored, told about, sent on."""

import gzip
import json
import socket
import threading
from collections.abc import Callable
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from penstock.main.recording import Recording
from penstock.main.trace_settings import ForwardSettings, TraceSettings
from penstock.spec.home import Home
from penstock.spec.routes import PriceRow
from penstock.spec.snapshot import Snapshot
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import Usage
from penstock.telemetry.encode import encode_span
from penstock.telemetry.otlp import JSON
from tests.telemetry.test_otlp import TRACE, request_of


@pytest.fixture
def home(home: Home) -> Home:
    for folder in (home.run, home.snapshot.parent):
        folder.mkdir(parents=True, exist_ok=True)
    home.snapshot.write_bytes(msgspec.json.encode(Snapshot(digest="d", written_ns=1)))
    return home


def until(is_done: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not is_done():
        pause.wait(0.01)


def test_what_is_taken_is_stored_counted_and_sent_on(home: Home) -> None:
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            seen.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        far = ForwardSettings(
            name="far", url=f"http://127.0.0.1:{server.server_port}/v1/traces", encoding="json"
        )
        recording = Recording(home, TraceSettings(forward=[far], grpc_port=0))
        recording.start_forwarding()
        body = json.dumps(request_of({"gen_ai.request.model": "m", "what.is.this": 1})).encode()
        recording.ingest.take("traces", body, JSON, way="http", key_id="key_1", project="shop")
        recording.collector.run_once()
        until(lambda: bool(seen))
        health = recording.ingest.record_health()
        [span] = recording.store.get_trace(TRACE)
        recording.stop_taking()
        recording.close()
        server.shutdown()
    assert (span.project, span.key_id, span.model) == ("shop", "key_1", "m")
    assert health.counts["unmapped"] == {"what.is.this": 1}
    assert health.counts["taken"] == {"traces http": 1}
    assert health.collector.waiting_bytes == 0
    assert health.forwards[0].name == "far"
    again = Recording(home, TraceSettings(grpc_port=0))
    assert again.ingest.record_health().counts["taken"] == {"traces http": 1}
    again.stop_taking()
    again.close()


def test_a_port_that_is_taken_is_told_and_stops_nothing(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        recording = Recording(home, TraceSettings(grpc_port=other.getsockname()[1]))
        recording.start_grpc(None, "127.0.0.1")  # type: ignore[arg-type]
        assert "taken" in (recording.grpc_warning or "")
        assert recording.ingest.record_health().grpc_address is None
        recording.stop_taking()
        recording.close()


@pytest.mark.parametrize(("is_on", "cost"), [(True, Decimal("0.003")), (False, None)])
def test_calls_that_are_sent_in_bear_an_estimate_unless_the_settings_say_no(
    home: Home, is_on: bool, cost: Decimal | None
) -> None:
    rates = {"input_uncached": Decimal(1), "output_text": Decimal(10)}
    row = PriceRow(provider="mine", model="m-1", usd_per_million=rates)
    home.snapshot.write_bytes(msgspec.json.encode(Snapshot(digest="d", written_ns=1, prices=(row,))))
    call = Span(
        trace_id=TRACE,
        span_id="00000000000000ab",
        name="chat",
        kind="llm",
        start_ns=1,
        end_ns=2,
        provider="mine",
        model="m-1",
        usage=Usage(input_uncached=1000, output_text=200),
        attributes={FOREIGN_MARK: 2},
    )
    recording = Recording(home, TraceSettings(grpc_port=0, estimate_cost=is_on))
    recording.spool.append_durable([encode_span(call)])
    recording.collector.run_once()
    (stored,) = recording.store.get_trace(TRACE)
    recording.close()
    assert stored.cost_usd == cost
