"""Deprecation as the RFCs write it, retirement with a replacement, chains of fallbacks, and whose a response is."""

from array import array
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.routing.affinity import AFFINITY_WORDS, Affinity, find_response_id, tag_of
from penstock.gateway.routing.errors import RetiredVersion, WrongFallbacks
from penstock.gateway.routing.fallbacks import order_by_fallbacks
from penstock.gateway.routing.versions import (
    deprecation_headers,
    deprecation_warning,
    refuse_retired,
    split_pin,
)
from penstock.spec.routes import Deprecation

OLD = Deprecation(since="2026-06-01", sunset="2026-12-31", replacement="triage@v2")


def test_the_headers_are_those_of_the_rfcs() -> None:
    assert deprecation_headers(OLD, date(2026, 11, 21)) == [
        (b"deprecation", b"@1780272000"),
        (b"sunset", b"Thu, 31 Dec 2026 00:00:00 GMT"),
    ]


def test_nothing_is_said_before_the_day() -> None:
    assert deprecation_headers(OLD, date(2026, 5, 31)) == []
    assert deprecation_warning("triage@v1", OLD, date(2026, 5, 31)) is None


def test_the_warning_says_when_and_what_instead() -> None:
    assert (
        deprecation_warning("triage@v1", OLD, date(2026, 6, 1))
        == "triage@v1 is deprecated and will be retired on 2026-12-31; use triage@v2"
    )


def test_on_the_day_of_its_sunset_a_version_is_gone() -> None:
    refuse_retired("triage@v1", OLD, date(2026, 12, 30))
    with pytest.raises(RetiredVersion) as caught:
        refuse_retired("triage@v1", OLD, date(2026, 12, 31))
    assert caught.value.status == 410
    assert "triage@v2" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "parts"),
    [("triage@v1", ("triage", "v1")), ("triage", None), ("@v1", None), ("triage@", None), ("a@b@c", ("a@b", "c"))],
)  # fmt: skip
def test_a_pin_is_what_stands_behind_the_last_at(model: str, parts: tuple[str, str] | None) -> None:
    assert split_pin(model) == parts


def test_fallbacks_come_before_what_falls_back_to_them() -> None:
    order = order_by_fallbacks({"a": ["b", "c"], "b": ["c"], "c": [], "d": ["elsewhere"]})
    assert set(order) == {"a", "b", "c", "d"}
    assert order.index("c") < order.index("b") < order.index("a")


@pytest.mark.parametrize("chain", [{"a": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["a"]}])
def test_a_circle_of_fallbacks_is_refused_and_shown(chain: dict[str, list[str]]) -> None:
    with pytest.raises(WrongFallbacks, match="lead back to it: a → "):
        order_by_fallbacks(chain)


def test_three_may_follow_one_another_and_not_four() -> None:
    chain = {"a": ["b"], "b": ["c"], "c": ["d"], "d": []}
    assert order_by_fallbacks(chain) == ["d", "c", "b", "a"]
    with pytest.raises(WrongFallbacks, match="go on for 4 routes"):
        order_by_fallbacks({"z": ["a"], **chain})


@given(ids=st.lists(st.text(min_size=1, max_size=40), unique=True, max_size=50))
def test_the_last_ids_are_found_again(ids: list[str]) -> None:
    affinity = Affinity(array("Q", bytes(8 * AFFINITY_WORDS)))
    for number, response_id in enumerate(ids):
        affinity.remember(response_id, f"target-{number}", 1000.0 + number)
    for number, response_id in enumerate(ids):
        assert affinity.find(response_id) == tag_of(f"target-{number}")
    assert affinity.find("\x00 never seen " * 5) is None


def test_the_id_is_found_in_a_body_and_in_a_stream() -> None:
    assert find_response_id(b'{"id": "resp_abc", "object": "response"}') == "resp_abc"
    event = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_9","status"'
    assert find_response_id(event) == "resp_9"
    assert find_response_id(b'{"id": "chatcmpl-1"}') is None
