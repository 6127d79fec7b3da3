"""Canonical JSON text: equal values have equal text, and every JSON value comes back as it was."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput, TooLarge
from penstock.base.json_text import clean_text, decode_json, digest_text, encode_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, database=None)
@given(value=VALUES)
def test_every_json_value_comes_back_with_its_types(value: Any) -> None:
    text = encode_json(value, what="It")
    assert repr(decode_json(text)) == repr(json.loads(json.dumps(value, sort_keys=True)))
    assert digest_text(text) == digest_json(value)


@settings(deadline=None, database=None)
@given(pairs=st.dictionaries(TEXT, VALUES, max_size=5))
def test_the_order_of_keys_changes_nothing(pairs: dict[str, Any]) -> None:
    assert encode_json(dict(reversed(pairs.items())), what="It") == encode_json(pairs, what="It")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"x", {1, 2}, "\ud800", {"a": 1, 2: 3}, object], ids=repr
)
def test_what_is_no_json_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidInput, match="The result of step 'x' cannot be written as JSON"):
        encode_json({"v": value}, what="The result of step 'x'")


def test_a_value_that_holds_itself_is_refused() -> None:
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(InvalidInput):
        encode_json(knot, what="It")


def test_size_is_counted_in_bytes() -> None:
    assert encode_json("é" * 4, what="It", max_bytes=10)
    with pytest.raises(TooLarge, match="11 bytes of JSON; at most 10"):
        encode_json("é" * 4 + "x", what="It", max_bytes=10)


@settings(deadline=None, database=None)
@given(text=st.text())
def test_cleaned_text_can_be_stored_anywhere_and_good_text_is_left_alone(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    assert clean_text(cleaned) == cleaned
    if "\x00" not in text and not any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        assert cleaned == text
    cleaned.encode()
