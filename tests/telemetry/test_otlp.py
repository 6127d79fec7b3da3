"""OTLP in both encodings becomes the same spans; broken bodies are refused, broken spans counted."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from penstock.spec.spans import Span, SpanLink
from penstock.spec.usage import Usage
from penstock.store.spans.excerpts import SEARCH_CHARS, excerpt_of, preview_of, searched_text_of
from penstock.store.spans.ledger import is_billed
from penstock.telemetry.encode import decode_span, encode_span
from penstock.telemetry.errors import MalformedTelemetry
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import JSON, PROTOBUF, decode_otlp_batch, decode_otlp_traces, encode_otlp_reply

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {
            "doubleValue": value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity"}[str(value)]
        }
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    return {"stringValue": value}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in attributes.items()]


def request_of(attributes: dict[str, Any], **span: Any) -> dict[str, Any]:
    fields = {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "chat gpt-4o",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "attributes": pairs(attributes),
        **span,
    }
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": pairs({"service.name": "shop", "host.name": "a"})},
                "scopeSpans": [{"scope": {"name": "lib", "version": "2"}, "spans": [fields]}],
            }
        ]
    }


def as_protobuf(request: dict[str, Any]) -> bytes:
    """Encode with the official library; its JSON form takes ids as base64, so they are set by hand."""
    message = ExportTraceServiceRequest()
    copy = json.loads(json.dumps(request))
    nested = [
        span for group in copy["resourceSpans"] for scoped in group["scopeSpans"] for span in scoped["spans"]
    ]
    names = ("traceId", "spanId", "parentSpanId")
    ids = [[bytes.fromhex(span.pop(name, "")) for name in names] for span in nested]
    ParseDict(copy, message)
    spans = [
        span for group in message.resource_spans for scoped in group.scope_spans for span in scoped.spans
    ]
    for span, (trace_id, span_id, parent_id) in zip(spans, ids, strict=True):
        span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent_id
    encoded: bytes = message.SerializeToString()
    return encoded


def decode_both(request: dict[str, Any]) -> Span:
    """Decode from JSON and from protobuf, check that both agree, return the one span."""
    [from_json] = decode_otlp_traces(json.dumps(request).encode(), "application/json; charset=utf-8")
    [from_protobuf] = decode_otlp_traces(as_protobuf(request), PROTOBUF)
    assert from_json == from_protobuf
    decode_span(encode_span(from_json))
    return from_json


def test_a_current_genai_span_is_mapped() -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "How long should I sleep?"}]}]
    reply = [
        {"role": "assistant", "parts": [{"type": "text", "content": "Seven hours."}], "finish_reason": "stop"}
    ]
    span = decode_both(
        request_of(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.conversation.id": "c1",
                "user.id": "u1",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.cache_read.input_tokens": 60,
                "gen_ai.usage.output_tokens": 50,
                "gen_ai.usage.reasoning.output_tokens": 30,
                "gen_ai.response.time_to_first_chunk": 0.25,
                "gen_ai.request.stream": True,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.input.messages": json.dumps(messages),
                "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
                "gen_ai.output.messages": json.dumps(reply),
            },
            parentSpanId="00f067aa0ba902b7",
            status={"code": 1},
        )
    )
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE, SPAN, "00f067aa0ba902b7")
    assert (span.kind, span.provider, span.model, span.service) == (
        "llm",
        "openai",
        "gpt-4o-2024-08-06",
        "shop",
    )
    assert (span.session_id, span.user_id, span.status, span.duration_ms) == ("c1", "u1", "ok", 1000.0)
    assert (span.ttft_ms, span.streamed) == (250.0, True)
    assert span.usage == Usage(input_uncached=40, input_cache_read=60, output_text=20, output_reasoning=30)
    assert span.input["messages"][0] == {
        "role": "system",
        "parts": [{"type": "text", "content": "Be brief."}],
    }
    assert span.input["messages"][1:] == messages
    assert span.output == reply
    assert preview_of(span.input) == "How long should I sleep?"
    assert excerpt_of(span.output) == "Seven hours."
    assert span.attributes["gen_ai.request.temperature"] == 0.5
    assert span.attributes["gen_ai.request.model"] == "gpt-4o"
    assert "gen_ai.input.messages" not in span.attributes
    assert span.attributes["resource"] == {"host.name": "a"}
    assert span.scope == "lib 2"
    assert span.attributes["penstock.mapping"] == load_table().version == 2
    assert span.is_foreign


def test_deprecated_names_are_understood() -> None:
    span = decode_both(
        request_of(
            {
                "gen_ai.system": "Anthropic",
                "llm.request.type": "chat",
                "gen_ai.request.model": "claude",
                "gen_ai.usage.prompt_tokens": 10,
                "gen_ai.usage.completion_tokens": 5,
                "gen_ai.usage.cache_read_input_tokens": 200,
                "gen_ai.prompt.name": "greeting",
                "gen_ai.prompt.0.role": "system",
                "gen_ai.prompt.0.content": "Be kind.",
                "gen_ai.prompt.1.role": "user",
                "gen_ai.prompt.1.content": "Hello",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": "Hi!",
                "traceloop.association.properties.session_id": "s",
            }
        )
    )
    assert (span.kind, span.provider, span.model, span.session_id) == ("llm", "anthropic", "claude", "s")
    # 200 cached of 10 cannot be inclusive: the sender passed on Anthropic's exclusive figure.
    assert span.usage == Usage(input_uncached=10, input_cache_read=200, output_text=5)
    assert span.input == {
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    }
    assert span.output == [{"role": "assistant", "content": "Hi!"}]
    assert span.attributes["gen_ai.prompt.name"] == "greeting"


def test_openinference_spans_are_mapped() -> None:
    span = decode_both(
        request_of(
            {
                "openinference.span.kind": "LLM",
                "llm.provider": "mistral",
                "llm.model_name": "mistral-small",
                "llm.token_count.prompt": 12,
                "llm.token_count.completion": 3,
                "llm.token_count.total": 15,
                "llm.token_count.prompt_details.cache_read": 4,
                "llm.cost.total": 0.0012,
                "session.id": "s1",
                "input.value": '{"messages": []}',
                "llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.content": "One",
                "llm.input_messages.10.message.content": "Eleven",
                "llm.input_messages.2.message.contents.0.message_content.text": "Three",
                "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
                "output.value": "raw reply",
            }
        )
    )
    assert (span.kind, span.provider, span.model) == ("llm", "mistral_ai", "mistral-small")
    assert span.usage == Usage(input_uncached=8, input_cache_read=4, output_text=3)
    assert (span.cost_usd, span.cost_source) == (Decimal("0.0012"), "reported by the sender")
    assert [message.get("content") for message in span.input["messages"]] == [
        "One",
        [{"text": "Three"}],
        "Eleven",
    ]
    assert span.output == [{"tool_calls": [{"function": {"name": "search"}}]}]
    assert span.attributes["output.value"] == "raw reply"


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval"),
        ({"openinference.span.kind": "AGENT", "gen_ai.operation.name": "chat"}, "agent"),
        ({"gen_ai.operation.name": "embeddings"}, "embedding"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "something new"}, "internal"),
        ({"traceloop.span.kind": "workflow"}, "chain"),
        ({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1}, "llm"),
        ({"gen_ai.usage.input_tokens": 5, "gen_ai.request.model": "m"}, "embedding"),
        ({"http.request.method": "GET"}, "http"),
        ({"db.system": "postgresql"}, "internal"),
        ({"openinference.span.kind": 5}, "internal"),
    ],
)
def test_the_kind_of_a_span_follows_its_attributes(attributes: dict[str, Any], kind: str) -> None:
    assert decode_both(request_of(attributes)).kind == kind


def test_tools_retrievals_and_embeddings_have_their_payloads() -> None:
    tool = decode_both(
        request_of({"gen_ai.tool.call.arguments": '{"city":"Oslo"}', "gen_ai.tool.call.result": "4 °C"})
    )
    assert (tool.input, tool.output) == ({"city": "Oslo"}, "4 °C")
    found = decode_both(
        request_of(
            {
                "input.value": "sleep",
                "retrieval.documents.0.document.content": "Seven hours",
                "retrieval.documents.0.document.score": 0.5,
            }
        )
    )
    assert (found.input, found.output) == ("sleep", [{"content": "Seven hours", "score": 0.5}])


def test_messages_in_events_fill_the_payloads() -> None:
    events = [
        {"name": "gen_ai.user.message", "timeUnixNano": "5", "attributes": pairs({"content": "Hi"})},
        {"name": "gen_ai.choice", "timeUnixNano": "6", "attributes": pairs({"message": {"content": "Ho"}})},
    ]
    span = decode_both(request_of({}, events=events))
    assert span.input == {"messages": [{"role": "user", "content": "Hi"}]}
    assert span.output == [{"message": {"content": "Ho"}}]
    assert [event.time_ns for event in span.events] == [5, 6]


def test_every_value_type_links_and_errors_are_kept() -> None:
    values = {"s": "é", "i": -5, "b": False, "d": 0.5, "l": ["a", 1], "m": {"x": {"y": 1}}}
    [span] = decode_otlp_traces(
        json.dumps(
            request_of(
                {**values, "error.type": "Timeout"},
                status={"code": "STATUS_CODE_ERROR", "message": "too slow"},
                links=[{"traceId": TRACE, "spanId": SPAN, "attributes": pairs({"why": "retry"})}],
            )
        ).encode(),
        JSON,
    )
    assert {name: span.attributes[name] for name in values} == values
    assert (span.status, span.status_message, span.error_code) == ("error", "too slow", "Timeout")
    assert span.links == [SpanLink(trace_id=TRACE, span_id=SPAN, attributes={"why": "retry"})]


def test_an_open_span_has_no_end() -> None:
    assert decode_both(request_of({}, endTimeUnixNano="0")).end_ns is None


@pytest.mark.parametrize(
    "span",
    [
        {"traceId": ""},
        {"traceId": "00" * 16},
        {"spanId": "abcd"},
        {"spanId": "zz" * 8},
        {"startTimeUnixNano": "0"},
        {"startTimeUnixNano": str(2**63)},
        {"parentSpanId": "ab"},
    ],
)
def test_a_span_that_cannot_be_stored_is_left_out_and_named(span: dict[str, str]) -> None:
    request = request_of({})
    good = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    good.append({**good[0], **span})
    batch = decode_otlp_batch(json.dumps(request).encode(), JSON)
    assert (len(batch.spans), batch.n_rejected) == (1, 1)
    assert "chat gpt-4o" in (batch.reason or "")
    told = json.loads(encode_otlp_reply(batch, JSON))
    assert told["partialSuccess"]["rejectedSpans"] == "1"
    reply = ExportTraceServiceResponse.FromString(encode_otlp_reply(batch, PROTOBUF))
    assert reply.partial_success.rejected_spans == 1


def test_a_clean_batch_is_answered_without_partial_success() -> None:
    batch = decode_otlp_batch(json.dumps(request_of({})).encode(), JSON)
    assert encode_otlp_reply(batch, JSON) == b"{}"
    assert encode_otlp_reply(batch, PROTOBUF) == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"resourceSpans": {}}',
        b'{"resourceSpans": [5]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]}',
        b'{"resourceSpans": [{"resource": "x"}]}',
        b'{"resourceSpans": ' + b"[" * 100_000,
        b'{"resourceSpans": "\xff"}',
        b'{"resourceSpans": [{"resource": {"attributes": [{"key": "x", "value": {"doubleValue": %s}}]}}]}'
        % (b"9" * 400),
    ],
)
def test_a_json_body_that_is_not_otlp_is_refused_with_a_hint(body: bytes) -> None:
    with pytest.raises(MalformedTelemetry) as caught:
        decode_otlp_traces(body, JSON)
    assert caught.value.hint


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_read_but_never_crash(body: bytes) -> None:
    for content_type in (PROTOBUF, JSON, ""):
        try:
            batch = decode_otlp_batch(body, content_type)
        except MalformedTelemetry:
            continue
        for span in batch.spans:
            decode_span(encode_span(span))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_request_never_crashes(data: st.DataObject) -> None:
    body = bytearray(as_protobuf(request_of({"gen_ai.prompt.0.role": "user", "a": [1, {"b": 0.5}]})))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = decode_otlp_batch(bytes(body), PROTOBUF)
    except MalformedTelemetry:
        return
    for span in batch.spans:
        decode_span(encode_span(span))


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.prompt.0": "leaf", "gen_ai.prompt.0.role": "and branch"},
        {"gen_ai.prompt.0.role": "branch", "gen_ai.prompt.0": "and leaf"},
        {"llm.input_messages.99999999999.message.role": "user"},
        {"llm.input_messages.": "x", "llm.input_messages..": "y"},
        {"gen_ai.prompt" + ".0" * 3000: "deep"},
        {"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": -4},
        {"gen_ai.usage.input_tokens": float("nan"), "llm.cost.total": float("inf")},
        {"gen_ai.input.messages": "[" * 5000},
        {"gen_ai.operation.name": "chat", "gen_ai.usage.cost": "1e-3000000000"},
        {"http.response.status_code": 10**12, "gen_ai.response.time_to_first_chunk": "soon"},
    ],
)
def test_hostile_attributes_cost_their_meaning_not_the_span(attributes: dict[str, Any]) -> None:
    [span] = decode_otlp_traces(json.dumps(request_of(attributes)).encode(), JSON)
    assert span.span_id == SPAN
    assert span.cost_usd is None
    decode_span(encode_span(span))


def test_a_zero_with_a_huge_exponent_is_zero() -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.usage.cost": "0e-3000000000"}
    [span] = decode_otlp_traces(json.dumps(request_of(attributes)).encode(), JSON)
    assert str(span.cost_usd) == "0"


def test_a_sender_cannot_pass_for_the_gateway() -> None:
    request = request_of(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.cost": 5.0,
            "penstock.mapping": "",
            "penstock.foreign": False,
        }
    )
    request["resourceSpans"][0]["resource"]["attributes"] = pairs({"service.name": "gateway"})
    (span,) = decode_otlp_batch(json.dumps(request).encode(), "application/json").spans
    assert span.service == "gateway"
    assert span.cost_usd == 5
    assert span.is_foreign
    assert not is_billed(span)
    assert decode_span(encode_span(span)).is_foreign, "in the spool too"


def test_text_that_is_not_utf8_costs_its_broken_letters_and_no_span() -> None:
    attributes = {"gen_ai.prompt": "caf\u00e9 au lait", "list": ["caf\u00e9"], "plain": "x"}
    events = [{"name": "e", "timeUnixNano": "1", "attributes": pairs({"deep": {"a": "caf\u00e9"}})}]
    for body, kind in (
        (as_protobuf(request_of(attributes, events=events)), PROTOBUF),
        (json.dumps(request_of(attributes, events=events), ensure_ascii=False).encode(), JSON),
    ):
        broken = body.replace("\u00e9".encode(), b"\xc3\xff")
        assert broken != body
        batch = decode_otlp_batch(broken, kind)
        [span] = batch.spans
        assert batch.is_mended
        assert span.input == "caf\ufffd\ufffd au lait"
        assert span.attributes["list"] == ["caf\ufffd\ufffd"]
        assert span.events[0].attributes == {"deep": {"a": "caf\ufffd\ufffd"}}
        assert span.attributes["plain"] == "x"
        decode_span(encode_span(span))
        assert not decode_otlp_batch(body, kind).is_mended


@pytest.mark.parametrize(
    ("escaped", "read"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"\udE00 cut", "\ufffd cut"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (r"whole \ud83d\ude00", "whole \U0001f600"),
    ],
)
def test_half_of_a_surrogate_pair_costs_one_letter_and_no_span(escaped: str, read: str) -> None:
    body = json.dumps(request_of({"gen_ai.prompt": "HERE"})).replace("HERE", escaped).encode()
    batch = decode_otlp_batch(body, JSON)
    [span] = batch.spans
    assert span.input == read
    assert batch.is_mended == ("\ufffd" in read)


def test_the_question_is_found_behind_a_long_system_prompt() -> None:
    asked = {
        "messages": [
            {"role": "system", "content": "Be kind. " * 400},
            {"role": "user", "content": "Where is my zanzibar parcel?"},
        ]
    }
    seen = searched_text_of(asked)
    assert "zanzibar" in seen
    assert len(seen) <= SEARCH_CHARS
    assert searched_text_of({"messages": asked["messages"][1:]}) == "Where is my zanzibar parcel?"
