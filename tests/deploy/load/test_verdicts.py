"""Limits held against what was measured, comparisons, and the search for a rate. In virtual time."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from penstock.deploy.load.comparing import compare_targets
from penstock.deploy.load.errors import InvalidLimit, InvalidLoadTest
from penstock.deploy.load.mixes import Ask
from penstock.deploy.load.running import check_spec, next_rate, run_load
from penstock.deploy.load.types import FindRate, LoadResult, LoadSpec, MixClass, Sample, Shape
from tests.deploy.load.virtual_time import Scripted, run_virtual

SHORT = (MixClass(completion_tokens=11),)


def run(spec: LoadSpec, *, stop_at: float | None = None, **script: Any) -> LoadResult:
    async def make(clock: Callable[[], float]) -> LoadResult:
        began = clock()

        def should_stop() -> str:
            return "stopped by hand" if stop_at is not None and clock() - began >= stop_at else ""

        sender = Scripted(clock, **script)
        return (await run_load(spec, sender, clock=clock, should_stop=should_stop)).result

    found: LoadResult = run_virtual(make)
    return found


def steady(*limits: str, rate: float = 10.0, seconds: float = 30.0) -> LoadSpec:
    return LoadSpec(
        route="a",
        shape=Shape(kind="constant", rate=rate),
        seconds=seconds,
        mix=SHORT,
        warmup=1,
        limits=limits,
    )


def test_a_limit_that_the_whole_interval_keeps_passes_in_a_sentence() -> None:
    verdict = run(steady("ttft.p95 <= 60ms")).verdict
    assert verdict.word == "pass"
    assert verdict.sentence == (
        "a at 10 requests/s: p95 of time to first token 50.0 ms (95 % interval 50.0 ms to 50.0 ms), "
        "at most 60.0 ms wanted: pass."
    )


def test_a_limit_that_the_whole_interval_breaks_fails() -> None:
    verdict = run(steady("ttft.p95 <= 60ms", "e2e.p50 <= 100ms")).verdict
    assert verdict.word == "fail"
    assert "time to the end" in verdict.sentence
    assert "first token" not in verdict.sentence


def test_too_few_calls_for_a_percentile_are_undecided_and_say_how_many_it_takes() -> None:
    verdict = run(steady("ttft.p99 <= 60ms", seconds=5)).verdict
    assert verdict.word == "undecided"
    assert "--requests 368" in verdict.limits[0].next


def test_a_target_that_fails_its_slow_calls_does_not_pass() -> None:
    """Percentiles of successful calls alone would be kept: 8 % failed, and a failed call met no limit."""
    result = run(
        steady("ttft.p95 <= 60ms", seconds=60), fails=lambda number: "502 x" if number % 12 == 3 else ""
    )
    assert result.targets[0].spreads["ttft"].p95 is not None
    assert result.targets[0].spreads["ttft"].p95.value == pytest.approx(50.0)
    assert result.verdict.word == "fail"
    assert "failed" in result.verdict.sentence


def test_when_every_call_fails_no_limit_is_kept() -> None:
    assert run(steady("ttft.p95 <= 60ms"), fails=lambda _number: "502").verdict.word == "fail"


def test_goodput_is_the_share_and_rate_of_calls_that_keep_every_limit_on_single_calls() -> None:
    def tokens(_target: str, ask: Ask) -> int:
        return ask.max_tokens

    spec = msgspec.structs.replace(
        steady("e2e <= 100ms", "ttft <= 1s", "goodput >= 40%", rate=20, seconds=50),
        mix=(MixClass(name="s", completion_tokens=2), MixClass(name="l", completion_tokens=20)),
    )
    result = run(spec, tokens=tokens)
    figures = result.targets[0]
    assert figures.goodput is not None
    assert figures.goodput.value == pytest.approx(0.5, abs=0.06)
    assert figures.goodput_per_s is not None
    assert figures.goodput_per_s.value == pytest.approx(20 * figures.goodput.value, rel=0.02)
    assert result.verdict.word == "pass"
    assert [each.limit for each in result.verdict.limits] == ["goodput >= 40%"]


def test_without_limits_nothing_is_judged() -> None:
    assert run(steady()).verdict.word == "unjudged"


def test_one_stage_at_each_rate_tells_which_keep_the_limits() -> None:
    spec = msgspec.structs.replace(
        steady("e2e.p50 <= 200ms", seconds=20), rates=(2.0, 4.0, 12.0), shape=Shape(kind="constant")
    )
    result = run(spec, n_slots=1)  # 6.7 calls a second are all it can do
    assert [stage.verdict.word for stage in result.stages if stage.verdict] == ["pass", "pass", "fail"]
    assert result.verdict.word == "fail"
    assert "kept at 2, 4 requests/s" in result.verdict.sentence


def test_the_largest_rate_that_keeps_the_limits_is_found() -> None:
    spec = LoadSpec(
        route="a",
        shape=Shape(kind="constant"),
        seconds=30,
        mix=SHORT,
        limits=("e2e.p90 <= 200ms",),
        find_rate=FindRate(low=1, high=64, runs=12, within=0.05),
    )
    found = run(spec, n_slots=1).found
    assert found is not None
    assert found.rate is not None
    assert found.fails_at is not None
    assert found.rate <= 1 / 0.15 <= found.fails_at  # a call takes 150 ms, one at a time
    assert found.fails_at <= found.rate * 1.05
    assert f"up to {found.rate:.3g} requests/s" in found.sentence


def test_a_search_whose_lowest_rate_fails_says_so() -> None:
    spec = LoadSpec(
        route="a",
        shape=Shape(kind="constant"),
        seconds=30,
        mix=SHORT,
        limits=("e2e.p50 <= 100ms",),
        find_rate=FindRate(low=1, high=8),
    )
    result = run(spec)
    assert result.found is not None
    assert result.found.rate is None
    assert result.verdict.word == "fail"
    assert len(result.stages) == 1


@pytest.mark.parametrize(
    ("keeps", "fails", "following"),
    [
        (None, 1.0, None),
        (2.0, None, 4.0),
        (40.0, None, 64.0),
        (64.0, None, None),
        (4.0, 16.0, 8.0),
        (4.0, 4.2, None),
    ],
)
def test_the_next_rate_doubles_then_halves_the_way_between(
    keeps: float | None, fails: float | None, following: float | None
) -> None:
    assert next_rate(keeps, fails, low=1.0, high=64.0, within=0.1) == following


SEARCH = LoadSpec(
    route="a",
    shape=Shape(kind="constant"),
    seconds=30,
    mix=SHORT,
    warmup=0,
    limits=("e2e.p50 <= 300ms",),
    find_rate=FindRate(low=20, high=64),
)


def test_a_search_that_was_stopped_has_not_shown_that_the_target_fails() -> None:
    result = run(SEARCH, stop_at=10.0)
    assert result.verdict.word == "undecided"
    assert "stopped before it was done" in result.verdict.sentence
    assert "stopped by hand" in result.verdict.sentence


def test_a_search_that_was_stopped_keeps_the_rate_it_had_found() -> None:
    result = run(SEARCH, stop_at=40.0)
    assert result.found is not None
    assert result.found.rate == 20
    assert result.verdict.word == "pass"
    assert "20 requests/s keep" in result.verdict.sentence


def test_a_search_whose_first_run_is_undecided_is_undecided() -> None:
    spec = msgspec.structs.replace(SEARCH, seconds=None, requests=10, limits=("e2e.p99 <= 300ms",))
    assert run(spec).verdict.word == "undecided"


def test_a_test_that_ended_early_says_so_in_its_sentence() -> None:
    verdict = run(steady("ttft.p50 <= 60ms"), stop_at=20.0).verdict
    assert verdict.word == "pass"
    assert verdict.sentence.endswith("It ended early: stopped by hand.")


def test_rates_that_a_test_did_not_come_to_are_not_kept() -> None:
    limited = steady("ttft.p50 <= 60ms")
    several = msgspec.structs.replace(limited, rates=(5.0, 10.0, 20.0))
    ramp = msgspec.structs.replace(limited, shape=Shape(kind="ramp", rate=1, to_rate=20))
    for spec in (several, ramp):
        assert run(spec).verdict.word == "pass"
        verdict = run(spec, stop_at=25.0).verdict
        assert verdict.word == "undecided"
        assert "did not come to" in verdict.sentence


def words_of_stages(stalls: list[tuple[float, float]]) -> list[str]:
    spec = msgspec.structs.replace(
        steady("ttft.p50 <= 1s", seconds=10), rates=(5.0, 5.0, 5.0, 5.0), warmup=0, max_late_ms=20.0
    )
    return [stage.verdict.word for stage in run(spec, stalls=stalls).stages if stage.verdict]


def test_each_stage_answers_for_its_own_lateness() -> None:
    """A bad first stage would make each later one invalid, and many quiet ones would hide a bad last one."""
    assert words_of_stages([(2.0, 3.0)]) == ["invalid", "pass", "pass", "pass"]
    assert words_of_stages([(33.0, 0.3)]) == ["pass", "pass", "pass", "invalid"]


def test_a_stall_of_the_sender_weighs_as_much_as_it_lasted() -> None:
    """In a closed loop no call is due at a moment, and during a stall the watch does not look: one look in fifty told of it."""
    spec = msgspec.structs.replace(
        steady("ttft.p50 <= 10s", seconds=60), shape=Shape(kind="closed", concurrency=1)
    )
    stalled = run(spec, stalls=[(3.0 * number, 1.0) for number in range(1, 20)])
    assert not stalled.sending.is_usable
    assert stalled.verdict.word == "invalid"
    assert (stalled.sending.loop_lag_p99_ms or 0.0) > 500
    assert run(spec, stalls=[(30.0, 0.1)]).sending.is_usable


def test_a_sender_that_is_late_is_told_what_helps() -> None:
    """A lower rate does not help a sender on a machine that is busy with something else."""
    stalled = run(steady("ttft.p50 <= 2s", rate=2), stalls=[(10.0, 2.0)]).sending.sentence
    assert "lower rate" not in stalled
    assert "--max-late-ms" in stalled
    allowed = msgspec.structs.replace(steady("ttft.p50 <= 2s", rate=2), max_late_ms=2_500.0)
    assert run(allowed, stalls=[(10.0, 2.0)]).verdict.word == "pass"


def test_progress_counts_the_calls_that_the_report_counts() -> None:
    told: list[str] = []

    async def make(clock: Callable[[], float]) -> LoadResult:
        spec = msgspec.structs.replace(steady(seconds=5), warmup=3)
        made = await run_load(spec, Scripted(clock), clock=clock, tell=lambda _share, text: told.append(text))
        return made.result

    result: LoadResult = run_virtual(make)
    assert "0 calls" in next(text for text in told if "calls" in text)
    assert int(told[-1].split(": ")[1].split()[0]) <= result.n_calls


def noisy(seed: int) -> Callable[[str, Ask], int]:
    rng = random.Random(seed)
    return lambda _target, ask: max(1, round(ask.max_tokens * rng.lognormvariate(0, 0.4)))


PAIRED = LoadSpec(route="new", against="old", shape=Shape(rate=5), seconds=8, mix=SHORT, warmup=1)


def test_a_slower_target_is_told_by_how_much_with_an_interval() -> None:
    result = run(PAIRED, slower={"new": 1.3}, tokens=noisy(1))
    assert result.comparison is not None
    ratio = next(each for each in result.comparison.ratios if each.measure == "ttft.p50")
    assert ratio.value == pytest.approx(1.3, abs=0.01)
    assert "new is 30 % later than old with first token" in result.comparison.sentence
    assert result.verdict.word == "unjudged"


def test_both_targets_of_a_pair_are_asked_alike_in_alternating_order() -> None:
    async def make(clock: Callable[[], float]) -> list[tuple[str, Ask, float]]:
        sender = Scripted(clock)
        await run_load(msgspec.structs.replace(PAIRED, pairs=2, warmup=0), sender, clock=clock)
        return sender.asked

    asked = run_virtual(make)
    order = [target for target, _, _ in asked]
    changes = [target for number, target in enumerate(order) if number == 0 or order[number - 1] != target]
    assert changes == ["new", "old", "new"]  # A B B A
    ours = [ask.messages for target, ask, _ in asked if target == "new"]
    theirs = [ask.messages for target, ask, _ in asked if target == "old"]
    assert ours == theirs


def made_up(rng: random.Random, block: float, number: int) -> Sample:
    taken = block * rng.lognormvariate(-1.0, 0.4)
    return Sample(
        stage=0,
        number=number,
        target="a",
        kind="calls",
        due_s=0.0,
        sent_s=0.0,
        first_s=taken / 3,
        ended_s=taken,
    )


def test_the_same_target_twice_is_told_apart_as_rarely_as_the_level_says() -> None:
    """Blocks differ among themselves, as on a machine with other work; intervals over single calls would miss far more."""
    missed = 0
    for seed in range(300):
        rng = random.Random(seed)
        pairs = []
        for _ in range(6):
            sides = [
                [made_up(rng, rng.lognormvariate(0, 0.3), number) for number in range(25)] for _ in range(2)
            ]
            pairs.append((sides[0], sides[1]))
        ratio = next(each for each in compare_targets("a", "a", pairs).ratios if each.measure == "e2e.p50")
        assert ratio.low is not None
        assert ratio.high is not None
        missed += not ratio.low <= 1 <= ratio.high
    assert 0.02 <= missed / 300 <= 0.085


def test_a_limit_on_the_ratio_is_judged_by_its_interval() -> None:
    spec = msgspec.structs.replace(PAIRED, limits=("ttft.p50 <= 1.1x",))
    assert run(spec, slower={"new": 1.02}, tokens=noisy(3)).verdict.word == "pass"
    assert run(spec, slower={"new": 1.5}, tokens=noisy(3)).verdict.word == "fail"


def test_a_target_that_fails_most_calls_does_not_pass_a_limit_on_the_ratio() -> None:
    """Of the calls that succeed it is as quick as the other: whoever fails slow calls would be let through."""
    spec = msgspec.structs.replace(PAIRED, limits=("e2e.p95 <= 1.1x", "e2e.mean <= 1.1x"))
    result = run(spec, fails_at={"new": lambda number: "503" if number % 5 < 3 else ""})
    assert [each.verdict for each in result.verdict.limits] == ["fail", "fail"]
    assert "% of the calls failed" in result.verdict.sentence
    assert "no difference" not in result.verdict.sentence
    assert result.comparison is not None
    assert "cannot be compared" in result.comparison.sentence


def test_a_ratio_is_kept_where_few_enough_calls_failed_to_have_a_percentile() -> None:
    spec = msgspec.structs.replace(PAIRED, limits=("e2e.p50 <= 1.1x",))
    few = run(spec, fails_at={"new": lambda number: "503" if number % 20 == 3 else ""})
    assert few.verdict.word == "pass"


def test_against_a_target_that_failed_there_is_nothing_to_compare_with() -> None:
    spec = msgspec.structs.replace(PAIRED, limits=("e2e.p95 <= 1.1x",))
    result = run(spec, fails_at={"old": lambda number: "503" if number % 2 else ""})
    assert result.verdict.word == "undecided"
    assert "nothing to compare with" in result.verdict.sentence


def test_a_target_that_answers_nothing_fails_a_limit_on_the_ratio() -> None:
    spec = msgspec.structs.replace(PAIRED, limits=("e2e.p95 <= 1.1x",))
    assert run(spec, fails_at={"new": lambda _number: "503"}).verdict.word == "fail"


@pytest.mark.parametrize(
    "limit", ["itl.p50 <= 50ms", "itl.p95 <= 50ms", "itl.mean <= 50ms", "itl.max <= 50ms"]
)
def test_times_between_pieces_of_failed_calls_have_no_end(limit: str) -> None:
    def most(number: int) -> str:
        return "503" if number % 5 < 3 else ""

    assert run(steady(limit)).verdict.word == "pass"
    verdict = run(steady(limit), fails=most).verdict
    assert verdict.word == "fail"
    assert "% of the calls failed" in verdict.sentence


def test_a_mean_over_failed_calls_has_no_end() -> None:
    verdict = run(steady("ttft.mean <= 300ms"), fails=lambda number: "503" if number % 5 < 3 else "").verdict
    assert verdict.word == "fail"
    assert "% of the calls failed" in verdict.sentence


def test_versions_that_answered_are_told_apart() -> None:
    result = run(PAIRED)
    assert [each.label for each in result.versions] == ["model:new@1", "model:old@1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"rates": (1.0,), "against": "b"},
        {"rates": (1.0, 2.0), "shape": Shape(kind="closed")},
        {"find_rate": FindRate()},
        {"limits": ("e2e.p50 <= 1.1x",)},
        {"seconds": 0.0},
        {"requests": 0},
        {"mix": ()},
        {"mix": (MixClass(name="a"), MixClass(name="a"))},
        {"mix": (MixClass(weight=0.0),)},
        {"mix": (MixClass(prompt_tokens=(9, 3)),)},
        {"mix": (MixClass(source="web"),)},
        {"parameters": {"stream": False}},
        {"settle_s": 40.0, "seconds": 30.0},
        {"level": 1.0},
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((InvalidLoadTest, InvalidLimit)):
        check_spec(msgspec.structs.replace(LoadSpec(route="a"), **changes))
