"""Schedules: moments in time zones whose clocks change, spread by chance, and later after failures."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.sources.errors import InvalidSchedule
from penstock.knowledge.sources.patterns import compile_glob, reason_against
from penstock.knowledge.sources.schedules import (
    Schedule,
    backoff_ns,
    next_due,
    parse_schedule,
    read_schedule,
)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def times(schedule: Schedule, after: str, n: int) -> list[str]:
    found, moment = [], ns(after)
    for _ in range(n):
        moment = next_due(schedule, moment, lambda: 0.0)
        found.append(datetime.fromtimestamp(moment // 10**9, UTC).strftime("%m-%d %H:%M"))
    return found


def test_a_daily_time_that_the_clock_skips_runs_right_after_the_gap() -> None:
    schedule = parse_schedule("30 2 * * * Europe/Berlin")
    assert times(schedule, "2026-03-27T12:00", 3) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_daily_time_that_comes_twice_runs_once() -> None:
    schedule = parse_schedule("30 2 * * * Europe/Berlin")
    assert times(schedule, "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_half_hours_go_on_through_the_hour_that_comes_twice() -> None:
    schedule = parse_schedule("*/30 * * * * Europe/Berlin")
    assert times(schedule, "2026-10-24T23:45", 4) == [
        "10-25 00:00",
        "10-25 00:30",
        "10-25 01:00",
        "10-25 01:30",
    ]


@given(st.integers(ns("2026-01-01"), ns("2027-01-01")))
def test_the_next_moment_is_always_later(after: int) -> None:
    for schedule in (Schedule(every="10s"), Schedule(cron="*/7 1-3 * * *", timezone="America/New_York")):
        moments = [after]
        for _ in range(5):
            moments.append(next_due(schedule, moments[-1], lambda: 0.5))
        assert all(later > earlier for earlier, later in pairwise(moments))


def test_every_is_spread_by_a_twentieth_and_cron_is_not() -> None:
    assert next_due(Schedule(every="1h"), 0, lambda: 1.0) == (3600 + 180) * 10**9
    assert next_due(Schedule(every="1w"), 0, lambda: 1.0) == (604_800 + 300) * 10**9
    assert next_due(Schedule(every="1h", jitter="10s"), 0, lambda: 0.5) == 3605 * 10**9
    assert next_due(Schedule(cron="0 * * * *"), 0, lambda: 1.0) == 3600 * 10**9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "5",
        "1s",
        "400d",
        "61 * * * *",
        "* * * *",
        "0 0 30 2 *",
        "0 0 * * * Mars/Base",
        "../etc/passwd",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchedule):
        parse_schedule(text)


@pytest.mark.parametrize("value", [{}, {"every": "1h", "cron": "0 * * * *"}, {"evry": "1h"}, {"every": 5}, 7])
def test_schedules_as_values_are_checked(value: object) -> None:
    with pytest.raises(InvalidSchedule):
        read_schedule(value)


def test_waiting_doubles_up_to_six_hours() -> None:
    assert [backoff_ns(n) // 10**9 for n in (1, 2, 3, 4, 10, 1000)] == [60, 120, 240, 480, 21_600, 21_600]


@pytest.mark.parametrize(
    ("pattern", "path", "is_met"),
    [
        ("*.md", "a.md", True),
        ("*.md", "deep/er/a.md", True),
        ("/a.md", "deep/a.md", False),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/deep/a.md", False),
        ("docs/**/*.md", "docs/a.md", True),
        ("docs/**/*.md", "docs/deep/er/a.md", True),
        ("drafts/", "drafts/a/b.md", True),
        ("drafts/", "other/drafts/b.md", False),
        ("a?.[mt]d", "ab.md", True),
        ("a[!b].md", "ab.md", False),
        ("a[.md", "a[.md", True),
        ("a.b", "aXb", False),
    ],
)
def test_globs_mean_what_people_mean(pattern: str, path: str, is_met: bool) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is is_met


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_can_be_a_pattern(pattern: str, path: str) -> None:
    reason_against(path, [pattern], [])
