"""Asks judges of labelled outputs, several at once, and keeps each verdict as it comes: what was paid for is not asked again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Engine

from penstock.base.json_text import decode_json, encode_json
from penstock.evals.judges import queries
from penstock.evals.judges.calibration import Judged
from penstock.evals.judges.ports import OpenTools
from penstock.evals.judges.types import LabelItem
from penstock.evals.scorers.types import Scorer, ScorerTools, make_error
from penstock.spec.scores import Score

CONCURRENCY = 64
"""Judgements under way; how many calls go out at once is bounded by the tools. A judgement waits for its trace, a call does not."""
Tell = Callable[[int, int], None]
"""Hears how many of how many are done."""
T = TypeVar("T")


class VerdictKeeper:
    """Verdicts on the control tables, by the judge's stamp and the item."""

    def __init__(self, engine: Engine, open_tools: OpenTools, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._open_tools = open_tools
        self._now_ns = now_ns

    def run(self, work: Callable[[ScorerTools], Awaitable[T]]) -> T:
        """Return what `work` returns, run in an event loop of its own with tools to ask with."""

        async def run() -> T:
            async with self._open_tools() as tools:
                return await work(tools)

        return asyncio.run(run())

    def judge(self, scorer: Scorer, items: Sequence[LabelItem], tell: Tell | None) -> list[Judged]:
        """Return the verdict on each item: those that are kept, the others asked for.

        Errors are not kept: they are asked for again the next time.
        """
        with self._engine.connect() as connection:
            rows = queries.get_verdicts(connection, scorer.info.stamp, [item.id for item in items])
        known = {item_id: msgspec.convert(decode_json(row.content), Score) for item_id, row in rows.items()}
        missing = [item for item in items if item.id not in known]

        async def run(tools: ScorerTools) -> list[Score]:
            works = [partial(self._ask, scorer, item, tools) for item in missing]
            return await side_by_side(works, tell)

        fresh = self.run(run) if missing else []
        known |= {item.id: score for item, score in zip(missing, fresh, strict=True)}
        return [Judged(item=item, score=known[item.id]) for item in items]

    async def _ask(self, scorer: Scorer, item: LabelItem, tools: ScorerTools) -> Score:
        try:
            score = (await scorer.score(item.case, [item.output], tools))[0]
        except Exception as error:  # the edge of a scorer: one that breaks does not end the calibration
            return make_error(scorer, f"{type(error).__name__}: {error}")
        if score.status != "error":
            latency = score.evidence.get("latency_ms")
            values = {
                "stamp": scorer.info.stamp,
                "item_id": item.id,
                "latency_ms": latency if isinstance(latency, int | float) else None,
                "made_ns": self._now_ns(),
                "content": encode_json(msgspec.to_builtins(score), what="The verdict"),
            }
            await asyncio.to_thread(self._keep, values)
        return score

    def _keep(self, values: dict[str, Any]) -> None:
        with self._engine.begin() as connection:
            queries.put_verdict(connection, values)


async def side_by_side(works: Sequence[Callable[[], Awaitable[T]]], tell: Tell | None) -> list[T]:
    """Return what the works return, in order, at most `CONCURRENCY` of them under way at once."""
    gate, n_done = asyncio.Semaphore(CONCURRENCY), 0

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        nonlocal n_done
        async with gate:
            found = await work()
        n_done += 1
        if tell is not None:
            tell(n_done, len(works))
        return found

    return list(await asyncio.gather(*(one(work) for work in works)))
