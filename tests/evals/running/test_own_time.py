"""Time-outs: of what a scorer or a model does, never of what a run lets it wait for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.evals.ports import GatewayReply, TraceFact
from penstock.evals.running.asking import Asked, Asker
from penstock.evals.running.budget import Budget
from penstock.evals.running.following import TraceFollower
from penstock.evals.running.own_time import own_time
from penstock.evals.running.pace import Pace
from penstock.spec.cases import Output
from penstock.spec.evaluations import EvaluationBudget, ScorerSpec
from tests.evals.running.house import FakeGateway, House, echo
from tests.evals.running.test_runs import Asking


class Slow(FakeGateway):
    """Answers after a while."""

    wait_s = 0.06

    async def chat(
        self, body: Mapping[str, Any], *, headers: Mapping[str, str], timeout_s: float
    ) -> GatewayReply:
        await asyncio.sleep(self.wait_s)
        return await super().chat(body, headers=headers, timeout_s=timeout_s)


def test_verdicts_that_wait_for_their_turn_are_not_late(house: House) -> None:
    house.fill(40)
    record = house.evaluate(scorers=[])
    house.extra_scorers["asking"] = lambda _spec: Asking(None, kind="model")
    house.gateway = Slow(echo)
    spec = ScorerSpec(scorer="asking")
    record = house.service.rescore(record.id, [spec], actor="test", is_new=False)
    house.store.change(
        record.id, lambda old: replace_spec(old, concurrency=1, case_timeout_s=2.0)
    )  # all 40 take 2.4 s
    house.run(record.id, score_only=True)
    assert [score.status for _, _, score in house.store.scores(record.id)] == ["scored"] * 40


def replace_spec(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, spec=msgspec.structs.replace(record.spec, **fields))


class LateFacts:
    """Knows the traces of judges only when asked again and again."""

    def __init__(self, house: House, n_looks: int) -> None:
        self._house = house
        self._left: dict[str, int] = {}
        self._n_looks = n_looks

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        found = {}
        for each in trace_ids:
            left = self._left.setdefault(each, self._n_looks) - 1
            self._left[each] = left
            if left < 0 or self._house.gateway.bodies[int(each, 16) - 1]["model"] != "judge":
                found[each] = TraceFact(trace_id=each, cost_usd=Decimal("0.001"))
        return found


def test_a_verdict_is_kept_however_late_its_price_is(house: House) -> None:
    house.fill(6)
    house.extra_scorers["asking"] = lambda _spec: Asking(None, kind="model")
    house.runs.ports = replace(house.ports, facts=LateFacts(house, 3))
    house.runs.sleep = lambda _seconds: asyncio.sleep(0.6)
    record = house.evaluate(
        scorers=[ScorerSpec(scorer="asking")],
        case_timeout_s=1.5,
        concurrency=2,
        budget=EvaluationBudget(usd=Decimal("0.5")),
    )
    assert record.state == "done"
    scores = [score for _, _, score in house.store.scores(record.id)]
    assert [(score.status, score.cost_usd) for score in scores] == [("scored", Decimal("0.001"))] * 6


class Never:
    """Finds no trace."""

    def find(self, trace_ids: Sequence[str]) -> Mapping[str, TraceFact]:
        del trace_ids
        return {}


async def test_a_call_that_breaks_off_while_its_price_is_looked_for_gives_back_its_room() -> None:
    loop = asyncio.get_running_loop()
    budget = Budget(EvaluationBudget(usd=Decimal(1)), clock=loop.time)
    asker = Asker(
        gateway=FakeGateway(echo),
        pace=Pace(2, clock=loop.time),
        budget=budget,
        follower=TraceFollower(Never(), clock=loop.time),
        session="eval:x",
        timeout_s=60.0,
        clock=loop.time,
    )
    hold = await budget.reserve("judge")
    output = Output(case_id="c", repeat=0, text="yes", trace_id="f" * 32)
    settling = asyncio.create_task(asker.settle(Asked(output=output, hold=hold)))
    await asyncio.sleep(0.01)
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    assert await asyncio.wait_for(budget.reserve("judge"), 120) is not None
    await asker.follower.close()


async def test_a_block_has_its_time_for_itself_alone() -> None:
    async with own_time(1.0) as aside:
        call = aside.of(asyncio.sleep)
        assert call is not None
        await asyncio.gather(call(1.1), call(1.2))


async def test_what_a_block_does_itself_is_bounded() -> None:
    async def work() -> None:
        async with own_time(0.05) as aside:
            call = aside.of(asyncio.sleep)
            assert call is not None
            await call(0.1)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await work()
