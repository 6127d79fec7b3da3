"""One search of a knowledge base as a span with a time limit, and how several searches are mixed.

Searches block, so they run on threads.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import Any

import msgspec

from penstock.apps.errors import StepFailed, StepTimeout
from penstock.apps.ranking import Adjust
from penstock.apps.tracing import TraceContext, Tracer
from penstock.apps.types import Found, FoundPassage, Retriever
from penstock.base.errors import PenstockError
from penstock.spec.knowledge import ChosenScope, Condition

RRF_CONSTANT = 60.0
"""Of reciprocal rank fusion (Cormack, Clarke, Büttcher, 2009)."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for."""

    knowledge: str
    query: str
    k: int
    conditions: list[Condition] = []
    generation: str | None = None
    """The one to search, where an answer has begun with it; None searches what is live."""
    adjust: Adjust | None = None
    """Changes how the base is searched, for this once."""
    timeout_s: float


class Searching:
    """Searches for any number of callers at once on one event loop."""

    def __init__(self, retriever: Retriever, tracer: Tracer, executor: Executor) -> None:
        self._retriever = retriever
        self._tracer = tracer
        self._executor = executor

    async def search(self, asked: Search, context: TraceContext) -> Found:
        """Return what is found as whom `context` says. Raises `StepFailed`, `StepTimeout`, or the search's own error."""
        principals = list(context.principals)
        scope = ChosenScope(conditions=asked.conditions, principals=principals)
        name = asked.knowledge
        with self._tracer.span(f"retrieve {name}", "retrieval", context) as span:
            span.input = {"query": asked.query, "k": asked.k}
            if asked.conditions:
                span.input["filters"] = msgspec.to_builtins(asked.conditions)
            span.attributes["retrieval.principals"] = principals
            options: dict[str, Any] = {"scope": scope, "traceparent": span.traceparent}
            if asked.generation is not None:
                options["generation"] = asked.generation
            if asked.adjust is not None:
                options["adjust"] = asked.adjust
            search = partial(self._retriever.retrieve, name, asked.query, asked.k, **options)
            # in this context: the question's embedding is the caller's call too
            work = asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, search)
            try:
                found = await asyncio.wait_for(work, asked.timeout_s)
            except TimeoutError as error:
                raise StepTimeout(
                    f"step 'retrieve' took longer than {asked.timeout_s:g} s.", step="retrieve"
                ) from error
            except (PenstockError, asyncio.CancelledError):
                raise
            except Exception as error:  # a step must not take the process down, whatever its engine raises
                raise StepFailed(
                    f"step 'retrieve' failed: {type(error).__name__}: {error}", step="retrieve"
                ) from error
            span.versions[f"knowledge:{name}"] = version_of(name, found)
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


def shown_version(knowledge: str, found: Found) -> str:
    """Return what replies say was searched: `knowledge:handbook@3 gen_…`."""
    return f"{found.version or f'knowledge:{knowledge}'} {found.generation}"


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
