"""Calls leave when they are due, whatever becomes of those before them. All in virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from penstock.deploy.load.running import LoadRun, run_load
from penstock.deploy.load.types import LoadSpec, MixClass, Shape
from tests.deploy.load.virtual_time import Scripted, run_virtual


def run(
    spec: LoadSpec, *, prices: tuple[float, float] | None = None, stop_at: float | None = None, **script: Any
) -> tuple[LoadRun, Scripted]:
    async def make(clock: Callable[[], float]) -> tuple[LoadRun, Scripted]:
        sender, began = Scripted(clock, **script), clock()

        def should_stop() -> str:
            return "stopped by hand" if stop_at is not None and clock() - began >= stop_at else ""

        return await run_load(spec, sender, clock=clock, prices=prices, should_stop=should_stop), sender

    found: tuple[LoadRun, Scripted] = run_virtual(make)
    return found


STEADY = LoadSpec(
    route="a",
    shape=Shape(kind="constant", rate=10),
    seconds=10,
    mix=(MixClass(completion_tokens=11),),
    warmup=1,
)
"""First token after 50 ms, then one each 10 ms: 150 ms a call."""


def test_known_delays_are_measured_as_they_are() -> None:
    figures = run(STEADY)[0].result.targets[0]
    assert figures.n == 100
    for measure, expected in {"ttft": 50.0, "e2e": 150.0, "tpot": 10.0, "queueing": 0.0}.items():
        spread = figures.spreads[measure]
        assert spread.p50 is not None
        assert spread.p50.value == pytest.approx(expected, abs=0.01), measure
    assert figures.spreads["itl"].p50 is not None
    assert figures.spreads["itl"].p50.value == pytest.approx(10.0, rel=0.02)
    assert figures.completion_tokens_per_s is not None
    assert figures.completion_tokens_per_s.value == pytest.approx(1100 / 10.05, rel=0.01)


def test_a_target_that_stalls_is_asked_all_the_same_and_the_wait_shows() -> None:
    """Coordinated omission: a generator that waits for replies would send one slow call and tell 150 ms for all others."""
    result, sender = run(STEADY, frozen=(3.0, 5.0))
    sent = [at for _, _, at in sender.asked[1:]]
    stalled = [at for at in sent if 3.0 <= at < 5.0]
    assert len(stalled) == 20
    spread = result.result.targets[0].spreads["e2e"]
    assert spread.max is not None
    assert spread.max > 2000
    assert spread.p90 is not None
    assert spread.p90.value is not None
    assert spread.p90.value > 900


def test_a_closed_loop_hides_the_stall_and_says_that_it_is_one() -> None:
    spec = LoadSpec(
        route="a", shape=Shape(kind="closed", concurrency=1), seconds=10, mix=STEADY.mix, warmup=1
    )
    result = run(spec, frozen=(3.0, 5.0))[0].result
    spread = result.targets[0].spreads["e2e"]
    assert spread.p90 is not None
    assert spread.p90.value == pytest.approx(150.0, abs=0.1)
    assert not result.is_open_loop
    assert "lower than what people" in result.loop_note


def test_calls_that_wait_for_a_free_place_count_the_wait_as_latency() -> None:
    spec = LoadSpec(
        route="a",
        shape=Shape(kind="burst", rate=4, burst=4),
        requests=4,
        mix=STEADY.mix,
        warmup=0,
        max_in_flight=1,
    )
    made = run(spec)[0]
    spreads = made.result.targets[0].spreads
    assert spreads["e2e"].max == pytest.approx(600)
    assert spreads["ttft"].max == pytest.approx(500)
    assert spreads["e2e_sent"].max == pytest.approx(150)
    samples = made.samples
    waits = [round(sample.sent_s - sample.due_s, 3) for sample in samples]
    assert waits == [0.0, 0.15, 0.3, 0.45]
    assert all(sample.late_s == 0 for sample in samples)
    ends = [round(sample.ended_s - sample.due_s, 3) for sample in samples]
    assert ends == [0.15, 0.3, 0.45, 0.6]


def test_a_late_sender_makes_the_test_invalid_whatever_it_measured() -> None:
    async def make(clock: Callable[[], float]) -> LoadRun:
        late = _Jumping(clock)
        return await run_load(
            LoadSpec(
                route="a", shape=STEADY.shape, seconds=5, mix=STEADY.mix, warmup=0, limits=("e2e.p50 <= 1s",)
            ),
            Scripted(clock),
            clock=late,
        )

    result = run_virtual(make).result
    assert result.verdict.word == "invalid"
    assert not result.sending.is_usable
    assert "could not keep its plan" in result.verdict.sentence


class _Jumping:
    """A clock that finds, each time it is asked after a sleep, that 40 ms more have gone by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._extra, self._last = clock, 0.0, 0.0

    def __call__(self) -> float:
        now = self._clock()
        if now != self._last:
            self._extra += 0.04
            self._last = now
        return now + self._extra


