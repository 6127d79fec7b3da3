"""Metadata under one name, however it was sent."""

from typing import Any

import pytest

from penstock.telemetry.metadata import MAX_NAMES, MAX_TEXT, add_metadata


@pytest.mark.parametrize(
    "sent",
    [
        {"metadata": '{"plan":"pro","turn":1}'},
        {"metadata": {"plan": "pro", "turn": 1}},
        {"langfuse.trace.metadata": '{"plan":"pro","turn":1}'},
        {"langfuse.trace.metadata.plan": "pro", "langfuse.trace.metadata.turn": 1},
        {"traceloop.association.properties.plan": "pro", "traceloop.association.properties.turn": 1},
        {"ai.telemetry.metadata.plan": "pro", "ai.telemetry.metadata.turn": 1},
    ],
)
def test_metadata_stand_under_their_own_names_beside_what_was_sent(sent: dict[str, Any]) -> None:
    attributes = dict(sent)
    add_metadata(attributes)
    assert attributes == {**sent, "metadata.plan": "pro", "metadata.turn": 1}
    again = dict(attributes)
    add_metadata(again)
    assert again == attributes


def test_inner_objects_get_dotted_names_and_what_cannot_be_compared_is_left_out() -> None:
    attributes: dict[str, Any] = {
        "metadata": {"a": {"b": True}, "many": [1], "none": None, "long": "x" * (MAX_TEXT + 1)}
    }
    add_metadata(attributes)
    assert {name for name in attributes if name.startswith("metadata.")} == {"metadata.a.b"}


def test_so_many_names_and_no_more_and_broken_text_is_no_metadata() -> None:
    attributes: dict[str, Any] = {"metadata": {str(n): n for n in range(1000)}}
    add_metadata(attributes)
    assert len(attributes) == MAX_NAMES + 1
    broken: dict[str, Any] = {"metadata": '{"plan":'}
    add_metadata(broken)
    assert broken == {"metadata": '{"plan":'}
