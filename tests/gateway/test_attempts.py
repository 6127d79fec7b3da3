"""Which target is asked when: retries, waits, deadlines, the breaker, fallbacks, hedging, stickiness, versions."""

import asyncio
import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.gateway.answers import AttemptFailed
from penstock.gateway.errors import ProviderKeyMissing
from penstock.gateway.routing.errors import RetiredVersion, TargetsOpen, WrongFallbacks
from penstock.spec.routes import (
    BreakerPolicy,
    Deprecation,
    Fallback,
    FaultKind,
    HedgePolicy,
    PinnedVersion,
    RetryPolicy,
    Route,
    Target,
)
from tests.gateway.routing.scripted import Scene, Step, fails, targets


def tiered(*names: str) -> tuple[Target, ...]:
    return tuple(Target(provider=name, model="m", tier=number) for number, name in enumerate(names))


def route(*names: str, **more: Any) -> Route:
    return Route(name="r", targets=tiered(*names), **more)


# -- retries


async def test_the_next_target_is_asked_at_once() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails("server-error")]})
    assert await scene.ask_and_release() == "b"
    assert scene.exchange.names == ["a", "b"]
    assert scene.clock.slept == []


async def test_a_target_is_asked_again_after_all_others_and_a_wait() -> None:
    scene = Scene(
        route("a", "b", retry=RetryPolicy(max_attempts=4)),
        scripts={"a": [fails("timeout"), Step()], "b": [fails("server-error")]},
    )
    assert await scene.ask_and_release() == "a"
    assert scene.exchange.names == ["a", "b", "a"]
    assert len(scene.clock.slept) == 1
    assert 0 <= scene.clock.slept[0] <= 0.2


async def test_no_target_is_asked_twice_where_the_route_says_so() -> None:
    scene = Scene(route("a", retry=RetryPolicy(same_target=False)), scripts={"a": [fails("timeout")]})
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert scene.exchange.names == ["a"]


async def test_a_rate_limit_with_no_other_target_is_waited_out_for_as_long_as_the_provider_says() -> None:
    scene = Scene(route("a"), scripts={"a": [fails("rate-limit", retry_after_s=3.0), Step()]})
    assert await scene.ask_and_release() == "a"
    assert 3.0 <= scene.clock.slept[0] <= 3.2


async def test_a_rate_limit_with_another_target_is_not_waited_for() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails("rate-limit", retry_after_s=3.0)]})
    assert await scene.ask_and_release() == "b"
    assert scene.clock.slept == []


async def test_a_target_that_asked_for_rest_is_asked_last_by_the_next_call() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails("rate-limit", retry_after_s=3.0), Step()]})
    await scene.ask_and_release()
    assert await scene.ask_and_release() == "b"
    scene.clock.now += 3.1
    assert await scene.ask_and_release() == "a"


async def test_who_asks_for_too_much_rest_is_left_alone() -> None:
    scene = Scene(route("a"), scripts={"a": [fails("rate-limit", retry_after_s=60.0, status=429)]})
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert caught.value.answer is not None
    assert caught.value.answer.status == 429
    assert scene.exchange.names == ["a"]


async def test_what_is_the_callers_fault_is_told_at_once() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails(None, status=400)]})
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert caught.value.answer is not None
    assert scene.exchange.names == ["a"]


async def test_a_model_that_one_target_does_not_have_is_looked_for_at_the_next() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails(None, status=404)]})
    assert await scene.ask_and_release() == "b"
    scene.exchange.scripts["b"] = [fails(None, status=404)]
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert caught.value.answer is not None
    assert caught.value.answer.status == 404
    assert scene.exchange.names == ["a", "b", "a", "b"]


async def test_faults_the_route_does_not_name_are_not_retried() -> None:
    scene = Scene(route("a", "b", retry=RetryPolicy(on=("connect",))), scripts={"a": [fails("server-error")]})
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert scene.exchange.names == ["a"]


