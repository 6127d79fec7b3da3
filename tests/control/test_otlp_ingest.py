"""OTLP over HTTP: what is acknowledged is stored, what is wrong is refused."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from penstock.base.errors import InvalidInput
from penstock.control.api import otlp
from penstock.control.api.otlp import Gunzip, read_body
from penstock.control.app import create_control
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.edge import Edge, SnapshotEdge
from penstock.telemetry.errors import SpoolUnavailable
from penstock.traces import ingest
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import DirectSpool, Furnished, IdleCollector

PROTOBUF = {"content-type": "application/x-protobuf"}


def make_export(trace_id: bytes = bytes(range(16))) -> bytes:
    """One span of a client's own program."""
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = trace_id, bytes(range(8)), "plan trip"
    span.start_time_unix_nano, span.end_time_unix_nano = 1_000_000_000, 2_000_000_000
    return message.SerializeToString()


def test_protobuf_is_stored_before_it_is_acknowledged(owner: AsgiClient, furnished: Furnished) -> None:
    reply = owner.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-protobuf")
    assert not ExportTraceServiceResponse.FromString(reply.body).HasField("partial_success")
    stored = furnished.spans.get_trace(bytes(range(16)).hex())
    assert [span.name for span in stored] == ["plan trip"]
    assert stored[0].key_id is not None


def test_gzip_and_json_are_understood(owner: AsgiClient, furnished: Furnished) -> None:
    packed = gzip.compress(make_export(bytes(range(1, 17))))
    assert (
        owner.send("POST", "/v1/traces", body=packed, headers={**PROTOBUF, "content-encoding": "gzip"}).status
        == 200
    )
    span = {
        "traceId": "0a" * 16,
        "spanId": "0b" * 8,
        "name": "x",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    reply = owner.send("POST", "/v1/traces", body=body, headers={"content-type": "application/json"})
    assert (reply.status, reply.json()) == (200, {})
    assert len(furnished.spans.get_trace("0a" * 16)) == 1


def test_spans_that_cannot_be_stored_are_named_as_partial_success(
    owner: AsgiClient, furnished: Furnished
) -> None:
    message = ExportTraceServiceRequest.FromString(make_export(bytes(range(2, 18))))
    spans = message.resource_spans[0].scope_spans[0].spans
    spans.add(name="without ids", start_time_unix_nano=5)
    reply = owner.send("POST", "/v1/traces", body=message.SerializeToString(), headers=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(reply.body).partial_success
    assert (reply.status, told.rejected_spans) == (200, 1)
    assert "without ids" in told.error_message
    assert len(furnished.spans.get_trace(bytes(range(2, 18)).hex())) == 1


def test_a_gzip_bomb_is_given_up_at_the_limit(owner: AsgiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_REQUEST_BYTES", 1024 * 1024)
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    headers = {**PROTOBUF, "content-encoding": "gzip"}
    assert owner.send("POST", "/v1/traces", body=bomb, headers=headers).status == 413


def test_gzip_of_several_members_is_one_body(owner: AsgiClient, furnished: Furnished) -> None:
    ids = [bytes([number] * 16) for number in (1, 2)]
    body = b"".join(gzip.compress(make_export(trace_id)) for trace_id in ids)
    headers = {**PROTOBUF, "content-encoding": "gzip"}
    assert owner.send("POST", "/v1/traces", body=body, headers=headers).status == 200
    assert [len(furnished.spans.get_trace(trace_id.hex())) for trace_id in ids] == [1, 1]


class Arriving:
    """A request whose body comes chunk by chunk, and perhaps stops."""

    def __init__(self, *chunks: bytes, encoding: str = "gzip", stalls: bool = False) -> None:
        self.headers = {"content-encoding": encoding}
        self._chunks = chunks
        self._stalls = stalls

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._stalls:
            await asyncio.Event().wait()


def test_gzip_that_holds_nothing_counts_as_what_is_on_the_wire() -> None:
    grown: list[int] = []
    chunks = [gzip.compress(b"") * 1000] * 3
    assert asyncio.run(read_body(Arriving(*chunks), grown.append)) == b""  # type: ignore[arg-type]
    assert sum(grown) == sum(map(len, chunks))


def test_a_sender_that_stalls_gives_its_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "PAUSE_S", 0.02)
    stalled = Arriving(b"beginning", encoding="identity", stalls=True)
    with pytest.raises(otlp.BodyStalled):
        asyncio.run(read_body(stalled, lambda n_bytes: None))  # type: ignore[arg-type]


def test_what_follows_a_gzip_body_is_refused_at_once() -> None:
    inflate = Gunzip()
    assert b"".join(inflate.pieces(gzip.compress(b"x"))) == b"x"
    with pytest.raises(InvalidInput):
        list(inflate.pieces(bytes(64 * 1024)))


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"not gzip", {**PROTOBUF, "content-encoding": "gzip"}, 400),
        (zlib.compress(b"x")[:4], {**PROTOBUF, "content-encoding": "gzip"}, 400),
        (gzip.compress(make_export(), mtime=0)[:-12], {**PROTOBUF, "content-encoding": "gzip"}, 400),
        (b"", {**PROTOBUF, "content-encoding": "br"}, 415),
        (b"a=b", {"content-type": "text/plain"}, 415),
        (b"\xff\xff\xff", PROTOBUF, 400),
        (b"{", {"content-type": "application/json"}, 400),
    ],
)
def test_what_is_not_otlp_is_refused(
    owner: AsgiClient, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert owner.send("POST", "/v1/traces", body=body, headers=headers).status == status


def test_nothing_is_acknowledged_when_the_spool_is_full(furnished: Furnished) -> None:
    class FullSpool(DirectSpool):
        def append_durable(self, payloads: Sequence[bytes], values: Sequence[Any] | None = None) -> None:
            raise SpoolUnavailable("The spool could not store the records.")

    client = client_of(furnished, FullSpool(furnished.spans), IdleCollector())
    reply = client.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF)
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"


