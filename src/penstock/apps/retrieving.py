"""The retrieve step: one search for each wording of a question, all of one generation, mixed by rank."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.apps.run_state import Run
from penstock.apps.searching import Search, Searching, fuse
from penstock.apps.types import Found, FoundPassage
from penstock.base.errors import CallerError, PenstockError


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What all searches of a run found, best first, and the first search's own account."""

    hits: Sequence[FoundPassage]
    found: Found


class Retrieving:
    """Retrieves for any number of runs at once on one event loop."""

    def __init__(self, searching: Searching) -> None:
        self._searching = searching

    async def retrieve(self, run: Run, wordings: Sequence[str] = ()) -> Gathered:
        """Return the passages for the run's question and further `wordings` of it.

        Raises `StepFailed`, `StepTimeout` or the search's own error for the question; a wording that fails is noted. The
        wordings are searched in the generation that answered the question, so that no answer mixes two.
        """
        first = await self._search(run, run.question)
        if not wordings:
            return Gathered(hits=first.hits, found=first)
        work = [self._search(run, each, generation=first.generation) for each in wordings]
        lists: list[Sequence[FoundPassage]] = [first.hits]
        for told in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(told, PenstockError):
                run.note(f"a wording of the question was not searched for: {told.message}")
            elif isinstance(told, BaseException):
                raise told
            else:
                lists.append(told.hits)
        return Gathered(hits=fuse(lists)[: run.app.k], found=first)

    async def _search(self, run: Run, question: str, *, generation: str | None = None) -> Found:
        app = run.app
        attempts = 1 + max(0, app.retrieve_retries)
        for attempt in range(1, attempts + 1):
            asked = Search(
                knowledge=app.knowledge,
                query=question,
                k=app.k,
                conditions=app.filters,
                generation=generation,
                timeout_s=run.bound(app.retrieve_timeout_s, "retrieve"),
            )
            try:
                return await self._searching.search(asked, run.span.below)
            except CallerError:
                raise
            except PenstockError as error:
                if attempt == attempts:
                    raise
                run.note(f"step 'retrieve' was tried again: {error.message}")
        raise AssertionError("there is always an attempt")
