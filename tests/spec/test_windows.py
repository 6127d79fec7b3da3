"""Windows follow the calendar in UTC, hold the moment they are asked for, and join without gap."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec.windows import find_window, name_counter, read_counter_name

KINDS = ["minute", "hour", "day", "week", "month"]


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("minute", "2028-02-29T23:59:00", "2028-03-01T00:00:00"),
        ("hour", "2028-02-29T23:00:00", "2028-03-01T00:00:00"),
        ("day", "2028-02-29", "2028-03-01"),
        ("week", "2028-02-28", "2028-03-06"),
        ("month", "2028-02-01", "2028-03-01"),
    ],
)
def test_windows_are_those_of_the_clock_in_utc(kind: Any, start: str, end: str) -> None:
    assert find_window(kind, at("2028-02-29T23:59:59") + 0.9) == (at(start), at(end))


@given(kind=st.sampled_from(KINDS), now_s=st.floats(0, 4e9))
def test_a_window_holds_its_moment_and_the_next_begins_where_it_ends(kind: Any, now_s: float) -> None:
    window = find_window(kind, now_s)
    assert window.start_s <= now_s < window.end_s
    assert find_window(kind, window.end_s).start_s == window.end_s
    assert find_window(kind, window.start_s) == window


@given(rule=st.text(max_size=80), subject=st.text(max_size=300))
def test_counter_names_are_short_distinct_and_readable(rule: str, subject: str) -> None:
    text = name_counter(rule, "tokens", "day", subject)
    assert len(text.encode()) <= 470
    name = read_counter_name(text)
    assert name is not None
    assert (name.unit, name.window) == ("tokens", "day")
    assert text != name_counter(rule, "tokens", "day", subject + "x")
