"""The steps that may stand beside retrieve and answer: rewrite, expand, filter, check. Each is a span with its own bounds.

A failure is contained: the run goes on as if the step were not there, and both the trace and the reply say so, unless the
app wants it to fail. Only a limit of the caller ends the run always: the answer would be refused just so.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from penstock.apps.chosen_numbers import read_numbers
from penstock.apps.citations import split_claims
from penstock.apps.errors import CallerOverLimit, StepFailed
from penstock.apps.grounding import Source, write_sources
from penstock.apps.model_client import ModelClient
from penstock.apps.requests import MAX_QUESTION_CHARS
from penstock.apps.run_state import Run
from penstock.apps.step_prompts import (
    MAX_PASSAGE_CHARS,
    Messages,
    ask_check,
    ask_expand,
    ask_filter,
    ask_rewrite,
    read_expand,
    read_rewrite,
)
from penstock.apps.step_settings import ModelStep
from penstock.apps.tracing import OpenSpan, Tracer
from penstock.apps.types import FoundPassage, StepName
from penstock.base.errors import PenstockError

Read = TypeVar("Read")


class Steps:
    """Runs single steps; any number at once on one event loop."""

    def __init__(self, model_client: ModelClient, tracer: Tracer) -> None:
        self._model_client = model_client
        self._tracer = tracer

    async def rewrite(self, run: Run) -> str:
        """Return the question as it can be understood alone; the original one where nothing was said before it."""
        settings, question = run.app.rewrite, run.request.question
        turns = run.request.history[-settings.turns :] if settings.turns > 0 else ()
        if not turns:
            return question
        found = await self._ask_model(
            run,
            "rewrite",
            settings,
            ask_rewrite(turns, question),
            lambda reply: read_rewrite(reply, max_chars=MAX_QUESTION_CHARS),
        )
        return found or question

    async def expand(self, run: Run) -> list[str]:
        """Return other wordings of the question; none where the step failed."""
        settings = run.app.expand
        found = await self._ask_model(
            run,
            "expand",
            settings,
            ask_expand(run.question, settings.variants),
            lambda reply: read_expand(reply, run.question, settings.variants, max_chars=MAX_QUESTION_CHARS),
        )
        return found or []

    async def filter(self, run: Run, hits: Sequence[FoundPassage]) -> Sequence[FoundPassage]:
        """Return the passages that bear on the question, in the order they came."""
        settings = run.app.filter
        if not hits:
            return hits
        if settings.kind == "rerank":
            return await self._filter_by_score(run, hits)
        kept = await self._ask_model(
            run,
            "filter",
            settings,
            ask_filter(run.question, hits),
            lambda reply: read_numbers(reply, len(hits)),
        )
        return hits if kept is None else [hits[number - 1] for number in sorted(kept)]

    async def check(self, run: Run, answer: str, sources: Sequence[Source]) -> float | None:
        """Return the share of the answer's sentences that the sources bear out in a model's eyes; None where it cannot
        be told."""
        settings = run.app.check
        claims = split_claims(answer)
        borne = await self._ask_model(
            run,
            "check",
            settings,
            ask_check(claims, write_sources(sources)),
            lambda reply: read_numbers(reply, len(claims)),
        )
        return None if borne is None else len(borne) / len(claims)

    async def _filter_by_score(self, run: Run, hits: Sequence[FoundPassage]) -> Sequence[FoundPassage]:
        settings = run.app.filter

        async def ask(model: str, span: OpenSpan) -> list[float | None]:
            body = {
                "model": model,
                "query": run.question,
                "documents": [" ".join(hit.text.split())[:MAX_PASSAGE_CHARS] for hit in hits],
            }
            return await self._model_client.rerank(
                body, headers=span.headers, timeout_s=run.bound(settings.timeout_s, "filter"), step="filter"
            )

        try:
            with self._tracer.span("filter", "chain", run.span.below) as span:
                span.input = {"query": run.question, "passages": [hit.passage_id for hit in hits]}
                scores = await try_models(run.app.model, settings, lambda model: ask(model, span))
                kept = [
                    hit
                    for hit, score in zip(hits, scores, strict=True)
                    if score is None or score >= settings.min_score
                ]
                span.output = {"kept": [hit.passage_id for hit in kept], "scores": scores}
                return kept
        except PenstockError as error:
            _contain(run, "filter", settings, error)
            return hits

    async def _ask_model(
        self,
        run: Run,
        step: StepName,
        settings: ModelStep,
        messages: Messages,
        read: Callable[[str], Read | None],
    ) -> Read | None:
        async def ask(model: str, span: OpenSpan) -> Read:
            reply = await self._model_client.call(
                {"model": model, "messages": messages, "temperature": 0.0, "max_tokens": settings.max_tokens},
                headers=span.headers,
                timeout_s=run.bound(settings.timeout_s, step),
                on_text=None,
                step=step,
            )
            run.usages.append(reply.usage)
            span.output = {"reply": reply.text}
            found = read(reply.text)
            if found is None:
                raise StepFailed(
                    f"step {step!r}: the reply of {model!r} says nothing that can be used.", step=step
                )
            return found

        try:
            with self._tracer.span(step, "guard" if step == "check" else "chain", run.span.below) as span:
                span.input = {"messages": messages}
                return await try_models(run.app.model, settings, lambda model: ask(model, span))
        except PenstockError as error:
            _contain(run, step, settings, error)
            return None


async def try_models(own: str, settings: ModelStep, ask: Callable[[str], Awaitable[Read]]) -> Read:
    """Return what the first attempt that succeeds gives: the step's model as often as it may, then its fallback.

    `own` is the app's model, which a step asks that names none.
    """
    model = settings.model or own
    models = [model] * (1 + max(0, settings.retries)) + ([settings.fallback] if settings.fallback else [])
    for place, each in enumerate(models, 1):
        try:
            return await ask(each)
        except CallerOverLimit:
            raise
        except PenstockError:
            if place == len(models):
                raise
    raise AssertionError("there is always a model to ask")


def _contain(run: Run, step: StepName, settings: ModelStep, error: PenstockError) -> None:
    """Note a failure that the run survives; raise it where it must not."""
    if settings.on_failure == "fail" or isinstance(error, CallerOverLimit):
        raise error
    run.note(f"step {step!r} was left out: {error.message}")
