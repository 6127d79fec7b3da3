"""Runs an app: retrieve, then answer. Each step has its own span and time limit; a failing step ends the run
with an error that names it, and leaves a trace that shows it.

Knows neither HTTP servers nor where knowledge lies.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import Any

from penstock.apps.citations import cite
from penstock.apps.errors import StepFailed, StepTimeout
from penstock.apps.grounding import (
    AnswerFilter,
    Source,
    build_messages,
    is_unknown,
    list_choices,
    pack_sources,
)
from penstock.apps.model_client import ModelClient, ModelReply
from penstock.apps.replies import wire_citations
from penstock.apps.tracing import OpenSpan, TraceContext, Tracer
from penstock.apps.types import AppDeclaration, AppReply, ChatRequest, Found, FoundPassage, OnText, Retriever
from penstock.base.errors import PenstockError
from penstock.spec.usage import Usage

NO_TOKENS = Usage(input_uncached=0, output_text=0)
"""What an answer without a model call used: known, and nothing."""


class AppRunner:
    """Runs any number of apps at once on one event loop; searches run on `executor`'s threads."""

    def __init__(
        self,
        *,
        retriever: Retriever,
        model_client: ModelClient,
        tracer: Tracer,
        executor: Executor,
        find_version: Callable[[str], str | None],
    ) -> None:
        """`find_version` returns the registry's name for the app's live version, if there is one."""
        self._find_version = find_version
        self._retriever = retriever
        self._model_client = model_client
        self._tracer = tracer
        self._executor = executor

    async def run(
        self,
        app: AppDeclaration,
        request: ChatRequest,
        context: TraceContext,
        *,
        on_text: OnText | None = None,
    ) -> AppReply:
        """Return the app's answer; with `on_text`, pieces of its text are passed on as they come.

        Raises `PenstockError` that names the failing step.
        """
        with self._tracer.span(
            f"app {app.name}", "app", context, route=app.name, streamed=on_text is not None
        ) as span:
            span.input = {"messages": request.messages, **request.overrides}
            span.versions[f"app:{app.name}"] = self._find_version(app.name) or app.version
            show = _Shown(on_text, span, self._tracer)
            found = await self._retrieve(app, request.question, span)
            span.versions[f"knowledge:{app.knowledge}"] = _version_of(app.knowledge, found)
            sources = pack_sources(app, found.hits)
            span.attributes["app.n_sources"] = len(sources)
            if not sources:
                await show.text(app.nothing_found_text)
                return self._finish(span, AppReply(
                    text=app.nothing_found_text,
                    citations=(),
                    usage=NO_TOKENS,
                    finish_reason="stop",
                    trace_id=context.trace_id,
                ))  # fmt: skip
            reply, text = await self._answer(app, request, sources, span, show)
            unknown = is_unknown(reply.text)
            span.attributes["app.is_unknown"] = unknown
            return self._finish(span, AppReply(
                text=text,
                citations=() if unknown else cite(reply.text, text, sources),
                usage=reply.usage,
                finish_reason=reply.finish_reason,
                trace_id=context.trace_id,
            ))  # fmt: skip

    def _finish(self, span: OpenSpan, reply: AppReply) -> AppReply:
        citations = wire_citations(reply.citations)
        span.output = {"role": "assistant", "content": reply.text, "citations": citations}
        span.attributes["app.n_citations"] = len(citations)
        return reply

    async def _retrieve(self, app: AppDeclaration, question: str, parent: OpenSpan) -> Found:
        with self._tracer.span(f"retrieve {app.knowledge}", "retrieval", parent.below) as span:
            span.input = {"query": question, "k": app.k}
            search = partial(
                self._retriever.retrieve, app.knowledge, question, app.k, traceparent=span.traceparent
            )
            # in this context: the question's embedding is the caller's call too
            work = asyncio.get_running_loop().run_in_executor(self._executor, copy_context().run, search)
            try:
                found = await asyncio.wait_for(work, app.retrieve_timeout_s)
            except TimeoutError as error:
                raise StepTimeout(
                    f"step 'retrieve' took longer than {app.retrieve_timeout_s:g} s.", step="retrieve"
                ) from error
            except (PenstockError, asyncio.CancelledError):
                raise
            except Exception as error:  # a step must not take the process down, whatever its engine raises
                raise StepFailed(
                    f"step 'retrieve' failed: {type(error).__name__}: {error}", step="retrieve"
                ) from error
            span.versions[f"knowledge:{app.knowledge}"] = _version_of(app.knowledge, found)
            span.attributes.update(
                {
                    "retrieval.mode": found.mode,
                    "retrieval.generation": found.generation,
                    "retrieval.embedder": found.embedder,
                    "retrieval.n_hits": len(found.hits),
                }
            )
            if found.note:
                span.attributes["retrieval.note"] = found.note
            span.output = {"documents": _describe_hits(found.hits)}
            return found

    async def _answer(
        self,
        app: AppDeclaration,
        request: ChatRequest,
        sources: Sequence[Source],
        parent: OpenSpan,
        show: "_Shown",
    ) -> tuple[ModelReply, str]:
        with self._tracer.span("answer", "chain", parent.below) as span:
            body: dict[str, Any] = {
                "model": app.model,
                "messages": build_messages(app, request.question, sources),
                "temperature": app.temperature,
                **request.overrides,
            }
            if app.quote_only:
                body["structured_outputs"] = list_choices(sources, decline_bias=app.decline_bias)
            if "max_completion_tokens" not in body:
                body.setdefault("max_tokens", app.max_tokens)
            span.input = {"question": request.question, "sources": [source.sentence for source in sources]}
            span.attributes["app.model"] = app.model
            headers = {"traceparent": span.traceparent}
            if parent.context.session_id:
                headers["x-penstock-session"] = parent.context.session_id
            if parent.context.user_id:
                headers["x-penstock-user"] = parent.context.user_id
            words = AnswerFilter(app.unknown_text)
            texts: list[str] = []

            async def pass_on(piece: str) -> None:
                if text := words.feed(piece):
                    texts.append(text)
                    await show.text(text)

            reply = await self._model_client.call(
                body,
                headers=headers,
                timeout_s=app.answer_timeout_s,
                on_text=pass_on if show.is_streaming else None,
            )
            rest = "" if show.is_streaming else words.feed(reply.text)
            if rest := rest + words.finish():
                texts.append(rest)
                await show.text(rest)
            span.output = {"reply": reply.text}
            return reply, "".join(texts)


class _Shown:
    """Passes text on to the caller and notes when the first of it went out."""

    def __init__(self, on_text: OnText | None, span: OpenSpan, tracer: Tracer) -> None:
        self._on_text = on_text
        self._span = span
        self._tracer = tracer

    @property
    def is_streaming(self) -> bool:
        return self._on_text is not None

    async def text(self, piece: str) -> None:
        if self._on_text is None:
            return
        if self._span.ttft_ms is None:
            self._span.ttft_ms = (self._tracer.now_ns() - self._span.start_ns) / 1e6
        await self._on_text(piece)


def _version_of(knowledge: str, found: Found) -> str:
    """Return number and generation, as spans write versions: `3@gen_…`."""
    number = found.version.removeprefix(f"knowledge:{knowledge}@") if found.version else None
    return f"{number}@{found.generation}" if number else found.generation


def _describe_hits(hits: Sequence[FoundPassage]) -> list[dict[str, Any]]:
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