@pytest.mark.parametrize("is_full", [False, True])
def test_small_requests_are_answered_as_large_ones_are(
    furnished: Furnished, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    class FullSpool(DirectSpool):
        def append_durable(self, payloads: Sequence[bytes], values: Sequence[Any] | None = None) -> None:
            raise SpoolUnavailable("The spool could not store the records.")

    partly = ExportTraceServiceRequest.FromString(make_export(bytes(range(9, 25))))
    partly.resource_spans[0].scope_spans[0].spans.add(name="without ids", start_time_unix_nano=5)
    bodies = (make_export(bytes(range(8, 24))), partly.SerializeToString(), b"\xff\xff")
    told = []
    for small_bytes in (otlp.SMALL_BYTES, -1):
        monkeypatch.setattr(otlp, "SMALL_BYTES", small_bytes)
        spool = FullSpool(furnished.spans) if is_full else DirectSpool(furnished.spans)
        counters = IngestCounters()
        client = client_of(furnished, spool, IdleCollector(), counters=counters)
        replies = [client.send("POST", "/v1/traces", body=body, headers=PROTOBUF) for body in bodies]
        told.append(([(reply.status, reply.body) for reply in replies], counters.read()))
    assert told[0] == told[1]
    assert [status for status, _ in told[0][0]] == [503 if is_full else 200] * 2 + [400]


def test_small_requests_are_held_too_while_storing_falls_behind(furnished: Furnished) -> None:
    held: list[float] = []

    class BehindCollector(IdleCollector):
        waiting_bytes = 0

        def wait_for_room(self, timeout_s: float) -> None:
            held.append(timeout_s)

    collector = BehindCollector()
    client = client_of(furnished, DirectSpool(furnished.spans), collector)
    assert client.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF).status == 200
    assert held == []
    collector.waiting_bytes = ingest.CALM_BYTES + 1
    assert client.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF).status == 200
    assert len(held) == 1
    assert 0 < held[0] < ingest.MAX_HOLD_S, "counted from when it came"


def client_of(
    furnished: Furnished, spool: Any, collector: Any, counters: IngestCounters | None = None, **bounds: Any
) -> AsgiClient:
    """A client of a control application whose ingest works on these."""
    service = ingest.IngestService(
        spool, collector, SnapshotEdge(Path("none"), Edge()), counters or IngestCounters(), **bounds
    )
    app = create_control(replace(furnished.services, ingest=service))
    return AsgiClient(app, bearer=furnished.owner_key)


def test_while_too_much_waits_senders_are_told_when_to_come_again(
    furnished: Furnished, caplog: pytest.LogCaptureFixture
) -> None:
    class BehindCollector(IdleCollector):
        waiting_bytes = 30 * 1024 * 1024

    client = client_of(
        furnished, DirectSpool(furnished.spans), BehindCollector(), max_waiting_bytes=10 * 1024 * 1024
    )
    reply = client.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF)
    assert (reply.status, reply.json()["error"]["code"]) == (503, "PS-4652")
    assert 10 <= int(reply.headers["retry-after"]) <= 60
    assert "request failed" not in caplog.messages, "a flood fills no log"


def test_what_is_in_hand_at_once_is_bounded_and_given_back(furnished: Furnished) -> None:
    client = client_of(furnished, DirectSpool(furnished.spans), IdleCollector(), max_in_hand_bytes=1000)
    for _ in range(20):  # each small, all together more than may be in hand
        assert client.send("POST", "/v1/traces", body=make_export(), headers=PROTOBUF).status == 200
    big = make_export() + bytes(0) + make_export() * 50
    assert client.send("POST", "/v1/traces", body=big, headers=PROTOBUF).status == 503


def test_spans_belong_to_the_project_of_the_key_that_sends_them(app: Any, furnished: Furnished) -> None:
    key = furnished.services.keys.create("shop", ["owner"], project="shop").key
    trace_id = bytes(range(3, 19))
    AsgiClient(app, bearer=key).send("POST", "/v1/traces", body=make_export(trace_id), headers=PROTOBUF)
    assert [span.project for span in furnished.spans.get_trace(trace_id.hex())] == ["shop"]


def test_metrics_are_refused_in_part_so_that_nobody_tries_for_ever(owner: AsgiClient) -> None:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="gen_ai.client.token.usage")
    metric.sum.data_points.add(as_int=1)
    metric.sum.data_points.add(as_int=2)
    reply = owner.send("POST", "/v1/metrics", body=message.SerializeToString(), headers=PROTOBUF)
    told = ExportMetricsServiceResponse.FromString(reply.body).partial_success
    assert (reply.status, told.rejected_data_points) == (200, 2)
    assert "spans" in told.error_message


def test_everything_is_counted(owner: AsgiClient, furnished: Furnished) -> None:
    headers = {**PROTOBUF, "x-penstock-dropped": "7"}
    owner.send("POST", "/v1/traces", body=make_export(bytes(range(4, 20))), headers=headers)
    owner.send("POST", "/v1/traces", body=b"\xff\xff", headers=PROTOBUF)
    counts = furnished.services.record_health().counts
    assert counts["taken"]["traces http"] >= 1
    assert counts["dropped"]["spans lost by their sender"] == 7
    assert counts["refused"]["traces that are not OTLP"] >= 1
