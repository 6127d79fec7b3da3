"""Answers for a prompt that is asked as a model: filled in, sent back through the gateway to the model it names.

The reply passes as it is, byte for byte; only of a prompt that thinks first is the reasoning taken out. The span says
which version answered, and with which values.
"""

import asyncio
from concurrent.futures import Executor
from typing import Any, Protocol

import msgspec

from penstock.apps.errors import CallerOverLimit, StepFailed, UnknownApp
from penstock.apps.prompt_replies import DONE, StrippedStream, TextOfStream, data_of, event_of, strip_reply
from penstock.apps.relaying import Relay, Relayed
from penstock.apps.tracing import OpenSpan, TraceContext, Tracer
from penstock.apps.types import PreparedPrompt, PromptSource
from penstock.base.errors import InvalidInput
from penstock.spec.callers import PROMPT_HEADER

PREFIX = "prompt:"


class Reply(Protocol):
    """Where the reply goes; the ASGI response of the apps process is one."""

    async def body(
        self,
        data: bytes,
        *,
        status: int = 200,
        retry_after: str | None = None,
        refusal: str | None = None,
    ) -> None:
        """Send a whole reply."""
        ...

    async def event(self, data: bytes, *, is_last: bool = False) -> None:
        """Send some events of a stream."""
        ...


def is_prompt_request(data: bytes) -> bool:
    """Return whether a request asks a prompt; malformed ones ask none."""
    if PREFIX.encode() not in data:
        return False
    try:
        return msgspec.json.decode(data, type=_Head).model.startswith(PREFIX)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class _Head(msgspec.Struct):
    model: str


class PromptRunner:
    """Answers any number of calls at once on one event loop; prompts are read on `executor`'s threads."""

    def __init__(
        self, *, prompts: PromptSource | None, relay: Relay, tracer: Tracer, executor: Executor
    ) -> None:
        self._prompts = prompts
        self._relay = relay
        self._tracer = tracer
        self._executor = executor

    async def answer(self, data: bytes, context: TraceContext, reply: Reply) -> None:
        """Send the reply to a chat request; raise `PenstockError` before anything was sent."""
        try:
            body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"The request body is not valid JSON: {error}.") from None
        reference = str(body["model"])
        name = reference.removeprefix(PREFIX).partition("@")[0]
        with self._tracer.span(
            f"prompt {name}", "app", context, route=reference, streamed=bool(body.get("stream"))
        ) as span:
            span.input = _given(body)
            prepared = await self._prepare(body, reference)
            _describe(span, prepared)
            headers = {
                "traceparent": span.traceparent,
                PROMPT_HEADER: f"{PREFIX}{prepared.name} {prepared.stamp}",
            }
            if context.session_id:
                headers["x-penstock-session"] = context.session_id
            if context.user_id:
                headers["x-penstock-user"] = context.user_id
            async with self._relay.send(prepared.body, headers) as answer:
                if answer.status != 200:
                    await reply.body(
                        await answer.read(),
                        status=answer.status,
                        retry_after=answer.retry_after,
                        refusal=answer.refusal,
                    )
                    # for the span: the caller has the model's own words already
                    told = f"{prepared.body['model']!r} refused with status {answer.status}."
                    if answer.refusal is not None:
                        raise CallerOverLimit(told, refusal=answer.refusal, step="answer")
                    raise StepFailed(told, step="answer")
                if answer.is_stream:
                    await self._stream(answer, prepared, span, reply)
                else:
                    await _whole(answer, prepared, span, reply)

    async def _prepare(self, body: dict[str, Any], reference: str) -> PreparedPrompt:
        prompts = self._prompts
        if prompts is None:
            raise UnknownApp(f"There are no prompts here, so {reference!r} cannot answer.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: prompts.prepare(body))

    async def _stream(self, answer: Relayed, prepared: PreparedPrompt, span: OpenSpan, reply: Reply) -> None:
        cot = prepared.chain_of_thought
        stripped = StrippedStream(cot) if cot is not None else None
        text = TextOfStream()
        is_done = False
        async for event in answer.events():
            data = data_of(event)
            if data == DONE:
                is_done = True
                continue
            chunk = _decode(data)
            shown = stripped.pass_on(chunk) if stripped is not None else chunk
            text.note(shown)
            if span.ttft_ms is None and text.text():
                span.ttft_ms = (self._tracer.now_ns() - span.start_ns) / 1e6
            if stripped is None:
                await reply.event(event + b"\n\n")
            elif shown is not None:
                await reply.event(event_of(shown))
        if stripped is not None and (rest := stripped.finish()) is not None:
            text.note(rest)
            await reply.event(event_of(rest))
        span.output = {"role": "assistant", "content": text.text()}
        if stripped is not None:
            _note_reasoning(span, stripped.reasonings())
        await reply.event(b"data: [DONE]\n\n" if is_done else b"", is_last=True)


async def _whole(answer: Relayed, prepared: PreparedPrompt, span: OpenSpan, reply: Reply) -> None:
    data = await answer.read()
    told = _decode(data)
    stripped: list[str | None] = []
    if prepared.chain_of_thought is not None and isinstance(told, dict):
        stripped = strip_reply(told, prepared.chain_of_thought)
        data = msgspec.json.encode(told)
    if isinstance(told, dict) and isinstance(told.get("choices"), list) and told["choices"]:
        span.output = told["choices"][0].get("message") if isinstance(told["choices"][0], dict) else None
    if prepared.chain_of_thought is not None:
        _note_reasoning(span, stripped)
    await reply.body(data)


def _describe(span: OpenSpan, prepared: PreparedPrompt) -> None:
    span.prompt = prepared.label
    span.versions[f"{PREFIX}{prepared.name}"] = prepared.stamp
    span.model = str(prepared.body["model"])
    given = {name: value for name, value in (span.input or {}).items() if name != "prompt_variables"}
    span.input = {**given, "variables": prepared.variables}
    if prepared.examples:
        span.attributes["prompt.examples"] = prepared.examples
    if prepared.warnings:
        span.attributes["prompt.warnings"] = prepared.warnings


def _note_reasoning(span: OpenSpan, reasonings: list[str | None]) -> None:
    span.attributes["prompt.n_answers_found"] = sum(each is not None for each in reasonings)
    if any(reasonings):
        span.output = {**(span.output or {}), "reasoning": next(each for each in reasonings if each)}


def _given(body: dict[str, Any]) -> dict[str, Any]:
    shown = ("messages", "prompt_variables", "prompt_model")
    return {name: body[name] for name in shown if body.get(name)}


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
