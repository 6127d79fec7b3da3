"""The retrieve step: one search for each wording of a question, all of one generation, mixed by rank.

Searches block, so they run on threads; each is a span and has the step's own time limit.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock.apps.errors import StepFailed, StepTimeout
from penstock.apps.run_state import Run
from penstock.apps.tracing import Tracer
from penstock.apps.types import Found, FoundPassage, Retriever
from penstock.base.errors import CallerError, PenstockError
from penstock.spec.knowledge import ChosenScope

RRF_CONSTANT = 60.0
"""Of reciprocal rank fusion (Cormack, Clarke, Büttcher, 2009)."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What all searches of a run found, best first, and the first search's own account."""

    hits: Sequence[FoundPassage]
    found: Found


class Retrieving:
    """Searches for any number of runs at once on one event loop."""

    def __init__(self, retriever: Retriever, tracer: Tracer, executor: Executor) -> None:
        self._retriever = retriever
        self._tracer = tracer
        self._executor = executor

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
        attempts = 1 + max(0, run.app.retrieve_retries)
        for attempt in range(1, attempts + 1):
            try:
                return await self._search_once(run, question, generation)
            except CallerError:
                raise
            except PenstockError as error:
                if attempt == attempts:
                    raise
                run.note(f"step 'retrieve' was tried again: {error.message}")
        raise AssertionError("there is always an attempt")

    async def _search_once(self, run: Run, question: str, generation: str | None) -> Found:
        app = run.app
        principals = list(run.span.context.principals)
        scope = ChosenScope(conditions=app.filters, principals=principals)
        with self._tracer.span(f"retrieve {app.knowledge}", "retrieval", run.span.below) as span:
            span.input = {"query": question, "k": app.k}
            span.attributes["retrieval.principals"] = principals
            asked: dict[str, Any] = {"scope": scope, "traceparent": span.traceparent}
            if generation is not None:
                asked["generation"] = generation
            search = partial(self._retriever.retrieve, app.knowledge, question, app.k, **asked)
            # in this context: the question's embedding is the caller's call too
            work = asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, search)
            timeout_s = run.bound(app.retrieve_timeout_s, "retrieve")
            try:
                found = await asyncio.wait_for(work, timeout_s)
            except TimeoutError as error:
                raise StepTimeout(
                    f"step 'retrieve' took longer than {timeout_s:g} s.", step="retrieve"
                ) from error
            except (PenstockError, asyncio.CancelledError):
                raise
            except Exception as error:  # a step must not take the process down, whatever its engine raises
                raise StepFailed(
                    f"step 'retrieve' failed: {type(error).__name__}: {error}", step="retrieve"
                ) from error
            span.versions[f"knowledge:{app.knowledge}"] = version_of(app.knowledge, found)
            span.attributes.update(describe_found(found))
            span.output = {"documents": describe_hits(found.hits)}
            return found


def fuse(lists: Sequence[Sequence[FoundPassage]]) -> list[FoundPassage]:
    """Return the passages of several searches by reciprocal rank; of a passage found twice its best-scored form stays."""
    ranks: dict[str, float] = {}
    best: dict[str, FoundPassage] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, 1):
            ranks[hit.passage_id] = ranks.get(hit.passage_id, 0.0) + 1.0 / (RRF_CONSTANT + rank)
            kept = best.get(hit.passage_id)
            if kept is None or hit.score > kept.score:
                best[hit.passage_id] = hit
    return sorted(best.values(), key=lambda hit: -ranks[hit.passage_id])


def version_of(knowledge: str, found: Found) -> str:
    """Return number and generation, as spans write versions: `3@gen_…`."""
    number = found.version.removeprefix(f"knowledge:{knowledge}@") if found.version else None
    return f"{number}@{found.generation}" if number else found.generation


def describe_found(found: Found) -> dict[str, Any]:
    """Return a search's own account, as attributes of its span."""
    told: dict[str, Any] = {
        "retrieval.mode": found.mode,
        "retrieval.generation": found.generation,
        "retrieval.embedder": found.embedder,
        "retrieval.n_hits": len(found.hits),
    }
    if found.note:
        told["retrieval.note"] = found.note
    return told


def describe_hits(hits: Sequence[FoundPassage]) -> list[dict[str, Any]]:
    """Return what was found, as the output of its span."""
    return [
        {
            "passage_id": hit.passage_id,
            "document": hit.document,
            "section": hit.section,
            "text": hit.text,
            "score": round(hit.score, 4),
            "dense_score": None if hit.dense_score is None else round(hit.dense_score, 4),
            "lexical_score": None if hit.lexical_score is None else round(hit.lexical_score, 4),
        }
        for hit in hits
    ]
