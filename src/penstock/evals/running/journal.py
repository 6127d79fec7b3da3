"""Where a run reads its cases and leaves what it made. The control tables are one; a run without a home keeps it in memory."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from penstock.evals.rows import StoredOutput
from penstock.evals.store import CaseWork, EvaluationStore
from penstock.spec.cases import Case, Output
from penstock.spec.scores import Score, SpanScore

ScoreRow = tuple[str, int, Score]
"""Case id, repeat, score."""


class Journal(Protocol):
    """Cases in, outputs and scores out; what was written is kept when `write` returns."""

    async def work(self, after: int) -> list[CaseWork]:
        """Return the next cases in order with what is there of them; none at the end."""
        ...

    async def kept(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return earlier outputs by request key."""
        ...

    async def write(self, outputs: Sequence[StoredOutput], scores: Sequence[ScoreRow]) -> None:
        """Keep them; what is kept under the same key is replaced."""
        ...

    async def tell_traces(self, scores: Sequence[SpanScore]) -> None:
        """Put judgements onto the traces of what was judged."""
        ...


class StoreJournal:
    """The control tables, from a thread of the event loop's pool."""

    def __init__(self, store: EvaluationStore, evaluation_id: str, set_id: str, tell: "TellTraces") -> None:
        self._store = store
        self._evaluation_id = evaluation_id
        self._set_id = set_id
        self._tell = tell

    async def work(self, after: int) -> list[CaseWork]:
        """Return the next cases; see `Journal`."""
        return await asyncio.to_thread(self._store.work, self._evaluation_id, self._set_id, after=after)

    async def kept(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return earlier outputs; see `Journal`."""
        return await asyncio.to_thread(self._store.kept, keys)

    async def write(self, outputs: Sequence[StoredOutput], scores: Sequence[ScoreRow]) -> None:
        """Write in one transaction; see `Journal`."""
        await asyncio.to_thread(self._store.write, self._evaluation_id, outputs, scores)

    async def tell_traces(self, scores: Sequence[SpanScore]) -> None:
        """Put judgements onto traces; see `Journal`."""
        await asyncio.to_thread(self._tell, scores)


class TellTraces(Protocol):
    """Puts judgements onto traces; never raises."""

    def __call__(self, scores: Sequence[SpanScore], /) -> None:
        """Store them."""
        ...


class MemoryJournal:
    """Everything in memory: runs without a home."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = list(cases)
        self.outputs: dict[tuple[str, int], Output] = {}
        self.scores: dict[tuple[str, int, str], Score] = {}

    async def work(self, after: int) -> list[CaseWork]:
        """Return the next cases; see `Journal`."""
        start = after + 1
        part = self._cases[start : start + 200]
        works = [CaseWork(position=start + number, case=case) for number, case in enumerate(part)]
        by_id = {work.case.id: work for work in works}
        for (case_id, repeat), output in self.outputs.items():
            if case_id in by_id:
                by_id[case_id].outputs[repeat] = output
        for case_id, repeat, name in self.scores:
            if case_id in by_id:
                by_id[case_id].scored.add((repeat, name))
        return works

    async def kept(self, keys: Sequence[str]) -> dict[str, Output]:
        """Nothing is kept from before."""
        del keys
        return {}

    async def write(self, outputs: Sequence[StoredOutput], scores: Sequence[ScoreRow]) -> None:
        """Keep them in memory."""
        for stored in outputs:
            self.outputs[stored.output.case_id, stored.output.repeat] = stored.output
        for case_id, repeat, score in scores:
            self.scores[case_id, repeat, score.name] = score

    async def tell_traces(self, scores: Sequence[SpanScore]) -> None:
        """There are no traces here."""
        del scores


class Writer:
    """Gathers what is made at once into one write: each caller goes on when what it gave is kept."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._outputs: list[StoredOutput] = []
        self._scores: list[ScoreRow] = []
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def put(self, outputs: Sequence[StoredOutput] = (), scores: Sequence[ScoreRow] = ()) -> None:
        """Return once they are kept; raises what the write raised."""
        if not outputs and not scores:
            return
        self._outputs += outputs
        self._scores += scores
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        written = self._next
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        await asyncio.shield(written)

    async def _write(self) -> None:
        while self._next is not None:
            outputs, scores, written = self._outputs, self._scores, self._next
            self._outputs, self._scores, self._next = [], [], None
            try:
                await self._journal.write(outputs, scores)
            except BaseException as error:
                if not written.done():
                    written.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                if not written.done():
                    written.set_result(None)
