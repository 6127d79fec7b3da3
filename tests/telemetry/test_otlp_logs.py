"""OTLP log records: judgements and events of spans are taken, plain lines are left out and counted."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from penstock.telemetry.errors import MalformedTelemetry
from penstock.telemetry.otlp import JSON, LOG_EVENTS, PROTOBUF, OtlpBatch, encode_otlp_reply
from penstock.telemetry.otlp_logs import decode_otlp_logs
from penstock.telemetry.payloads import fill_from_events
from tests.telemetry.test_otlp import SPAN, TRACE, any_value, pairs

T = 1_790_000_000_000_000_000


def record(
    name: str, attributes: dict[str, Any] | None = None, body: Any = None, **fields: Any
) -> dict[str, Any]:
    found = {
        "timeUnixNano": str(T),
        "traceId": TRACE,
        "spanId": SPAN,
        "eventName": name,
        "attributes": pairs(attributes or {}),
        **fields,
    }
    if body is not None:
        found["body"] = any_value(body)
    return found


def request_of(*records: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": pairs({"service.name": "shop"})},
                "scopeLogs": [{"scope": {"name": "lib"}, "logRecords": list(records)}],
            }
        ]
    }


def as_protobuf(request: dict[str, Any]) -> bytes:
    copy = json.loads(json.dumps(request))
    records = copy["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ids = [
        (bytes.fromhex(each.pop("traceId", "")), bytes.fromhex(each.pop("spanId", ""))) for each in records
    ]
    message = ParseDict(copy, ExportLogsServiceRequest())
    for each, (trace_id, span_id) in zip(
        message.resource_logs[0].scope_logs[0].log_records, ids, strict=True
    ):
        each.trace_id, each.span_id = trace_id, span_id
    encoded: bytes = message.SerializeToString()
    return encoded


def decode_both(*records: dict[str, Any]) -> OtlpBatch:
    request = request_of(*records)
    from_json = decode_otlp_logs(json.dumps(request).encode(), JSON)
    from_protobuf = decode_otlp_logs(as_protobuf(request), PROTOBUF)
    assert from_json == from_protobuf
    return from_json


def test_message_events_are_gathered_by_span() -> None:
    batch = decode_both(
        record("gen_ai.system.message", {"gen_ai.system": "openai"}, {"content": "Be brief."}),
        record("gen_ai.user.message", body={"content": "How much?"}, timeUnixNano=str(T + 1)),
        record("gen_ai.choice", body={"index": 0, "message": {"content": "Two."}}, timeUnixNano=str(T + 2)),
        record("gen_ai.user.message", body={"content": "Other"}, spanId="00f067aa0ba902b7"),
    )
    first, second = batch.spans
    assert (first.trace_id, first.span_id, first.attributes[LOG_EVENTS]) == (TRACE, SPAN, True)
    assert second.span_id == "00f067aa0ba902b7"
    given, answer = fill_from_events(first.events, None, None)
    assert [message["content"] for message in given["messages"]] == ["Be brief.", "How much?"]
    assert answer[0]["message"] == {"content": "Two."}


def test_the_details_event_of_present_conventions_fills_the_payloads() -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "How much?"}]}]
    reply = [{"role": "assistant", "parts": [{"type": "text", "content": "Two."}]}]
    batch = decode_both(
        record(
            "gen_ai.client.inference.operation.details",
            {
                "gen_ai.input.messages": messages,
                "gen_ai.output.messages": json.dumps(reply),
                "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
                "gen_ai.tool.definitions": [{"name": "search"}],
            },
        )
    )
    given, answer = fill_from_events(batch.spans[0].events, None, None)
    assert given["messages"][1:] == messages
    assert given["messages"][0]["role"] == "system"
    assert (given["tools"], answer) == ([{"name": "search"}], reply)


def test_evaluation_results_become_scores() -> None:
    result = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.score.label": "partly",
        "gen_ai.evaluation.explanation": "half of it",
    }
    failed = {"gen_ai.evaluation.name": "tone", "error.type": "timeout", "gen_ai.response.id": "r1"}
    batch = decode_both(
        record("gen_ai.evaluation.result", result),
        record("gen_ai.evaluation.result", failed, traceId="", spanId=""),
        record("gen_ai.evaluation.result", {**result, "session.id": "s1"}, traceId="", spanId=""),
    )
    placed, by_response, of_session = (span.scores[0] for span in batch.spans)
    assert (placed.trace_id, placed.span_id, placed.value, placed.label) == (TRACE, SPAN, 0.5, "partly")
    assert (placed.comment, placed.source, placed.status) == ("half of it", "model", "scored")
    assert (batch.spans[0].trace_id, batch.spans[0].parent_id) == (TRACE, SPAN)
    assert (by_response.status, by_response.value, by_response.evidence["gen_ai.response.id"]) == (
        "error",
        None,
        "r1",
    )
    assert of_session.session_id == "s1"
    assert all(span.is_foreign and span.kind == "evaluation" for span in batch.spans)


def test_the_same_result_again_has_the_same_id() -> None:
    first = decode_both(record("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "a"}))
    again = decode_both(
        record("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "a"}, timeUnixNano=str(T + 9))
    )
    assert first.spans[0].span_id == again.spans[0].span_id


def test_exceptions_within_a_span_are_events_of_it() -> None:
    [span] = decode_both(record("", {"exception.type": "ValueError"}, "it broke")).spans
    assert (span.events[0].name, span.events[0].attributes["body"]) == ("exception", "it broke")


def test_what_cannot_be_kept_is_counted_and_named() -> None:
    batch = decode_both(
        record("", {"logger": "app"}, "a plain line"),
        record("gen_ai.user.message", spanId=""),
        record("gen_ai.evaluation.result", {}),
        record("gen_ai.user.message", {"content": "x"}, timeUnixNano="0"),
    )
    assert (batch.spans, batch.n_rejected) == ([], 4)
    assert "plain log lines" in (batch.reason or "")
    reply = ExportLogsServiceResponse.FromString(encode_otlp_reply(batch, PROTOBUF))
    assert reply.partial_success.rejected_log_records == 4
    assert json.loads(encode_otlp_reply(batch, JSON))["partialSuccess"]["rejectedLogRecords"] == "4"


@pytest.mark.parametrize(
    "body", [b"", b"null", b'{"resourceLogs": 5}', b'{"resourceLogs": [{"scopeLogs": [7]}]}']
)
def test_a_body_that_is_not_otlp_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedTelemetry):
        decode_otlp_logs(body, JSON)
