"""Pace and budget: how many calls go out, and when nothing more may be spent."""

import asyncio
from decimal import Decimal

import pytest

from penstock.evals.ports import GatewayReply
from penstock.evals.running.budget import Budget
from penstock.evals.running.pace import Pace
from penstock.spec.evaluations import EvaluationBudget
from tests.evals.running.house import House, echo


class Clock:
    """Time as a test holds it; sleeping moves it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def test_being_told_to_slow_down_cuts_the_limit_once_for_all_calls_under_way() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock, sleep=clock.sleep)
    async with pace.slot() as first, pace.slot() as second:
        clock.now += 1
        assert pace.slow_down(first, 5.0) == 5.0
        pace.slow_down(second, 5.0)
    assert pace.limit == 8
    async with pace.slot() as third:
        pace.slow_down(third, None)
    assert pace.limit == 6
    assert clock.slept[0] == pytest.approx(5.0)


async def test_success_lets_the_limit_grow_back_to_its_bound() -> None:
    pace = Pace(4, clock=Clock())
    pace.slow_down(200.0, 0.0)
    assert pace.limit == 3
    for _ in range(20):
        pace.succeeded()
    assert pace.limit == 4


async def test_a_slot_is_given_back_when_the_call_breaks() -> None:
    pace = Pace(1, clock=Clock())
    with pytest.raises(ValueError, match="broke"):
        async with pace.slot():
            raise ValueError("broke")
    assert pace.under_way == 0


async def test_reserved_calls_count_until_their_cost_is_known() -> None:
    budget = Budget(EvaluationBudget(usd=Decimal("0.25")), clock=Clock())
    first = await budget.reserve("target")
    assert first is not None
    await budget.settle(first, usd=Decimal("0.10"), tokens=7)
    second = await budget.reserve("target")
    third = asyncio.create_task(budget.reserve("target"))
    await asyncio.sleep(0)
    assert second is not None
    assert not third.done()
    await budget.settle(second, usd=Decimal("0.02"), tokens=7)
    assert await third is not None
    assert budget.spent_usd == Decimal("0.12")


async def test_the_first_call_of_a_kind_goes_alone_where_money_is_bounded() -> None:
    budget = Budget(EvaluationBudget(usd=Decimal(1)), clock=Clock())
    first = await budget.reserve("target")
    second = asyncio.create_task(budget.reserve("target"))
    await asyncio.sleep(0)
    assert not second.done()
    assert first is not None
    await budget.settle(first, usd=Decimal("0.4"), tokens=None)
    assert await second is not None


async def test_time_ends_it_too() -> None:
    clock = Clock()
    budget = Budget(EvaluationBudget(minutes=1.0), clock=clock)
    assert await budget.reserve("target") is not None
    clock.now += 61
    assert await budget.reserve("target") is None
    assert budget.reason == "the time of 1 minutes is used up"


async def test_tokens_end_it_too() -> None:
    budget = Budget(EvaluationBudget(tokens=20), clock=Clock())
    for _ in range(2):
        hold = await budget.reserve("target")
        assert hold is not None
        await budget.settle(hold, usd=None, tokens=10)
    assert await budget.reserve("target") is None


def test_a_provider_that_asks_to_slow_down_is_obeyed_and_every_case_answered(house: House) -> None:
    house.fill(12)

    def crowded(body: object, n_before: int) -> object:
        if n_before == 0 and house.gateway.n_calls % 3 == 0:
            headers = {"retry-after": "2", "x-penstock-trace-id": "f" * 32}
            return GatewayReply(
                status=429, headers=headers, body={"error": {"code": "slow", "message": "slow"}}
            )
        return echo(body, n_before)  # type: ignore[arg-type]

    house.gateway.answer = crowded
    clock = Clock()
    house.runs.clock, house.runs.sleep = clock, clock.sleep
    record = house.evaluate()
    assert (record.state, record.n_ok, record.n_errors) == ("done", 12, 0)
    assert house.gateway.n_calls > 12
    assert max(clock.slept) >= 1.9