async def test_a_refused_key_leads_to_the_next_target_and_never_back() -> None:
    scene = Scene(
        route("a", "b", retry=RetryPolicy(on=("connect",), max_attempts=5)),
        scripts={"b": [fails("connect")]},
    )
    error = AttemptFailed(ProviderKeyMissing("no key"), fault="server-error", retry_after_s=math.inf)
    scene.exchange.scripts["a"] = [Step(error=error)]
    with pytest.raises(AttemptFailed, match="b failed"):
        await scene.ask()
    assert scene.exchange.names == ["a", "b", "b", "b", "b"]


async def test_the_providers_own_words_are_preferred_to_ours() -> None:
    scene = Scene(route("a", "b"), scripts={"a": [fails("rate-limit", status=429)], "b": [fails("connect")]})
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert caught.value.answer is not None
    assert caught.value.answer.status == 429


async def test_the_wait_never_passes_the_deadline() -> None:
    scene = Scene(route("a", deadline_s=2.0), scripts={"a": [fails("rate-limit", retry_after_s=2.5), Step()]})
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert scene.clock.slept == []


async def test_attempts_have_the_shorter_of_their_own_and_the_calls_time() -> None:
    one = Route(
        name="r",
        targets=(
            Target(provider="a", model="m", timeout_s=1.0),
            Target(provider="b", model="m", tier=1, timeout_s=9.0),
        ),
        deadline_s=3.0,
    )
    scene = Scene(one, scripts={"a": [Step(takes_s=100)], "b": [Step(takes_s=100)]})
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert caught.value.fault == "timeout"
    assert scene.exchange.deadlines == [1001.0, 1003.0]
    assert scene.clock.now == 1003.0


async def test_an_outage_is_not_multiplied() -> None:
    scene = Scene(route("a", breaker=None), scripts={"a": [fails("server-error")]})
    for _ in range(100):
        with pytest.raises(AttemptFailed):
            await scene.ask()
        scene.clock.now = 1000.5
    assert len(scene.exchange.names) <= 100 + max(10, 0.1 * 100)


async def test_a_bug_is_not_taken_for_a_failure_of_the_target() -> None:
    scene = Scene(route("a", "b"))
    scene.exchange.scripts["a"] = [Step(error=InvalidInput("not sayable"))]
    with pytest.raises(InvalidInput):
        await scene.ask()
    assert scene.exchange.names == ["a"]
    assert scene.in_flight() == 0


# -- breaker


async def test_a_failing_target_is_left_alone_and_probed_once() -> None:
    policy = BreakerPolicy(min_calls=5, open_s=10.0)
    scene = Scene(route("a", "b", breaker=policy), scripts={"a": [fails("server-error")]})
    for _ in range(5):
        assert await scene.ask_and_release() == "b"
    assert scene.exchange.names.count("a") == 5
    for _ in range(5):
        await scene.ask_and_release()
    assert scene.exchange.names.count("a") == 5, "open"
    scene.clock.now += 10.0
    await scene.ask_and_release()
    await scene.ask_and_release()
    assert scene.exchange.names.count("a") == 6, "one probe, then open again"
    scene.clock.now += 10.0
    scene.exchange.scripts["a"] = [Step()]
    assert [await scene.ask_and_release() for _ in range(3)] == ["a"] * 3


async def test_when_all_are_open_the_call_fails_at_once_and_says_until_when() -> None:
    scene = Scene(
        route("a", retry=RetryPolicy(max_attempts=1), breaker=BreakerPolicy(min_calls=2, open_s=8.0)),
        scripts={"a": [fails("timeout")]},
    )
    for _ in range(2):
        with pytest.raises(AttemptFailed):
            await scene.ask()
    scene.clock.now += 2.0
    with pytest.raises(AttemptFailed, match="left alone for 6 s") as caught:
        await scene.ask()
    assert isinstance(caught.value.error, TargetsOpen)
    assert caught.value.error.status == 503
    assert caught.value.retry_after_s == 6
    assert caught.value.fault == "timeout", "so that fallbacks for timeouts apply"


async def test_rate_limits_and_wrong_requests_do_not_open_the_breaker() -> None:
    for step in (fails("rate-limit", retry_after_s=99), fails(None), fails("context-length")):
        scene = Scene(route("a", breaker=BreakerPolicy(min_calls=2)), scripts={"a": [step]})
        for _ in range(6):
            with pytest.raises(AttemptFailed):
                await scene.ask()
        assert len(scene.exchange.names) == 6


