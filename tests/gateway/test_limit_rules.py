"""Rules: who they are for, what is reserved and settled, what refusals and headers say."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.gateway.errors import BudgetReached, LimitReached
from penstock.gateway.limiting.notices import refusal_headers
from penstock.gateway.limiting.rules import UNBOUNDED_TOKENS
from penstock.gateway.limits import Hold, Limiter, LimitFacts
from penstock.gateway.text_sizes import BLOB_TOKENS, estimate_prompt_tokens
from penstock.spec.limits import LimitRule
from penstock.spec.routes import KeyRow
from penstock.spec.windows import read_counter_name
from penstock.store.counters import CounterStore

NOW = 1_000_030.0  # 50 s before the end of its minute


def row(name: str = "alice", **fields: Any) -> KeyRow:
    return KeyRow(id=f"key_{name}", name=name, secret_sha256="0" * 64, **fields)


def rule(scope: Any = "key", unit: Any = "requests", amount: Any = 1, **fields: Any) -> LimitRule:
    values = {"name": f"{scope}-{unit}", "window": "minute", **fields}
    return LimitRule(scope=scope, unit=unit, amount=Decimal(amount), **values)


def facts(key: KeyRow | None = None, **fields: Any) -> LimitFacts:
    return LimitFacts(**{"key": key or row(), "route": "r", "model": "m", "completion_tokens": 0, **fields})


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Limits:
    """A limiter over a real file, with an event loop that runs only while it is asked."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = CounterStore(folder)
        self.limiter = Limiter(self.store, now_s=self.clock)

    def admit(self, wanted: LimitFacts) -> Hold | None:
        with asyncio.Runner() as runner:
            return runner.run(self.limiter.admit(wanted))

    def count(self, wanted: LimitFacts, tries: int = 20) -> int:
        for number in range(tries):
            try:
                self.admit(wanted)
            except LimitReached:
                return number
        return tries

    def used(self) -> dict[tuple[str, str], int]:
        found = {}
        for counter in self.store.list_counters():
            name = read_counter_name(counter.key)
            assert name is not None
            found[name.rule, name.subject] = counter.value
        return found


@pytest.fixture
def limits(tmp_path: Path) -> Iterator[Limits]:
    made = Limits(tmp_path)
    yield made
    made.store.close()


async def test_calls_of_one_turn_are_counted_in_one_step_and_each_by_itself(limits: Limits) -> None:
    limits.limiter.use_rules([rule(amount=3)])
    steps = []
    count_each = limits.store.reserve_each
    limits.store.reserve_each = lambda calls, before=(): steps.append(len(calls)) or count_each(calls, before)  # type: ignore[method-assign]
    told = await asyncio.gather(*(limits.limiter.admit(facts()) for _ in range(5)), return_exceptions=True)
    assert [isinstance(one, LimitReached) for one in told] == [False, False, False, True, True]
    assert steps == [5]


@pytest.mark.parametrize("n_turns", [1, 2])
async def test_a_call_that_is_cancelled_while_it_is_counted_holds_nothing(
    limits: Limits, n_turns: int
) -> None:
    limits.limiter.use_rules([rule(amount=1)])
    asking = asyncio.create_task(limits.limiter.admit(facts()))
    for _ in range(n_turns):  # after one it waits, after two it has been counted and does not know yet
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await limits.limiter.admit(facts()) is not None


def test_a_call_that_no_rule_is_for_reserves_nothing(limits: Limits) -> None:
    limits.limiter.use_rules([rule(match="key_bob")])
    assert limits.admit(facts()) is None


@pytest.mark.parametrize("scope", ["key", "user", "project", "route", "model"])
def test_a_rule_without_match_counts_each_subject_by_itself(limits: Limits, scope: str) -> None:
    limits.limiter.use_rules([rule(scope, amount=3)])
    one = facts(row(project="p1"), user="u1", route="r1", model="m1")
    other = facts(row("bob", project="p2"), user="u2", route="r2", model="m2")
    assert (limits.count(one), limits.count(other)) == (3, 3)


