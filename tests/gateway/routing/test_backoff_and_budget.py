"""Waits are jittered and bounded, providers are obeyed, and no more is sent again than the share allows."""

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.routing.backoff import backoff_s, wait_s
from penstock.gateway.routing.budget import Budget
from penstock.spec.routes import RetryPolicy


@given(n_waits=st.integers(0, 5000), seed=st.integers())
def test_a_wait_lies_between_nothing_and_the_capped_exponential(n_waits: int, seed: int) -> None:
    policy = RetryPolicy(base_s=0.2, max_s=5.0)
    assert 0 <= backoff_s(policy, n_waits, random.Random(seed)) <= min(5.0, 0.2 * 2 ** min(n_waits, 30))


def test_jitter_is_full() -> None:
    rng = random.Random(1)
    waits = [backoff_s(RetryPolicy(base_s=1, max_s=1), 0, rng) for _ in range(500)]
    assert min(waits) < 0.05
    assert max(waits) > 0.95


@given(asked_s=st.floats(0.001, 100), seed=st.integers())
def test_nobody_comes_before_the_provider_asked(asked_s: float, seed: int) -> None:
    wait = wait_s(RetryPolicy(base_s=0.2), 0, asked_s, random.Random(seed))
    assert asked_s <= wait <= asked_s + 0.2


@given(
    steps=st.lists(st.tuples(st.sampled_from(["call", "take"]), st.floats(0, 3)), max_size=200),
    ratio=st.floats(0, 1),
    floor=st.integers(0, 5),
)
def test_the_budget_is_never_exceeded_in_any_window(
    steps: list[tuple[str, float]], ratio: float, floor: int
) -> None:
    budget, now = Budget(ratio), 1000.0
    calls: list[int] = []
    spent: list[int] = []
    for kind, pause in steps:
        now += pause
        if kind == "call":
            budget.note_call(now)
            calls.append(int(now))
        elif budget.take(now, floor=floor):
            spent.append(int(now))
            n_calls, n_spent = (sum(1 for at in some if at > int(now) - 10) for some in (calls, spent))
            assert n_spent <= max(floor, ratio * n_calls)
    if floor == 0 and not calls:
        assert spent == []


def test_what_was_spent_comes_back_after_ten_seconds() -> None:
    budget = Budget(0.0)
    assert [budget.take(5.0, floor=2) for _ in range(3)] == [True, True, False]
    assert not budget.take(14.9, floor=2)
    assert budget.take(15.0, floor=2)


def test_a_tenth_of_the_calls_may_be_spent() -> None:
    budget = Budget(0.1)
    taken = 0
    for number in range(1000):
        budget.note_call(100 + number / 250)
        taken += budget.take(100 + number / 250)
        assert taken <= 0.1 * (number + 1)
    assert taken == 100
