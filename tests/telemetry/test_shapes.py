"""What is remembered of attribute names changes nothing of what is found, and stays bounded."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry import shapes
from penstock.telemetry.mapping import pick_fields
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import JSON, decode_otlp_batch
from penstock.telemetry.payloads import LastPayloads, take_payloads
from penstock.telemetry.shapes import Shapes

REQUEST = """{"resourceSpans": [{"scopeSpans": [{"spans": [%s]}]}]}"""
SPAN = """{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00f067aa0ba902b7", "name": "s",
  "startTimeUnixNano": "1", "attributes": [%s]}"""


PAYLOADS = st.dictionaries(
    st.sampled_from(
        [
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.tool.definitions",
            "ai.response",
            "ai.response.text",
            "ai.response.toolCalls",
            "events",
            "input.value",
            "input.mime_type",
            "llm.tools.0.tool.json_schema",
            "llm.input_messages.0.message.content",
        ]
    ),
    st.sampled_from(
        [
            None,
            "",
            "text/plain",
            '[{"role": "user", "content": "a"}]',
            '[{"message": {"role": "user", "contents": [{"message_content": {"text": "b"}}]}}]',
            '[{"event.name": "gen_ai.choice"}, {"event.name": "x"}]',
            '{"tool_calls": [{"tool_call": {"id": 1}}]}',
        ]
    ),
)
"""Attributes of a span that may be payload."""


def _decode(*spans: dict[str, str]) -> list:
    texts = [
        SPAN
        % ",".join(
            f'{{"key": "{name}", "value": {{"stringValue": "{value}"}}}}' for name, value in each.items()
        )
        for each in spans
    ]
    return decode_otlp_batch((REQUEST % ",".join(texts)).encode(), JSON).spans


def test_spans_of_the_same_names_are_told_apart_by_their_values() -> None:
    names = (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "gen_ai.operation.name",
        "openinference.span.kind",
    )
    both, empty, odd = _decode(
        dict(zip(names, ("new", "asked", "chat", "TOOL"), strict=True)),
        dict(zip(names, ("", "asked", "chat", "nonsense"), strict=True)),
        dict(zip(names, ("", "", "nonsense", "nonsense"), strict=True)),
    )
    assert (both.model, both.kind) == ("new", "tool")
    assert (empty.model, empty.kind) == ("asked", "llm")
    assert (odd.model, odd.kind) == (None, "internal")


def test_the_order_of_names_decides_nothing() -> None:
    table = load_table()
    given = {"gen_ai.request.model": "a", "gen_ai.response.model": "b", "x.unknown": 1, "y.0.z": 2}
    one, other = pick_fields(table, given), pick_fields(table, dict(reversed(given.items())))
    assert one.values == other.values == {"model": "b"}
    assert sorted(one.shape.unknown) == sorted(other.shape.unknown) == ["x.unknown", "y.0.z"]
    assert one.shape.flat == other.shape.flat == ["y.0.z"]


def test_members_of_json_text_fill_a_field_only_where_nothing_better_does() -> None:
    table = load_table()
    told = {"langfuse.observation.usage_details": '{"input": 7, "output": 9}'}
    assert pick_fields(table, told).values == {"input": 7, "output": 9}
    better = pick_fields(table, {**told, "gen_ai.usage.input_tokens": 5})
    assert (better.values["input"], better.values["output"]) == (5, 9)
    worse = pick_fields(table, {**told, "lk.usage.prompt_tokens": 5})
    assert worse.values["input"] == 7


def test_a_source_below_which_only_flattened_names_lie_is_found_again_and_again() -> None:
    flat = {"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hello"}
    for span in _decode(flat, flat):
        assert span.input == {"messages": [{"role": "user", "content": "hello"}]}
        assert not [name for name in span.attributes if name.startswith("llm.")]


@given(found=PAYLOADS)
def test_payloads_are_found_as_if_every_source_were_asked_for(found: dict[str, Any]) -> None:
    table = load_table()
    shape = table.shape_of(tuple(found))
    quick, slow = dict(found), dict(found)
    assert take_payloads(shape, quick) == take_payloads(shape._replace(payload=table.payload), slow)
    assert list(quick.items()) == list(slow.items())


@given(spans=st.lists(PAYLOADS.filter(lambda found: len(found) < 4), max_size=8))
def test_payloads_that_came_before_are_what_they_would_be_by_themselves(spans: list[dict[str, Any]]) -> None:
    table, last = load_table(), LastPayloads()
    for found in spans:
        shape = table.shape_of(tuple(found))
        with_others, alone = dict(found), dict(found)
        assert take_payloads(shape, with_others, last) == take_payloads(shape, alone)
        assert list(with_others.items()) == list(alone.items())


def test_spans_in_a_row_share_the_payload_they_have_in_common() -> None:
    asked = '[{\\"role\\": \\"user\\", \\"content\\": \\"a\\"}]'
    first, second, text, other = _decode(
        {"gen_ai.input.messages": asked, "gen_ai.output.messages": asked},
        {"gen_ai.input.messages": asked, "gen_ai.output.messages": "[1]"},
        {"gen_ai.input.messages": asked, "gen_ai.system_instructions": "be brief"},
        {"gen_ai.input.messages": asked},
    )
    message = {"role": "user", "content": "a"}
    assert first.input is second.input is other.input
    assert (first.input, first.output, second.output) == ({"messages": [message]}, [message], [1])
    assert text.input == {"messages": [{"role": "system", "content": "be brief"}, message]}
    parsed, as_text = _decode(
        {"input.value": "[1]", "input.mime_type": "application/json"},
        {"input.value": "[1]", "input.mime_type": "text/plain"},
    )
    assert (parsed.input, as_text.input) == ([1], "[1]")


def test_made_up_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MAX_REMEMBERED_NAMES", 10)
    known, shape = Shapes(), load_table().shape_of(("x",))
    for number in range(50):
        known.keep((f"a{number}", f"b{number}", f"c{number}"), shape)
    kept = [number for number in range(50) if known.find((f"a{number}", f"b{number}", f"c{number}"))]
    assert 0 < len(kept) <= 3
    assert kept[-1] == 49
    known.keep(tuple(f"n{number}" for number in range(11)), shape)
    assert known.find(tuple(f"n{number}" for number in range(11))) is None
    known.keep(("x",), shape)
    assert known.find(("x",)) is shape
