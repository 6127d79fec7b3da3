"""OpenTelemetry's own exporters send here as they are: HTTP with protobuf and JSON, plain and gzip, and gRPC; spans and events."""

import socket
import time
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter as JsonLogExporter
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, StatusCode

from penstock.telemetry.otlp import LOG_EVENTS
from tests.instrumentors.receiver import Receiver, texts_of


def over_protobuf(receiver: Receiver) -> SpanExporter:
    return HttpExporter(endpoint=f"{receiver.url}/v1/traces", headers=bearer(receiver.key))


def over_protobuf_gzip(receiver: Receiver) -> SpanExporter:
    return HttpExporter(
        endpoint=f"{receiver.url}/v1/traces", headers=bearer(receiver.key), compression=Compression.Gzip
    )


def over_json(receiver: Receiver) -> SpanExporter:
    return JsonExporter(endpoint=f"{receiver.url}/v1/traces", headers=bearer(receiver.key))


def over_grpc(receiver: Receiver) -> SpanExporter:
    return GrpcExporter(endpoint=f"http://{receiver.grpc}", insecure=True, headers=bearer(receiver.key))


def over_grpc_gzip(receiver: Receiver) -> SpanExporter:
    return GrpcExporter(
        endpoint=receiver.grpc, insecure=True, headers=bearer(receiver.key), compression=grpc.Compression.Gzip
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


every_way = pytest.mark.parametrize(
    "way", [over_protobuf, over_protobuf_gzip, over_json, over_grpc, over_grpc_gzip]
)


def leave_trace(exporter: SpanExporter) -> None:
    resource = Resource(
        {"service.name": "shop", "service.version": "2.1", "deployment.environment.name": "test"}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("my.tracer", "3")
    with tracer.start_as_current_span("plan trip") as root:
        root.set_attribute("session.id", "s1")
        root.set_attribute("user.id", "ada")
        with tracer.start_as_current_span("chat gpt", links=[Link(root.get_span_context())]) as model:
            for name, value in {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-x",
                "gen_ai.usage.input_tokens": 12,
                "gen_ai.usage.output_tokens": 3,
                "gen_ai.response.finish_reasons": ["stop"],
                "my.ratio": 0.5,
                "my.flag": True,
            }.items():
                model.set_attribute(name, value)
            model.add_event("retried", {"attempt": 2})
            model.set_status(StatusCode.ERROR, "it broke")
    assert provider.force_flush()
    provider.shutdown()


@every_way
def test_a_trace_arrives_whole(receiver: Receiver, way: Any) -> None:
    receiver.take()
    leave_trace(way(receiver))
    root, model = receiver.take()
    assert (root.name, root.parent_id, root.session_id, root.user_id) == ("plan trip", None, "s1", "ada")
    assert (model.name, model.kind, model.parent_id) == ("chat gpt", "llm", root.span_id)
    assert (model.provider, model.model) == ("openai", "gpt-x")
    assert model.usage is not None
    assert (model.usage.input_tokens, model.usage.output_tokens) == (12, 3)
    assert (model.status, model.status_message) == ("error", "it broke")
    assert (model.service, model.release, model.environment) == ("shop", "2.1", "test")
    assert model.scope == "my.tracer 3"
    assert [(event.name, event.attributes) for event in model.events] == [("retried", {"attempt": 2})]
    assert [link.span_id for link in model.links] == [root.span_id]
    assert (model.attributes["my.ratio"], model.attributes["my.flag"]) == (0.5, True)
    assert model.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert model.start_ns >= root.start_ns
    assert (model.end_ns or 0) <= (root.end_ns or 0)


def events_over_protobuf(receiver: Receiver) -> LogRecordExporter:
    return HttpLogExporter(
        endpoint=f"{receiver.url}/v1/logs", headers=bearer(receiver.key), compression=Compression.Gzip
    )


def events_over_json(receiver: Receiver) -> LogRecordExporter:
    return JsonLogExporter(endpoint=f"{receiver.url}/v1/logs", headers=bearer(receiver.key))


def events_over_grpc(receiver: Receiver) -> LogRecordExporter:
    return GrpcLogExporter(endpoint=receiver.grpc, insecure=True, headers=bearer(receiver.key))


def leave_events(exporter: LogRecordExporter) -> None:
    """Say as events what went in and out of the span that is open, and how good it was."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("my.events")
    said = [{"role": "user", "parts": [{"type": "text", "content": "Where is the well?"}]}]
    answer = [
        {"role": "assistant", "parts": [{"type": "text", "content": "Behind."}], "finish_reason": "stop"}
    ]
    for name, attributes in {
        "gen_ai.client.inference.operation.details": {
            "gen_ai.input.messages": said,
            "gen_ai.output.messages": answer,
        },
        "gen_ai.evaluation.result": {
            "gen_ai.evaluation.name": "useful",
            "gen_ai.evaluation.score.value": 0.75,
        },
    }.items():
        now = time.time_ns()
        logger.emit(LogRecord(event_name=name, timestamp=now, attributes=attributes))  # type: ignore[arg-type]
    logger.emit(LogRecord(body="a line for people", timestamp=time.time_ns()))
    assert provider.force_flush()
    provider.shutdown()


@pytest.mark.parametrize("way", [events_over_protobuf, events_over_json, events_over_grpc])
def test_events_arrive_for_the_span_that_they_name(receiver: Receiver, way: Any) -> None:
    """What becomes of them once the span is there is the collector's: see tests/traces/test_late_events.py."""
    receiver.take()
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("my.tracer").start_as_current_span("chat gpt") as span:
        leave_events(way(receiver))
    provider.shutdown()
    of_span, judged = sorted(receiver.take(), key=lambda span: len(span.scores))
    context = span.get_span_context()
    assert (of_span.trace_id, of_span.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert LOG_EVENTS in of_span.attributes
    [details] = of_span.events
    assert "Where is the well?" in texts_of(details.attributes["gen_ai.input.messages"])
    assert "Behind." in texts_of(details.attributes["gen_ai.output.messages"])
    [score] = judged.scores
    assert (judged.parent_id, score.name, score.value) == (of_span.span_id, "useful", 0.75)


@pytest.mark.parametrize("way", [over_protobuf, over_json, over_grpc])
def test_a_wrong_key_is_refused_and_nothing_stored(
    receiver: Receiver, way: Any, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.take()
    wrong = Receiver(url=receiver.url, grpc=receiver.grpc, key="ps-nobody-knows-this", store=receiver.store)
    exporter = way(wrong)
    provider = TracerProvider(shutdown_on_exit=False)
    span = provider.get_tracer("x").start_span("x")
    span.end()
    assert exporter.export([span]) is SpanExportResult.FAILURE
    exporter.shutdown()
    provider.shutdown()
    assert receiver.take() == []


def test_the_environment_alone_is_enough(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{receiver.key}")
    receiver.take()
    leave_trace(HttpExporter())
    assert [span.name for span in receiver.take()] == ["plan trip", "chat gpt"]


def test_the_sockets_are_local(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", int(receiver.grpc.rpartition(":")[2])), timeout=5):
        pass