async def test_a_probe_that_is_rightly_refused_shows_that_the_target_is_back() -> None:
    policy = BreakerPolicy(min_calls=1, open_s=5.0)
    scene = Scene(
        route("a", breaker=policy, retry=RetryPolicy(max_attempts=1)),
        scripts={"a": [fails("server-error"), fails(None, status=400)]},
    )
    for _ in range(4):
        with pytest.raises(AttemptFailed):
            await scene.ask()
        scene.clock.now = 1005.0
    assert len(scene.exchange.names) == 4
    assert [target.state for target in scene.health._targets.values()] == ["closed"]


async def test_callers_cannot_close_an_open_route_by_models_that_are_forbidden() -> None:
    for name, model, n_asked in (("a/*", "a/secret", 6), ("r", "r", 2)):
        one = Route(
            name=name,
            targets=targets("a"),
            breaker=BreakerPolicy(min_calls=2),
            retry=RetryPolicy(max_attempts=1),
        )
        scene = Scene(one, scripts={"a": [fails("server-error", status=403)]})
        for _ in range(6):
            with pytest.raises(AttemptFailed):
                await scene.ask(scene.call(model))
        assert len(scene.exchange.names) == n_asked


async def test_a_stream_that_breaks_after_the_commit_counts_as_a_failure() -> None:
    scene = Scene(route("a", breaker=BreakerPolicy(min_calls=3)))
    for _ in range(3):
        answer = await scene.ask()
        assert answer.lease is not None
        answer.lease.fail("server-error")
        answer.release()
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    assert isinstance(caught.value.error, TargetsOpen)


