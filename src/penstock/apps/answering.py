"""The answer step: puts the sentences before the model and passes its words on, cleaned of what readers need not see.

The model is asked again, and then its fallback, only as long as the caller has seen nothing of a reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.apps.errors import CallerOverLimit
from penstock.apps.grounding import (
    AnswerFilter,
    Source,
    build_messages,
    is_unknown,
    list_choices,
    write_sources,
)
from penstock.apps.model_client import ModelClient, ModelReply
from penstock.apps.run_state import Run
from penstock.apps.tracing import OpenSpan, Tracer
from penstock.apps.types import STYLES
from penstock.base.errors import PenstockError


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said, and what of it a reader sees."""

    reply: ModelReply
    text: str
    is_unknown: bool
    """Whether the model says that the sources hold no answer."""


class Answering:
    """Answers for any number of runs at once on one event loop."""

    def __init__(self, model_client: ModelClient, tracer: Tracer) -> None:
        self._model_client = model_client
        self._tracer = tracer

    async def answer(self, run: Run, sources: Sequence[Source]) -> Answer:
        """Return the answer to the run's question from `sources`; without any, the model's own."""
        app = run.app
        models = [app.model] * (1 + max(0, app.answer_retries))
        models += [app.answer_fallback] if app.answer_fallback else []
        for place, model in enumerate(models, 1):
            try:
                return await self._ask(run, sources, model)
            except CallerOverLimit:
                raise
            except PenstockError as error:
                if place == len(models) or run.shown.has_begun:
                    raise
                run.note(f"step 'answer' was tried again: {error.message}")
        raise AssertionError("there is always a model to ask")

    async def _ask(self, run: Run, sources: Sequence[Source], model: str) -> Answer:
        app = run.app
        with self._tracer.span("answer", "chain", run.span.below) as span:
            body = _write_body(run, sources, model)
            span.input = {"question": run.question, "sources": [source.sentence for source in sources]}
            span.attributes["app.model"] = model
            words = AnswerFilter(
                app.unknown_text,
                shown=[source.mark for source in sources] if app.citations == "inline" else (),
                openings=app.unknown_openings,
            )
            texts: list[str] = []

            async def pass_on(piece: str) -> None:
                if text := words.feed(piece):
                    texts.append(text)
                    await run.shown.piece(text)

            is_streaming = run.shown.is_streaming
            reply = await self._model_client.call(
                body,
                headers=span.headers,
                timeout_s=run.bound(app.answer_timeout_s, "answer"),
                on_text=pass_on if is_streaming else None,
            )
            run.usages.append(reply.usage)
            rest = "" if is_streaming else words.feed(reply.text)
            if rest := rest + words.finish():
                texts.append(rest)
                await run.shown.piece(rest)
            _describe(span, reply)
            return Answer(
                reply=reply, text="".join(texts), is_unknown=is_unknown(reply.text, app.unknown_openings)
            )


def _write_body(run: Run, sources: Sequence[Source], model: str) -> dict[str, Any]:
    app = run.app
    turns = run.request.history[-app.turns :] if app.turns > 0 else ()
    if app.prompt in STYLES:
        body: dict[str, Any] = {
            "model": model,
            "messages": build_messages(app, run.question, sources, turns),
            "temperature": app.temperature,
        }
    else:
        body = {
            "model": app.prompt,
            "prompt_model": model,
            "prompt_variables": {"question": run.question, "sources": write_sources(sources)},
            "messages": [{"role": turn.role, "content": turn.text} for turn in turns],
        }
    body.update(run.request.overrides)
    if app.quote_only and sources:
        body["structured_outputs"] = list_choices(sources, decline_bias=app.decline_bias)
    if "max_completion_tokens" not in body and (app.prompt in STYLES or "max_tokens" in body):
        body.setdefault("max_tokens", app.max_tokens)
    return body


def _describe(span: OpenSpan, reply: ModelReply) -> None:
    span.output = {"reply": reply.text}
