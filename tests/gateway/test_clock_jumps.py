"""The machine's clock jumps: limits never give out more than they have, calls keep their time and their order."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.gateway.errors import LimitReached
from penstock.spec.windows import find_window
from tests.gateway.conftest import Bench
from tests.gateway.test_limit_rules import Limits, facts, rule

HOUR, YEAR = 3600.0, 365 * 86_400.0
JUMPS = [0.0, 1.0, -1.0, 30.0, -30.0, 61.0, -61.0, HOUR, -HOUR, YEAR, -YEAR]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # each example has counters of its own
@given(jumps=st.lists(st.sampled_from(JUMPS), max_size=40))
@pytest.mark.parametrize("window", ["minute", "day"])
def test_a_window_gives_its_limit_and_no_more_wherever_the_clock_jumps(
    tmp_path_factory: pytest.TempPathFactory, window: str, jumps: list[float]
) -> None:
    limits = Limits(tmp_path_factory.mktemp("clock"))
    limits.limiter.use_rules([rule(amount=5, window=window)])
    given_out, current = 0, None
    for jump in [0.0, *jumps]:
        limits.clock.now += jump
        window_now = find_window(window, limits.clock.now)  # type: ignore[arg-type]
        if window_now != current:  # a window that was left is begun again: the last one is all that is kept
            given_out, current = 0, window_now
        for _ in range(3):
            try:
                hold = limits.admit(facts())
            except LimitReached:
                continue  # also of the window before, where the clock went back a little
            assert hold is not None
            given_out += 1
            assert given_out <= 5
            limits.limiter.settle(hold, tokens=1, usd=None, counts_request=True)
    limits.store.close()


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR, YEAR, -YEAR])
async def test_a_call_is_served_in_its_time_while_the_clock_jumps(
    ready: Bench, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    real_time, real_ns = time.time, time.time_ns
    asked = 0

    def jumping() -> float:
        nonlocal asked
        asked += 1
        return real_time() + jump_s * (asked % 2)

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    statuses = [(await ready.post({"model": "gpt-4o-mini", "messages": []})).status for _ in range(6)]
    monkeypatch.setattr(time, "time_ns", real_ns)
    assert statuses == [200] * 6
    for span in await ready.sink.wait(6):
        assert span.end_ns is not None
        assert 0 <= span.end_ns - span.start_ns < 60e9
        assert span.overhead_ms is not None and 0 <= span.overhead_ms < 60_000


def test_a_clock_that_is_set_back_a_little_begins_nothing_again(tmp_path: Path) -> None:
    limits = Limits(tmp_path)
    limits.limiter.use_rules([rule(amount=2)])
    limits.admit(facts())
    limits.clock.now -= 15.0  # into the minute before
    limits.admit(facts())
    for jump in (0.0, 15.0, -15.0):
        limits.clock.now += jump
        with pytest.raises(LimitReached):
            limits.admit(facts())
    limits.store.close()
