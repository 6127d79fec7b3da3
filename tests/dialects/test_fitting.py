"""A chat request that goes on as bytes is changed only where the server is known to refuse it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dialects.openai.fitting import fit_body
from penstock.dialects.quirks import QUIRKS, find_reasoning_field, find_unknown


def fit(value: dict[str, Any], *quirks: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    assert find_unknown(quirks) == []
    body, dropped = fit_body(json.dumps(value).encode(), frozenset(quirks))
    members = json.loads(body, object_pairs_hook=list)
    assert len(members) == len(dict(members)), "no member twice"
    return json.loads(body), dropped


BASE = {"model": "m", "messages": [{"role": "user", "content": 'say "developer" and "seed"'}]}


def test_a_body_with_nothing_in_the_way_is_the_same_object() -> None:
    body = json.dumps({"model": "m", "messages": [], "max_tokens": 5}).encode()
    fitted, dropped = fit_body(body, frozenset(QUIRKS) - {"max_completion_tokens"})
    assert fitted is body
    assert dropped == ()


def test_the_developer_is_called_system_and_only_as_a_role() -> None:
    quoted = {"role": "user", "content": '{"role": "developer"}'}
    value = {**BASE, "messages": [{"role": "developer", "content": "developer"}, quoted]}
    found, dropped = fit(value, "no_developer_role")
    assert found["messages"] == [{"role": "system", "content": "developer"}, quoted]
    assert dropped == ()


def test_messages_that_are_none_are_left_to_the_server() -> None:
    value = {"model": "m", "messages": {"role": "developer"}}
    assert fit(value, "no_developer_role") == (value, ())


@pytest.mark.parametrize(
    ("said", "quirk", "becomes", "dropped"),
    [
        ({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}, ()),
        ({"max_completion_tokens": 5, "max_tokens": 6}, "max_tokens", {"max_tokens": 5}, ()),
        ({"max_tokens": 6, "max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}, ()),
        (
            {"max_tokens": 6, "max_completion_tokens": 5},
            "max_completion_tokens",
            {"max_completion_tokens": 5},
            (),
        ),
        ({"random_seed": 4, "seed": 3}, "random_seed", {"random_seed": 4}, ()),
        ({"seed": 3, "random_seed": 4}, "random_seed", {"random_seed": 4}, ()),
        ({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}, ()),
        ({"seed": 3}, "random_seed", {"random_seed": 3}, ()),
        ({"seed": 3}, "no_seed", {}, ("seed",)),
        ({"n": 1, "x": 1}, "no_n", {"x": 1}, ()),
        ({"n": 2}, "no_n", {}, ("n",)),
        ({"stream_options": {"include_usage": True}}, "no_stream_usage", {}, ()),
        ({"tool_choice": "required"}, "tool_choice_any", {"tool_choice": "any"}, ()),
        ({"logprobs": False, "top_logprobs": None}, "no_logprobs", {}, ()),
    ],
)
def test_what_a_server_refuses_is_said_otherwise_or_left_out(
    said: dict[str, Any], quirk: str, becomes: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert fit({**BASE, **said}, quirk) == ({**BASE, **becomes}, dropped)


VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.sampled_from(['"seed"', "é", "developer", "\\u0073eed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["seed", "n", "role"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "seed", "n", "tools"]), VALUES, max_size=5))
def test_all_other_members_keep_their_values_and_order(rest: dict[str, Any]) -> None:
    value = {"model": "m", **rest}
    found, _ = fit(value, "no_seed", "no_developer_role")
    assert list(found.items()) == [(name, member) for name, member in value.items() if name != "seed"]


def test_the_reasoning_field_is_read_from_its_quirk() -> None:
    assert find_reasoning_field(["max_tokens"]) is None
    assert find_reasoning_field(["max_tokens", "reasoning_field:reasoning"]) == "reasoning"
    assert find_unknown(["max_tokens", "mx_tokens"]) == ["mx_tokens"]