@pytest.mark.parametrize(
    ("scope", "match"),
    [("key", "key_alice"), ("user", "u1"), ("project", "p1"), ("route", "r1"), ("model", "m1")],
)
def test_a_rule_with_match_is_for_that_one_only(limits: Limits, scope: str, match: str) -> None:
    limits.limiter.use_rules([rule(scope, amount=3, match=match)])
    one = facts(row(project="p1"), user="u1", route="r1", model="m1")
    other = facts(row("bob", project="p2"), user="u2", route="r2", model="m2")
    assert (limits.count(one, 5), limits.count(other, 5)) == (3, 5)


def test_a_rule_for_all_has_one_counter(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", amount=3)])
    assert limits.count(facts(row("alice")), 2) + limits.count(facts(row("bob"))) == 3


def test_a_limit_for_users_cannot_be_passed_by_leaving_the_name_out(limits: Limits) -> None:
    limits.limiter.use_rules([rule("user", amount=2)])
    assert limits.count(facts(row("alice", user="anna"), user=None)) == 2
    assert limits.count(facts(user="anna")) == 0
    assert limits.count(facts(row("bob"), user=None)) == 2


def test_calls_that_apps_make_count_only_where_their_callers_did_not(limits: Limits) -> None:
    rules = [rule(scope, amount=1) for scope in ("key", "user", "project")]
    limits.limiter.use_rules([*rules, rule("model", amount=3)])
    assert limits.count(facts(row("internal", scopes=("internal",)))) == 3


def test_a_refused_call_has_used_nothing_of_any_rule(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", amount=10), rule("route", amount=1), rule("model", "tokens", 99)])
    limits.admit(facts(prompt_tokens=7))
    before = limits.used()
    with pytest.raises(LimitReached, match="route-requests"):
        limits.admit(facts(prompt_tokens=7))
    assert limits.used() == before
    assert before["all-requests", ""] == 1
    assert before["model-tokens", "m"] == 7


def test_limits_of_the_keys_own_row_hold_beside_rules(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", amount=5)])
    limited = row(requests_per_minute=2, tokens_per_minute=100)
    assert limits.count(facts(limited, prompt_tokens=10)) == 2
    assert limits.count(facts(row("bob", tokens_per_minute=100), prompt_tokens=40)) == 2


def test_settling_replaces_what_was_reserved(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", unit, 1_000_000) for unit in ("requests", "tokens", "usd")])
    hold = limits.admit(facts(prompt_tokens=100, completion_tokens=900, usd=Decimal("0.5")))
    assert hold is not None
    assert limits.used() == {
        ("all-requests", ""): 1, ("all-tokens", ""): 1000, ("all-usd", ""): 500_000_000,
    }  # fmt: skip
    limits.limiter.settle(hold, tokens=150, usd=Decimal("0.0000000371"), counts_request=True)
    assert limits.used() == {("all-requests", ""): 1, ("all-tokens", ""): 150, ("all-usd", ""): 38}
    limits.limiter.settle(hold, tokens=0, usd=Decimal(0), counts_request=False)
    assert limits.used()["all-tokens", ""] == 150, "settled once"


def test_what_nobody_tells_stays_as_reserved_and_what_was_never_sent_goes_back(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", unit, 1_000_000) for unit in ("requests", "tokens", "usd")])
    wanted = facts(prompt_tokens=100, completion_tokens=900, usd=Decimal("0.5"))
    unknown, unsent = limits.admit(wanted), limits.admit(wanted)
    assert unknown is not None
    assert unsent is not None
    limits.limiter.settle(unknown, tokens=None, usd=None, counts_request=True)
    limits.limiter.settle(unsent, tokens=0, usd=Decimal(0), counts_request=False)
    assert list(limits.used().values()) == [1, 1000, 500_000_000]


def test_a_reply_that_nothing_bounds_reserves_what_is_left_at_most(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", "tokens", UNBOUNDED_TOKENS + 500)])
    unbounded = facts(prompt_tokens=100, completion_tokens=None)
    first, second = limits.admit(unbounded), limits.admit(unbounded)
    assert first is not None
    assert second is not None
    assert limits.used()["all-tokens", ""] == UNBOUNDED_TOKENS + 500
    with pytest.raises(LimitReached):
        limits.admit(unbounded)
    limits.limiter.settle(second, tokens=110, usd=None, counts_request=True)
    assert limits.used()["all-tokens", ""] == UNBOUNDED_TOKENS + 100 + 110


def test_a_call_served_by_another_model_moves_to_that_models_rules(limits: Limits) -> None:
    limits.limiter.use_rules([rule("model", "tokens", 1000), rule("model", amount=9, match="other")])
    hold = limits.admit(facts(prompt_tokens=100, completion_tokens=100, model="first"))
    assert hold is not None
    limits.limiter.settle(hold, tokens=30, usd=None, counts_request=True, model="other")
    assert limits.used() == {
        ("model-tokens", "first"): 0, ("model-tokens", "other"): 30, ("model-requests", "other"): 1,
    }  # fmt: skip


def test_a_used_up_budget_refuses_what_has_no_price_but_not_what_is_free(limits: Limits) -> None:
    limits.limiter.use_rules([rule("project", "usd", "0.10", window="month")])
    limits.admit(facts(usd=Decimal("0.10")))
    with pytest.raises(BudgetReached):
        limits.admit(facts(usd=None))
    assert limits.admit(facts(usd=Decimal(0))) is None


def test_money_is_summed_exactly(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", "usd", "0.000000003")])
    assert limits.count(facts(usd=Decimal("0.000000001"))) == 3


def test_a_rule_that_warns_serves_and_says_so(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", amount=1, action="warn", name="soft")])
    first, second = limits.admit(facts()), limits.admit(facts())
    assert first is not None
    assert second is not None
    assert first.warnings == []
    assert second.warnings == [
        "rule 'soft' for all calls: 2 of 1 requests per minute, resets 1970-01-12T13:48:00Z"
    ]
    assert second.headers == [], "a limit that refuses nobody is none that clients should slow down for"


def test_a_rule_that_warns_counts_on_whatever_a_caller_asks_for(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", "tokens", amount=50, action="warn")])
    for asked in (10, 10**17, 10**30, 10):
        hold = limits.admit(facts(prompt_tokens=1, completion_tokens=asked))
        other = limits.admit(facts(prompt_tokens=1, completion_tokens=1))
        assert hold is not None
        assert other is not None
        for each in (other, hold):
            limits.limiter.settle(each, tokens=28, usd=None, counts_request=True)
    assert list(limits.used().values()) == [8 * 28]


def test_a_refusal_says_rule_limit_use_and_reset(limits: Limits) -> None:
    limits.limiter.use_rules([rule("user", "tokens", 100, name="per-user", window="hour")])
    limits.admit(facts(user="anna", prompt_tokens=60))
    with pytest.raises(LimitReached) as caught:
        limits.admit(facts(user="anna", prompt_tokens=60))
    error = caught.value
    assert error.message == (
        "Rate limit reached for user 'anna' (rule 'per-user'): 100 tokens per hour, 60 used and this call needs "
        "about 60."
    )
    assert error.hint == "Try again in 770 s, or let the operator raise the rule 'per-user'."
    assert (error.code, error.status, error.kind) == ("PS-2601", 429, "rate_limit_error")
    assert dict(refusal_headers(error.fields)) == {
        b"x-ratelimit-limit-tokens": b"100",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"770s",
        b"retry-after": b"770",
        b"x-should-retry": b"false",
    }


def test_a_budget_refusal_is_in_dollars_and_names_the_day_it_resets(limits: Limits) -> None:
    limits.limiter.use_rules([rule("project", "usd", 50, name="team", window="month")])
    limits.admit(facts(usd=Decimal("49.9995")))
    with pytest.raises(BudgetReached) as caught:
        limits.admit(facts(usd=Decimal("0.002")))
    error = caught.value
    assert error.message == (
        "Budget reached for project 'default' (rule 'team'): $50.00 per month, $49.9995 used and this call may cost "
        "about $0.002."
    )
    assert error.hint == "Try again after 1970-02-01T00:00:00Z, or let the operator raise the rule 'team'."
    assert (error.code, error.fields["openai_code"]) == ("PS-2641", "insufficient_quota")
    assert [name for name, _ in refusal_headers(error.fields)] == [b"retry-after", b"x-should-retry"]


def test_a_call_over_the_limit_by_itself_is_not_told_to_wait(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", "tokens", 100)])
    with pytest.raises(LimitReached, match="This call alone is over the limit") as caught:
        limits.admit(facts(prompt_tokens=101))
    assert b"retry-after" not in dict(refusal_headers(caught.value.fields))


def test_headers_tell_the_rule_with_least_left(limits: Limits) -> None:
    limits.limiter.use_rules(
        [rule("all", amount=100, window="day"), rule("key", amount=3), rule("all", "tokens", 1000)]
    )
    limits.admit(facts(prompt_tokens=10))
    hold = limits.admit(facts(prompt_tokens=10))
    assert hold is not None
    assert hold.headers == [
        (b"x-ratelimit-limit-requests", b"3"),
        (b"x-ratelimit-remaining-requests", b"1"),
        (b"x-ratelimit-reset-requests", b"50s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"980"),
        (b"x-ratelimit-reset-tokens", b"50s"),
    ]


def test_a_clock_that_steps_back_does_not_reopen_a_limit(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", amount=2)])
    assert limits.count(facts()) == 2
    limits.clock.now -= 40  # into the minute before
    assert limits.count(facts()) == 0
    limits.clock.now += 100
    assert limits.count(facts()) == 2


def test_a_settlement_after_its_window_changes_nothing(limits: Limits) -> None:
    limits.limiter.use_rules([rule("all", "tokens", 100)])
    early = limits.admit(facts(prompt_tokens=90))
    limits.clock.now += 60
    limits.admit(facts(prompt_tokens=90))
    assert early is not None
    limits.limiter.settle(early, tokens=0, usd=None, counts_request=True)
    assert limits.used() == {("all-tokens", ""): 90}


def test_limits_go_on_in_memory_while_the_file_cannot_be_written(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits.limiter.use_rules([rule("all", amount=3)])

    class FullDisk:
        def begin(self, **_: Any) -> Any:
            raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(limits.store, "_env", FullDisk())
    assert limits.count(facts()) == 3
    assert limits.limiter.problems == [
        "The counters cannot be written; limits hold for each worker by itself."
    ]
    monkeypatch.undo()
    limits.admit(facts())
    assert limits.limiter.problems == []


def test_images_in_a_request_do_not_count_as_text() -> None:
    text = b'{"messages":[{"content":"' + b"word " * 1000 + b'"}]}'
    image = b'"data:image/png;base64,' + b"QUJD" * 500_000 + b'"'
    assert estimate_prompt_tokens(b"x") == 1
    assert estimate_prompt_tokens(text) == len(text) // 4
    assert 0 <= estimate_prompt_tokens(text + image) - len(text) // 4 - BLOB_TOKENS < 20


_MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 40), st.none() | st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 10), st.none() | st.integers(0, 200)),
        st.tuples(st.just("wait"), st.integers(-30, 40), st.none()),
    ),
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(moves=_MOVES)
def test_reserved_and_settled_tokens_never_pass_the_limit(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int, int | None]]
) -> None:
    """As long as no call uses more than it reserved, no window ever holds more than the limit."""
    limits = Limits(tmp_path_factory.mktemp("limits"))
    limits.limiter.use_rules([rule("all", "tokens", 150), rule("key", amount=6)])
    held: list[Hold] = []
    for kind, number, more in moves:
        if kind == "admit":
            try:
                hold = limits.admit(facts(prompt_tokens=number, completion_tokens=more))
            except LimitReached:
                continue
            assert hold is not None
            held.append(hold)
        elif kind == "settle" and held:
            hold = held.pop(number % len(held))
            reserved = next(taken.taken for charge, taken in hold.lines if charge.meter.unit == "tokens")
            limits.limiter.settle(
                hold, tokens=None if more is None else min(more, reserved), usd=None, counts_request=True
            )
        else:
            limits.clock.now += number
        used = limits.used()
        assert all(value >= 0 for value in used.values())
        assert used.get(("all-tokens", ""), 0) <= 150
        assert used.get(("key-requests", "key_alice"), 0) <= 6
    limits.store.close()


def test_a_limiter_without_redis_has_nothing_to_close(limits: Limits) -> None:
    asyncio.run(limits.limiter.close())
    assert limits.limiter.problems == []
