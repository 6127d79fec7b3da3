"""Attributes left as bytes and remembered are those that the official messages hold."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.telemetry import otlp_pairs
from penstock.telemetry.errors import MalformedTelemetry
from penstock.telemetry.otlp import PROTOBUF, decode_otlp_traces
from penstock.telemetry.otlp_pairs import load_request_type, read_attributes, read_messages

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=9)
    | st.text(st.characters(codec="utf-8"), max_size=200)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["", "gen_ai.system", "é", "n" * 130, "a.b"])


def _fill(value: Any, to: Any) -> None:
    if isinstance(value, bool):
        to.bool_value = value
    elif isinstance(value, int):
        to.int_value = value
    elif isinstance(value, float):
        to.double_value = value
    elif isinstance(value, bytes):
        to.bytes_value = value
    elif isinstance(value, str):
        to.string_value = value
    elif isinstance(value, list):
        to.array_value.SetInParent()
        for item in value:
            _fill(item, to.array_value.values.add())
    elif isinstance(value, dict):
        to.kvlist_value.SetInParent()
        for name, item in value.items():
            _fill(item, to.kvlist_value.values.add(key=name).value)


def _request(*attributes: list[tuple[str, Any]]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number, pairs in enumerate(attributes, 1):
        span = spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8), start_time_unix_nano=1)
        for name, value in pairs:
            _fill(value, span.attributes.add(key=name).value)
    return request


def _spans(request: Any) -> list[Any]:
    return [span for group in request.resource_spans for scoped in group.scope_spans for span in scoped.spans]


@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_is_read_from_bytes_is_what_the_messages_hold(pairs: list[tuple[str, Any]]) -> None:
    official = _request(pairs, pairs)
    ours = load_request_type().FromString(official.SerializeToString())
    for left, whole in zip(_spans(ours), _spans(official), strict=True):
        wanted = read_messages(whole.attributes)
        for _ in range(2):  # the second time from memory
            found = read_attributes(left.attributes)
            assert list(found.items()) == list(wanted.items())
            assert [type(value) for value in found.values()] == [type(value) for value in wanted.values()]


def test_values_that_are_equal_and_not_the_same_are_told_apart() -> None:
    told = [("a", 1), ("b", True), ("c", 1.0), ("d", -0.0), ("e", "1"), ("f", 0), ("g", False), ("h", "")]
    [span] = _spans(load_request_type().FromString(_request(told).SerializeToString()))
    for _ in range(2):
        found = read_attributes(span.attributes)
        assert list(found.items()) == told
        assert [type(value) for value in found.values()] == [type(value) for _, value in told]
        assert math.copysign(1, found["d"]) == -1


def test_a_list_of_one_span_is_not_that_of_another() -> None:
    body = _request([("x", ["a"])], [("x", ["a"])], [("y", {"k": 1})]).SerializeToString()
    first, second, third = decode_otlp_traces(body, PROTOBUF)
    before = copy.deepcopy(second.attributes)
    first.attributes["x"].append("changed")
    third.attributes["y"]["k"] = "changed"
    assert second.attributes == before
    assert decode_otlp_traces(body, PROTOBUF)[1:] == [
        second,
        decode_otlp_traces(_request([], [], [("y", {"k": 1})]).SerializeToString(), PROTOBUF)[2],
    ]


def test_attributes_that_never_come_again_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_pairs, "MAX_REMEMBERED", 10)
    otlp_pairs._remembered.clear()
    for number in range(100):
        body = _request([("request.id", f"id {number}"), ("text", "x" * 500)]).SerializeToString()
        [span] = decode_otlp_traces(body, PROTOBUF)
        assert (span.attributes["request.id"], span.attributes["text"]) == (f"id {number}", "x" * 500)
    assert 0 < len(otlp_pairs._remembered) <= 10
    assert max(map(len, otlp_pairs._remembered)) <= otlp_pairs.MAX_REMEMBERED_BYTES


def test_an_attribute_that_is_no_message_makes_a_body_that_is_not_otlp() -> None:
    whole = _request([("some.name", "value")]).SerializeToString()
    inner = whole.index(b"some.name")
    broken = bytearray(whole)
    broken[inner - 1] = 100  # the name is now longer than the attribute
    for body in (bytes(broken), bytes(broken)):
        with pytest.raises(MalformedTelemetry):
            decode_otlp_traces(body, PROTOBUF)