def test_warm_up_and_settling_are_left_out() -> None:
    spec = LoadSpec(
        route="a", shape=Shape(kind="constant", rate=10), seconds=10, warmup=3, settle_s=4.0, mix=STEADY.mix
    )
    made = run(spec)[0]
    assert made.result.targets[0].n == 60
    assert made.result.alone[0].n == 3
    assert sum(sample.is_warmup for sample in made.samples) == 43


def test_prompts_come_to_the_size_that_was_asked_for() -> None:
    """The scripted target reads two tokens from each word; the warm-up tells the sender so."""
    spec = LoadSpec(
        route="a",
        shape=STEADY.shape,
        seconds=2,
        warmup=2,
        mix=(MixClass(prompt_tokens=100, completion_tokens=2),),
    )
    samples = [sample for sample in run(spec)[0].samples if not sample.is_warmup]
    assert all(sample.prompt_tokens == pytest.approx(100, abs=2) for sample in samples)


def test_classes_come_by_their_weights_and_are_told_apart() -> None:
    spec = LoadSpec(
        route="a",
        shape=Shape(kind="constant", rate=20),
        seconds=50,
        mix=(
            MixClass(name="short", weight=3, completion_tokens=2),
            MixClass(name="long", weight=1, completion_tokens=50),
        ),
    )
    result = run(spec)[0].result
    short, long = result.classes
    assert short.n / (short.n + long.n) == pytest.approx(0.75, abs=0.04)
    assert long.mean_completion_tokens == 50
    assert result.effects[0].per_completion_token_ms.value == pytest.approx(10.0, abs=0.01)
    assert result.effects[0].base_ms.value == pytest.approx(40.0, abs=0.1)


def test_no_call_is_sent_that_might_pass_the_cost_cap() -> None:
    from decimal import Decimal

    spec = LoadSpec(
        route="a", shape=STEADY.shape, seconds=10, warmup=0, mix=STEADY.mix, max_cost_usd=Decimal("0.10")
    )
    made, sender = run(spec, prices=(0.0, 0.001))
    assert made.result.stopped == "the cost cap is reached"
    assert len(sender.asked) == 9  # 11 tokens each are 0.011
    assert made.result.cost_usd == pytest.approx(0.099)


def test_calls_that_tell_no_usage_cost_the_same_in_figures_and_in_sum() -> None:
    """They may have been served: they count as what was set aside for them, everywhere."""
    spec = LoadSpec(route="a", shape=STEADY.shape, requests=10, warmup=0, mix=STEADY.mix)
    result = run(spec, prices=(0.0, 0.001), stop_at=0.45, frozen=(0.25, 1000.0))[0].result
    assert result.targets[0].n_failed == 2
    assert result.cost_usd == pytest.approx(0.055)
    assert result.targets[0].cost_usd == pytest.approx(0.055)


def test_a_stop_is_heard_between_calls_and_what_was_measured_is_kept() -> None:
    spec = LoadSpec(route="a", shape=Shape(kind="constant", rate=0.1), seconds=600, mix=STEADY.mix, warmup=0)
    result = run(spec, stop_at=25.0)[0].result
    assert result.stopped == "stopped by hand"
    assert result.targets[0].n == 3


def test_calls_cut_off_by_a_stop_are_failures_not_quick_replies() -> None:
    result = run(STEADY, stop_at=2.0, frozen=(1.0, 1000.0))[0].result
    figures = result.targets[0]
    assert {each.kind for each in figures.errors} == {"unfinished"}
    assert figures.n_failed == pytest.approx(11, abs=2)


def test_failures_are_counted_by_kind_and_never_sent_again() -> None:
    made, sender = run(STEADY, fails=lambda number: "500 x" if number % 10 == 5 else "")
    figures = made.result.targets[0]
    assert len(sender.asked) == 101
    assert [(each.kind, each.n) for each in figures.errors] == [("500 x", 10)]
    assert figures.n_failed == 10


def test_a_refusing_target_is_not_asked_as_fast_as_it_can_refuse() -> None:
    spec = LoadSpec(route="a", shape=Shape(kind="closed", concurrency=2), seconds=5, mix=STEADY.mix, warmup=0)
    _, sender = run(spec, fails=lambda _number: "429")
    assert len(sender.asked) <= 2 * 5 / 0.01 + 2


def test_a_bug_in_the_sender_is_not_swallowed() -> None:
    class Broken(Scripted):
        async def send(self, target: str, ask: Any) -> Any:
            raise AssertionError("a bug")

    async def make(clock: Callable[[], float]) -> LoadRun:
        return await run_load(
            LoadSpec(route="a", shape=STEADY.shape, seconds=1, warmup=0), Broken(clock), clock=clock
        )

    with pytest.raises(AssertionError, match="a bug"):
        run_virtual(make)


def test_the_loop_of_these_tests_takes_no_time() -> None:
    async def make(clock: Callable[[], float]) -> float:
        began = clock()
        await asyncio.sleep(3600)
        return clock() - began

    assert run_virtual(make) == pytest.approx(3600)