async def test_a_probe_that_is_cancelled_lets_another_one_through() -> None:
    scene = Scene(route("a", breaker=BreakerPolicy(min_calls=1, open_s=5.0), retry=RetryPolicy(max_attempts=1)),
                  scripts={"a": [fails("server-error"), Step(takes_s=50), Step()]})  # fmt: skip
    with pytest.raises(AttemptFailed):
        await scene.ask()
    scene.clock.now += 5.0
    probe = asyncio.ensure_future(scene.attempts.find_answer(scene.call()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await scene.ask_and_release() == "a"


# -- fallbacks


async def test_another_route_takes_over_for_the_faults_it_is_named_for() -> None:
    scene = Scene(
        route("a", retry=RetryPolicy(max_attempts=1), fallbacks=(Fallback(route="long", on=("context-length",)),)),
        Route(name="long", targets=targets("b")),
        scripts={"a": [fails("context-length", status=400), fails("server-error")]},
    )  # fmt: skip
    call = scene.call()
    assert await scene.ask_and_release(call) == "b"
    assert call.route is not None
    assert call.route.route.name == "long"
    with pytest.raises(AttemptFailed, match="server-error"):
        await scene.ask()


async def test_the_error_of_the_route_that_was_asked_for_is_told_when_no_fallback_helps() -> None:
    scene = Scene(
        route("a", fallbacks=(Fallback(route="long", on=("content-filter",)),)),
        Route(name="long", targets=targets("b")),
        scripts={"a": [fails("content-filter", status=200)], "b": [fails("connect")]},
    )
    call = scene.call()
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask(call)
    assert caught.value.answer is not None
    assert caught.value.answer.target.provider.name == "a"
    assert call.route is not None
    assert call.route.route.name == "r"


async def test_an_open_breaker_leads_to_the_fallback() -> None:
    scene = Scene(
        route("a", breaker=BreakerPolicy(min_calls=1, open_s=60.0), fallbacks=(Fallback(route="other"),)),
        Route(name="other", targets=targets("b")),
        scripts={"a": [fails("connect")]},
    )
    assert [await scene.ask_and_release() for _ in range(4)] == ["b"] * 4
    assert scene.exchange.names.count("a") == 1


async def test_fallbacks_of_fallbacks_serve_and_no_route_is_tried_twice() -> None:
    fallback = (Fallback(route="s"), Fallback(route="t"))
    scene = Scene(
        Route(name="t", targets=targets("c")),
        Route(name="s", targets=targets("b"), fallbacks=(Fallback(route="t"),)),
        route("a", fallbacks=fallback),
        scripts={name: [fails("connect")] for name in "abc"},
    )
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert set(scene.exchange.names) == {"a", "b", "c"}
    assert scene.exchange.names.index("b") < scene.exchange.names.index("c")
    assert scene.exchange.names.count("c") <= 3


def with_spare(*names: str, **more: Any) -> tuple[Route, Route]:
    """A route that falls back to another one, whose target is `z`."""
    return route(*names, **{"fallbacks": (Fallback(route="spare"),), **more}), Route(
        name="spare", targets=targets("z")
    )


@pytest.mark.parametrize(
    "step", [fails("rate-limit", retry_after_s=8.0, status=429), fails("rate-limit"), fails("timeout")]
)
@pytest.mark.parametrize("names", ["a", "ab"])
async def test_a_fallback_comes_before_waiting_for_a_busy_or_silent_target(step: Step, names: str) -> None:
    scene = Scene(*with_spare(*names), scripts={name: [step] for name in names})
    assert await scene.ask_and_release() == "z"
    assert scene.exchange.names == [*names, "z"]
    assert scene.clock.slept == []


async def test_a_target_that_rests_is_not_asked_while_its_fallback_serves() -> None:
    scene = Scene(*with_spare("a"), scripts={"a": [fails("rate-limit", retry_after_s=8.0), Step()]})
    assert [await scene.ask_and_release() for _ in range(3)] == ["z"] * 3
    assert scene.exchange.names == ["a", "z", "z", "z"]
    scene.clock.now += 8.1
    assert await scene.ask_and_release() == "a"


async def test_a_target_that_rests_is_asked_when_the_fallback_fails() -> None:
    scene = Scene(*with_spare("a"), scripts={"a": [fails("rate-limit", retry_after_s=8.0), Step()]})
    await scene.ask_and_release()
    scene.exchange.scripts["z"] = [fails("timeout")]
    call = scene.call()
    assert await scene.ask_and_release(call) == "a"
    assert scene.exchange.names == ["a", "z", "z", "a"]
    assert scene.clock.slept == []
    assert call.route is call.asked


async def test_a_rate_limit_is_waited_out_once_the_fallback_has_failed_too() -> None:
    scene = Scene(
        *with_spare("a"),
        scripts={"a": [fails("rate-limit", retry_after_s=3.0), Step()], "z": [fails("rate-limit", retry_after_s=8.0)]},
    )  # fmt: skip
    assert await scene.ask_and_release() == "a", "who may be asked soonest"
    assert scene.exchange.names == ["a", "z", "a"]
    assert 3.0 <= scene.clock.slept[0] <= 3.2


async def test_a_rate_limit_is_waited_out_where_the_fallback_is_for_something_else() -> None:
    scene = Scene(
        *with_spare("a", fallbacks=(Fallback(route="spare", on=("context-length",)),)),
        scripts={"a": [fails("rate-limit", retry_after_s=3.0), fails("context-length", status=400)]},
    )
    assert await scene.ask_and_release() == "z", "the repeat failed by what the fallback is for"
    assert scene.exchange.names == ["a", "a", "z"]


@pytest.mark.parametrize("fault", ["connect", "server-error"])
async def test_one_quick_repeat_comes_before_the_fallback(fault: FaultKind) -> None:
    slow = RetryPolicy(max_attempts=5, base_s=60.0, max_s=60.0)
    scene = Scene(*with_spare("a", retry=slow), scripts={"a": [fails(fault)]})
    assert await scene.ask_and_release() == "z"
    assert scene.exchange.names == ["a", "a", "z"]
    assert sum(scene.clock.slept) <= 1.0


async def test_all_fallbacks_are_asked_before_any_wait() -> None:
    one, spare = with_spare("a", fallbacks=(Fallback(route="spare"), Fallback(route="last")))
    busy = fails("rate-limit", retry_after_s=5.0)
    scene = Scene(one, spare, Route(name="last", targets=targets("y")), scripts={"a": [busy], "z": [busy]})
    assert [await scene.ask_and_release() for _ in range(2)] == ["y", "y"]
    assert scene.exchange.names == ["a", "z", "y", "y"]
    assert scene.clock.slept == []


async def test_nobody_waits_for_others_when_the_fallback_finds_the_request_wrong() -> None:
    scene = Scene(
        *with_spare("a"), scripts={"a": [fails("rate-limit", retry_after_s=3.0)], "z": [fails(None, status=400)]}
    )  # fmt: skip
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert scene.exchange.names == ["a", "z"]


async def test_the_error_names_every_target_with_its_reason_and_no_secret() -> None:
    keyless = AttemptFailed(
        ProviderKeyMissing("no key, not even sk-abcdefghijklmnopqrstuvwxyz012345"),
        fault="server-error",
        retry_after_s=math.inf,
    )
    scene = Scene(*with_spare("a", "b"), scripts={"a": [Step(error=keyless)], "b": [fails("connect")], "z": [fails("timeout")]})  # fmt: skip
    with pytest.raises(AttemptFailed) as caught:
        await scene.ask()
    text = str(caught.value.error)
    assert text.startswith("No target of 'r' could serve the call: a (m): no key")
    assert "b (m): b failed: connect; fallback spare, z (m): z failed: timeout." in text
    assert "abcdefghijklmnop" not in text
    assert "traces show" in text


async def test_when_all_are_open_in_all_routes_the_error_names_the_route_asked_for() -> None:
    policy = BreakerPolicy(min_calls=1, open_s=60.0)
    one, spare = with_spare("a", breaker=policy)
    spare = Route(name="spare", targets=targets("z"), breaker=policy)
    scene = Scene(one, spare, scripts={"a": [fails("timeout")], "z": [fails("timeout")]})
    for _ in range(2):
        with pytest.raises(AttemptFailed) as caught:
            await scene.ask()
    assert isinstance(caught.value.error, TargetsOpen)
    assert caught.value.retry_after_s == 60
    assert str(caught.value.error).startswith("No target of 'r' could serve the call: a (m): failed just now")


def test_tables_refuse_fallbacks_that_go_round_or_nowhere() -> None:
    with pytest.raises(WrongFallbacks, match="lead back"):
        Scene(route("a", fallbacks=(Fallback(route="r"),)))
    with pytest.raises(WrongFallbacks, match="does not exist"):
        Scene(route("a", fallbacks=(Fallback(route="nowhere"),)))


# -- hedging


def hedged(**more: Any) -> Route:
    return route("a", "b", hedge=HedgePolicy(after_s=1.0, max_ratio=1.0), **more)


async def test_a_second_target_is_asked_when_the_first_is_silent_and_the_loser_is_left() -> None:
    scene = Scene(hedged(), scripts={"a": [Step(takes_s=30)], "b": [Step(takes_s=1)]})
    call = scene.call()
    assert await scene.ask_and_release(call) == "b"
    assert scene.exchange.asked == [(1000.0, "a"), (1001.0, "b")]
    assert scene.exchange.cancelled == ["a"]
    assert [record.outcome for record in call.attempt_log] == ["abandoned", "served"]
    assert call.target is not None
    assert call.target.provider.name == "b"
    assert scene.in_flight() == 0


async def test_the_first_may_still_win() -> None:
    scene = Scene(hedged(), scripts={"a": [Step(takes_s=1.5)], "b": [Step(takes_s=30)]})
    call = scene.call()
    assert await scene.ask_and_release(call) == "a"
    assert scene.exchange.cancelled == ["b"]
    assert call.target is not None
    assert call.target.provider.name == "a"


async def test_nobody_is_hedged_who_answers_in_time() -> None:
    scene = Scene(hedged(), scripts={"a": [Step(takes_s=0.9)]})
    assert await scene.ask_and_release() == "a"
    assert scene.exchange.names == ["a"]


async def test_when_both_fail_others_are_asked() -> None:
    scene = Scene(
        route("a", "b", "c", hedge=HedgePolicy(after_s=1.0, max_ratio=1.0)),
        scripts={"a": [fails("server-error", takes_s=2)], "b": [fails("server-error", takes_s=2)]},
    )
    assert await scene.ask_and_release() == "c"


async def test_the_second_of_a_race_counts_as_an_attempt() -> None:
    scene = Scene(
        route(
            "a", "b", "c", retry=RetryPolicy(max_attempts=2), hedge=HedgePolicy(after_s=1.0, max_ratio=1.0)
        ),
        scripts={"a": [fails("server-error", takes_s=2)], "b": [fails("server-error", takes_s=2)]},
    )
    with pytest.raises(AttemptFailed):
        await scene.ask()
    assert scene.exchange.names == ["a", "b"]


async def test_two_answers_at_the_same_moment_leave_one_released() -> None:
    scene = Scene(hedged(), scripts={"a": [Step(takes_s=2)], "b": [Step(takes_s=1)]})
    answer = await scene.ask()
    assert len(scene.exchange.answers) == 2
    for other in scene.exchange.answers:
        assert (other.n_releases > 0) == (other is not answer)
    answer.release()
    assert scene.in_flight() == 0


async def test_no_more_calls_are_hedged_than_the_share() -> None:
    scene = Scene(
        route("a", "b", breaker=None, hedge=HedgePolicy(after_s=1.0, max_ratio=0.05)),
        scripts={"a": [Step(takes_s=1.05)], "b": [Step(takes_s=9)]},
    )
    for _ in range(200):
        await scene.ask_and_release()
        scene.clock.now = 1000.0
    assert scene.exchange.names.count("b") == 10


async def test_a_cancelled_race_leaves_nothing_behind() -> None:
    scene = Scene(hedged(), scripts={"a": [Step(takes_s=30)], "b": [Step(takes_s=30)]})
    task = asyncio.ensure_future(scene.attempts.find_answer(scene.call()))
    passing = asyncio.ensure_future(scene.clock.run(asyncio.sleep(0.05)))
    while len(scene.exchange.names) < 2:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    passing.cancel()
    assert sorted(scene.exchange.cancelled) == ["a", "b"]
    assert scene.exchange.n_running == 0
    assert scene.in_flight() == 0


# -- stickiness and affinity


async def test_a_session_stays_with_its_target_and_moves_only_when_that_fails() -> None:
    one = Route(name="r", targets=targets("a", "b", "c"), sticky="session")
    scene = Scene(one)

    def call(session: str) -> Any:
        made = scene.call()
        made.session = session
        return made

    homes = {name: await scene.ask_and_release(call(name)) for name in "stuvwxyz"}
    assert len(set(homes.values())) > 1
    assert {name: await scene.ask_and_release(call(name)) for name in "stuvwxyz"} == homes
    scene.exchange.scripts["a"] = [fails("connect")]
    moved = {name: await scene.ask_and_release(call(name)) for name in "stuvwxyz"}
    assert all(moved[name] == home for name, home in homes.items() if home != "a")


async def test_a_cache_key_is_a_session_and_a_user_of_the_body_is_a_user() -> None:
    scene = Scene(
        Route(name="r", targets=targets("a", "b", "c", "d"), sticky="session"),
        Route(name="u", targets=targets("a", "b", "c", "d"), sticky="user"),
    )
    for name, model in (("cache_key", "r"), ("user", "u"), ("user", "r")):
        seen = {await scene.ask_and_release(scene.call(model, **{name: "anna"})) for _ in range(12)}
        assert len(seen) == 1
    assert len({await scene.ask_and_release(scene.call()) for _ in range(40)}) == 4


async def test_a_response_is_continued_by_who_made_it_and_by_nobody_else() -> None:
    scene = Scene(Route(name="r", targets=targets("a", "b", "c"), retry=RetryPolicy(max_attempts=2)))
    homes = {}
    for number in range(12):
        scene.exchange.body = b'{"id":"resp_%d"}' % number
        call = scene.call()
        call.dialect = "responses"
        homes[f"resp_{number}"] = await scene.ask_and_release(call)
    assert len(set(homes.values())) == 3
    for response_id, home in homes.items():
        assert await scene.ask_and_release(scene.call(previous=response_id)) == home
    home = homes["resp_0"]
    scene.exchange.scripts[home] = [fails("server-error")]
    scene.exchange.asked.clear()
    with pytest.raises(AttemptFailed):
        await scene.ask(scene.call(previous="resp_0"))
    assert set(scene.exchange.names) == {home}


# -- versions


OLD = Deprecation(since="2026-06-01", sunset="2026-12-31", replacement="r@v2")


async def test_a_pinned_version_serves_its_own_targets_and_warns() -> None:
    pins = (
        PinnedVersion(name="v1", targets=targets("old"), version="model:x@1", deprecation=OLD),
        PinnedVersion(name="v2", targets=targets("new")),
    )
    scene = Scene(Route(name="r", targets=targets("new"), version="model:x@2", pins=pins))
    call = scene.call("r@v1")
    scene.attempts.check_version(call)
    answer = await scene.ask(call)
    assert answer.target.provider.name == "old"
    assert (b"x-penstock-version", b"model:x@1") in answer.target.reply_headers
    assert dict(call.extra_headers)[b"sunset"] == b"Thu, 31 Dec 2026 00:00:00 GMT"
    assert call.warnings == ["r@v1 is deprecated and will be retired on 2026-12-31; use r@v2"]
    current = scene.call()
    scene.attempts.check_version(current)
    assert current.extra_headers == []
    assert scene.table.find_route("r@v3") is None


async def test_a_retired_version_is_refused_before_anything_is_asked() -> None:
    scene = Scene(route("a", deprecation=Deprecation(sunset="2026-11-21", replacement="s")))
    with pytest.raises(RetiredVersion, match="Use 's' instead"):
        scene.attempts.check_version(scene.call())


# -- whatever happens

STEPS = st.builds(
    Step,
    takes_s=st.sampled_from([0.0, 0.0, 0.3, 2.0, 50.0]),
    ok=st.booleans(),
    fault=st.sampled_from(["connect", "timeout", "rate-limit", "server-error", "context-length", None]),
    retry_after_s=st.sampled_from([None, 0.5, 4.0, 99.0]),
    status=st.sampled_from([None, 503]),
)


@settings(max_examples=150, deadline=None)
@given(
    scripts=st.fixed_dictionaries({name: st.lists(STEPS, min_size=1, max_size=4) for name in "abcd"}),
    max_attempts=st.integers(1, 6),
    same_target=st.booleans(),
    deadline_s=st.floats(0.5, 30),
    hedges=st.booleans(),
    falls_back=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_whatever_the_targets_do_the_rules_hold(
    scripts: dict[str, list[Step]],
    max_attempts: int,
    same_target: bool,
    deadline_s: float,
    hedges: bool,
    falls_back: bool,
    seed: int,
) -> None:
    async def play() -> None:
        retry = RetryPolicy(max_attempts=max_attempts, same_target=same_target)
        first = Route(
            name="r",
            targets=targets("a", "b", "c"),
            retry=retry,
            deadline_s=deadline_s,
            hedge=HedgePolicy(after_s=0.2, max_ratio=1.0) if hedges else None,
            fallbacks=(Fallback(route="s", on=("connect", "timeout", "context-length")),)
            if falls_back
            else (),
        )
        scene = Scene(first, Route(name="s", targets=targets("d"), retry=retry), scripts=scripts, seed=seed)
        for _ in range(3):
            began, n_before = scene.clock.now, len(scene.exchange.asked)
            call = scene.call()
            answer = None
            with contextlib.suppress(AttemptFailed):
                answer = await scene.ask(call)
            n_asked = len(scene.exchange.asked) - n_before
            assert sum(name != "d" for name in scene.exchange.names[n_before:]) <= max_attempts
            assert n_asked <= max_attempts * (2 if falls_back else 1)
            assert scene.clock.now <= began + deadline_s + 1e-6
            assert all(at <= began + deadline_s for at, _ in scene.exchange.asked[n_before:])
            assert scene.exchange.n_running == 0, "nothing runs once the call is answered"
            for other in scene.exchange.answers:
                assert other is answer or other.n_releases >= 1
            if answer is not None:
                assert call.attempt_log.count(answer.record) == 1
                assert sum(record.outcome == "served" for record in call.attempt_log) == 1
                answer.release()
            assert scene.in_flight() == 0

    asyncio.run(play())
