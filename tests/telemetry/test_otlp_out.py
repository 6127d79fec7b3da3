"""Spans that went out as OTLP come back as they were."""

from decimal import Decimal

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span, SpanEvent, SpanLink
from penstock.spec.usage import Usage
from penstock.telemetry.otlp import JSON, decode_otlp_traces
from penstock.telemetry.otlp_out import encode_otlp_json
from tests.fixtures.spans import make_call_trace, make_span

OURS_ALONE = ("attributes", "key_id", "route", "project", "cost_source", "versions")


def replayed(spans: list[Span]) -> list[Span]:
    return decode_otlp_traces(encode_otlp_json(spans), JSON)


def comparable(span: Span) -> Span:
    return msgspec.structs.replace(
        span, attributes={}, key_id=None, route=None, project="default", cost_source=None, versions={}
    )


def test_our_own_spans_come_back_with_the_same_fields() -> None:
    rich = make_span(
        9,
        kind="tool",
        tool="get_weather",
        parent_id=f"{1:016x}",
        session_id="s",
        user_id="u",
        environment="production",
        release="1.2",
        scope="my.library 3.1",
        service="shop",
        prompt="triage@3",
        cache="hit",
        tags=["a", "b"],
        http_status=503,
        status="error",
        status_message="broke",
        error_code="PS-4201",
        streamed=True,
        events=[SpanEvent(name="e", time_ns=5, attributes={"n": 1, "deep": {"a": [1.5, None, "x"]}})],
        links=[SpanLink(trace_id="1" * 32, span_id="2" * 16)],
        input={"city": "Köln"},
        output=["rain"],
    )
    call = make_span(
        8,
        kind="llm",
        provider="anthropic",
        model="claude",
        ttft_ms=12.5,
        cost_usd=Decimal("0.25"),
        usage=Usage(
            input_uncached=10, input_cache_read=5, input_cache_write=3, input_cache_write_1h=2, output_text=7
        ),
    )
    trace = [*make_call_trace(), call, rich]
    back = {span.span_id: span for span in replayed(trace)}
    for span in trace:
        assert comparable(back[span.span_id]) == comparable(span), span.name
    assert back[trace[0].span_id].attributes["penstock.route"] == "handbook"


def test_foreign_spans_keep_their_attributes_through_any_number_of_replays() -> None:
    sent = make_span(
        1,
        kind="llm",
        attributes={
            "llm.model_name": "m",
            "llm.token_count.prompt": 5,
            "mine": True,
            "big": 2**62,
            "none": None,
        },
        input="hello",
        usage=Usage(input_uncached=5),
    )
    once = replayed([sent])
    twice = replayed(once)
    assert twice == replayed(twice)
    for name, value in sent.attributes.items():
        assert twice[0].attributes[name] == value
    assert (twice[0].input, twice[0].usage) == ("hello", Usage(input_uncached=5))


def test_judgements_come_back_with_their_target() -> None:
    target = make_span(1)
    score = SpanScore(
        name="helpful",
        value=0.5,
        source="human",
        comment="meh",
        identifier="i",
        time_ns=target.start_ns,
        trace_id=target.trace_id,
        span_id=target.span_id,
    )
    carrier = make_span(2, kind="evaluation", parent_id=target.span_id, scores=[score])
    [found] = [span for span in replayed([target, carrier]) if span.scores]
    [back] = found.scores
    assert (back.name, back.value, back.source, back.comment) == ("helpful", 0.5, "human", "meh")
    assert (back.trace_id, back.span_id) == (target.trace_id, target.span_id)


def test_spans_are_grouped_by_resource_and_scope() -> None:
    spans = [make_span(number, service=name) for number, name in ((1, "a"), (2, "b"), (3, "a"))]
    body = msgspec.json.decode(encode_otlp_json(spans))
    assert [len(group["scopeSpans"][0]["spans"]) for group in body["resourceSpans"]] == [2, 1]
    assert encode_otlp_json([]) == b'{"resourceSpans":[]}'
