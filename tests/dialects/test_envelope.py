"""What a gateway reads of a request, and what it refuses."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.dialects.openai.dialect import OPENAI
from penstock.dialects.openai.envelope import parse_envelope
from penstock.dialects.openai.json_scan import is_deeper, is_nested_deeper, scan_members
from penstock.dialects.openai.splice import ask_for_usage, replace_model

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.just("model"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("model"), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ("model", "stream", "stream_options", "n",
    "max_tokens", "max_completion_tokens")), VALUES, max_size=5)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    OBJECTS,
    st.text(min_size=1, max_size=12),
    st.text(min_size=1, max_size=12),
    st.booleans(),
    st.booleans(),
    st.integers(0, 5),
)
def test_splicing_the_model_changes_that_value_and_nothing_else(
    rest: dict[str, object], before: str, after: str, is_ascii: bool, is_spaced: bool, place: int
) -> None:
    items = list(rest.items())
    items.insert(min(place, len(items)), ("model", before))
    separators = (", ", " : ") if is_spaced else (",", ":")
    body = json.dumps(dict(items), ensure_ascii=is_ascii, separators=separators)
    try:
        data = body.encode()
    except UnicodeEncodeError:
        return
    spliced = replace_model(data, after)
    assert list(json.loads(spliced).items()) == [
        (name, after if name == "model" else value) for name, value in items
    ]
    member = next(member for member in scan_members(data) if member.name == "model")
    assert spliced[: member.start] == data[: member.start]
    assert spliced.endswith(data[member.end :])


@settings(max_examples=60, deadline=None)
@given(OBJECTS, st.none() | st.dictionaries(st.sampled_from(["include_usage", "other"]), st.booleans()))
def test_asking_for_usage_keeps_every_other_member(
    rest: dict[str, object], options: dict[str, bool] | None
) -> None:
    value = {**rest, "model": "m", "stream": True}
    if options is not None:
        value["stream_options"] = options
    data = json.dumps(value).encode()
    try:
        envelope = parse_envelope(data, max_depth=64)
    except InvalidInput:
        return  # half a surrogate pair
    asked = json.loads(ask_for_usage(data, envelope))
    assert asked.pop("stream_options") == {**(options or {}), "include_usage": True}
    value.pop("stream_options", None)
    assert asked == value


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_depth_is_what_a_decoder_would_find(value: object) -> None:
    def depth(item: object) -> int:
        if isinstance(item, dict):
            return 1 + max((depth(inner) for inner in item.values()), default=0)
        if isinstance(item, list):
            return 1 + max((depth(inner) for inner in item), default=0)
        return 0

    text = json.dumps(value).encode()
    true = depth(value)
    assert not is_nested_deeper(text, than=true)
    if true:
        assert is_nested_deeper(text, than=true - 1)


class Watched(bytes):
    """Bytes that count how many of them have been handed out."""

    n_read = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.n_read += len(found) if isinstance(place, slice) else 1
        return found


@pytest.mark.parametrize(
    ("marks", "limit", "is_over"),
    [
        ((b"[" * 60 + b"]" * 60) * 5000, 64, False),
        (b'"' * 300_001 + b"[" * 60, 64, False),
        ((b"[" * 64 + b"]" * 64) * 5000 + b"[" * 65, 64, True),
    ],
)
def test_depth_is_found_reading_each_byte_once(marks: bytes, limit: int, is_over: bool) -> None:
    watched = Watched(marks)
    assert is_deeper(watched, than=limit) is is_over
    assert watched.n_read <= len(marks)


def test_a_tower_over_the_limit_is_left_at_once() -> None:
    watched = Watched(b"[" * 1_000_000)
    assert is_deeper(watched, than=64)
    assert watched.n_read < 50_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (rb'{"model": "m", "messages": "\ud83d"', "truncated"),
        (rb'{"model": "m", "messages": [], "x": "\ud83d"}', "half of a surrogate pair"),
        (b"[1]", "Expected `object`"),
        (b'{"messages": []}', "names no `model`"),
        (b'{"model": ""}', "`model` is empty"),
        (b'{"model": 7}', "`model` is wrong"),
        (b'{"model": "m", "stream": "yes"}', "`stream` is wrong"),
        (b'{"model": "m", "max_tokens": []}', "`max_tokens` is wrong"),
        (b'{"model": "m", "x": "\xff"}', "not valid UTF-8"),
        (b'{"model": "m", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "deeper than 64"),
        (b'{"model": "m", "x": ' + b"[" * 100_000, "deeper than 64"),
        (b'{"model": "a", "model": "b"}', "given twice"),
        (b'{"model": "a", "mod\\u0065l": "b"}', "given twice"),
        (b'{"model": "a", "stream": false, "s\\u0074ream": true}', "given twice"),
    ],
)
def test_a_bad_body_is_refused_by_name(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says.replace("[", r"\[")):
        parse_envelope(body, max_depth=64)


def test_brackets_in_strings_do_not_nest() -> None:
    body = json.dumps({"model": "m", "x": "[" * 500, "y": [{}] * 200}).encode()
    assert parse_envelope(body, max_depth=64).model == "m"


def test_the_word_model_elsewhere_is_left_alone() -> None:
    body = b'{"tools": [{"model": "inner"}], "model": "outer", "messages": ["model"]}'
    assert (
        replace_model(body, "new")
        == b'{"tools": [{"model": "inner"}], "model": "new", "messages": ["model"]}'
    )
    escaped = b'{"m": {"model": "inner"}, "mod\\u0065l": "outer"}'
    assert replace_model(escaped, "new") == b'{"m": {"model": "inner"}, "mod\\u0065l": "new"}'


def test_what_keeps_requests_together_reaches_the_gateway() -> None:
    def read(text: bytes) -> str | None:
        body = b'{"model": "m"' + text + b"}"
        return OPENAI.peek(body, model=None, stream=None, max_depth=64).cache_key

    assert read(b', "prompt_cache_key": "talk-7"') == "talk-7"
    assert (read(b""), read(b', "prompt_cache_key": 7')) == (None, None)


def test_what_limits_need_is_read_whatever_it_is_called() -> None:
    def read(text: bytes) -> tuple[object, ...]:
        envelope = parse_envelope(b'{"model": "m"' + text + b"}", max_depth=64)
        return envelope.max_tokens, envelope.user, envelope.has_tools, envelope.wants_usage

    assert read(b"") == (None, None, False, False)
    assert read(b', "max_tokens": 5, "user": "u", "tools": [{}]') == (5, "u", True, False)
    assert read(b', "max_tokens": 5, "max_completion_tokens": 7, "user": 3, "tools": [ ]') == (
        7,
        None,
        False,
        False,
    )
    assert read(b', "tools": null, "stream_options": {"include_usage": true}') == (None, None, False, True)
