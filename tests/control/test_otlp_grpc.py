"""OTLP over gRPC on a real port: the same as over HTTP, with gRPC's own way of saying no."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from penstock.control import otlp_grpc
from penstock.control.otlp_grpc import GrpcIngest, PortUnusable
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.edge import Edge, SnapshotEdge
from penstock.traces.ingest import MAX_HOLD_S, IngestService
from tests.control.test_otlp_ingest import make_export
from tests.fixtures.furnished import DirectSpool, Furnished, IdleCollector


class Behind(IdleCollector):
    waiting_bytes = 0

    def __init__(self) -> None:
        self.held: list[float] = []

    def wait_for_room(self, timeout_s: float) -> None:
        self.held.append(timeout_s)


@pytest.fixture
def collector() -> Behind:
    return Behind()


@pytest.fixture
def service(furnished: Furnished, collector: Behind) -> IngestService:
    edge = SnapshotEdge(Path("none"), Edge())
    return IngestService(
        DirectSpool(furnished.spans), collector, edge, IngestCounters(), max_waiting_bytes=1000
    )


@pytest.fixture
def channel(furnished: Furnished, service: IngestService) -> Iterator[grpc.Channel]:
    server = GrpcIngest(furnished.services.keys, service)
    port = server.start("127.0.0.1", 0)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(grace_s=0)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def export(channel: grpc.Channel, body: bytes, key: str, **options: Any) -> Any:
    request = ExportTraceServiceRequest.FromString(body)
    return TraceServiceStub(channel).Export(request, metadata=bearer(key), timeout=120, **options)


def test_spans_are_stored_before_they_are_acknowledged(
    channel: grpc.Channel, furnished: Furnished, service: IngestService
) -> None:
    trace_id = bytes(range(5, 21))
    reply = export(channel, make_export(trace_id), furnished.owner_key, compression=grpc.Compression.Gzip)
    assert not reply.HasField("partial_success")
    assert [span.name for span in furnished.spans.get_trace(trace_id.hex())] == ["plan trip"]
    assert service.counters.get("taken", "traces grpc") == 1
    assert service.record_health().grpc_address is not None


def test_what_cannot_be_stored_is_named_as_partial_success(
    channel: grpc.Channel, furnished: Furnished
) -> None:
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().spans.add(name="without ids")
    reply = export(channel, message.SerializeToString(), furnished.owner_key)
    assert reply.partial_success.rejected_spans == 1
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "a line"
    told = LogsServiceStub(channel).Export(logs, metadata=bearer(furnished.owner_key), timeout=120)
    assert told.partial_success.rejected_log_records == 1


def test_a_key_with_the_permission_is_needed(channel: grpc.Channel, furnished: Furnished) -> None:
    metrics_key = furnished.services.keys.create("monitoring", ["metrics"]).key
    for key, code in (
        ("ps-unknown", grpc.StatusCode.UNAUTHENTICATED),
        ("", grpc.StatusCode.UNAUTHENTICATED),
        (metrics_key, grpc.StatusCode.PERMISSION_DENIED),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            export(channel, make_export(), key)
        assert caught.value.code() == code  # type: ignore[attr-defined]


def test_under_pressure_senders_are_told_when_to_come_again(
    channel: grpc.Channel, furnished: Furnished, collector: Behind
) -> None:
    collector.waiting_bytes = 5000
    with pytest.raises(grpc.RpcError) as caught:
        export(channel, make_export(), furnished.owner_key)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]  # type: ignore[attr-defined]
    status = Status.FromString(details)
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds >= 1
    collector.waiting_bytes = 0
    export(channel, make_export(), furnished.owner_key)


def test_time_that_a_call_waits_for_a_thread_counts_as_held(
    channel: grpc.Channel, furnished: Furnished, collector: Behind
) -> None:
    export(channel, make_export(), furnished.owner_key)
    assert len(collector.held) == 1
    assert 0 < collector.held[0] < MAX_HOLD_S
    may_go = threading.Event()
    with otlp_grpc._Threads(1) as threads:
        threads.submit(may_go.wait)
        before_s = time.monotonic()
        second = threads.submit(lambda: otlp_grpc._this_call.came_s)
        after_s = time.monotonic()
        may_go.set()
        came_s = second.result()
    assert came_s is not None
    assert before_s <= came_s <= after_s


def test_bytes_that_are_not_otlp_are_refused(channel: grpc.Channel, furnished: Furnished) -> None:
    call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", metadata=bearer(furnished.owner_key), timeout=120)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_a_port_that_is_taken_is_not_shared(furnished: Furnished, service: IngestService) -> None:
    first = GrpcIngest(furnished.services.keys, service)
    port = first.start("127.0.0.1", 0)
    with pytest.raises(PortUnusable):
        GrpcIngest(furnished.services.keys, service).start("127.0.0.1", port)
    first.stop(grace_s=0)
