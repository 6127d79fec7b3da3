"""Calls a chat model through the gateway, as any client would, with the trace's `traceparent`."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from penstock.apps.callers import caller_headers
from penstock.apps.errors import CallerOverLimit, StepFailed, StepTimeout
from penstock.apps.types import OnText
from penstock.dialects.openai.usage import UsageObject, disjoint_usage
from penstock.spec.callers import REFUSAL_HEADER
from penstock.spec.usage import Usage

_BORDER = re.compile(rb"\r\n\r\n|\n\n|\r\r")
MAX_REPLY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ModelReply:
    """What the model answered."""

    text: str
    usage: Usage | None
    finish_reason: str
    model: str | None
    """The model's own name for itself."""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []
    usage: UsageObject | None = None
    model: str | None = None
    error: Any = None


class _Scored(msgspec.Struct):
    index: int
    relevance_score: float


class _Reranked(msgspec.Struct):
    results: list[_Scored]


_decoder = msgspec.json.Decoder(_Reply)
_rerank_decoder = msgspec.json.Decoder(_Reranked)


class ModelClient:
    """One HTTP session to the gateway. Use from one event loop; `close` at the end."""

    def __init__(self, gateway_url: str, internal_key: str) -> None:
        self._base = gateway_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {internal_key}", "content-type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        body: dict[str, Any],
        *,
        headers: dict[str, str],
        timeout_s: float,
        on_text: OnText | None,
        step: str = "answer",
    ) -> ModelReply:
        """Return the reply; with `on_text` it is streamed, and each piece is passed on as it comes.

        Raises `StepTimeout` after `timeout_s`, `CallerOverLimit` where a limit refuses the call, `StepFailed` for any
        other failure; each names `step`.
        """
        if on_text is not None:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        asked = _Asked(step=step, model=str(body["model"]))
        async with self._post("/chat/completions", body, headers, timeout_s, asked) as response:
            if on_text is None:
                return _read_whole(asked, await response.read())
            return await _read_stream(asked, response, on_text)

    async def rerank(
        self, body: dict[str, Any], *, headers: dict[str, str], timeout_s: float, step: str
    ) -> list[float | None]:
        """Return a score for each of `body["documents"]`, None where the model gave none; raises as `call` does."""
        asked = _Asked(step=step, model=str(body["model"]))
        async with self._post("/rerank", body, headers, timeout_s, asked) as response:
            data = await response.read()
        try:
            told = _rerank_decoder.decode(data).results
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise asked.failed(f"{asked.model!r} answered what is no reranking.") from error
        scores: list[float | None] = [None] * len(body["documents"])
        for each in told:
            if 0 <= each.index < len(scores):
                scores[each.index] = each.relevance_score
        return scores

    @asynccontextmanager
    async def _post(
        self, path: str, body: dict[str, Any], headers: dict[str, str], timeout_s: float, asked: "_Asked"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=True, trust_env=False
            )
        try:
            async with self._session.post(
                f"{self._base}{path}",
                data=msgspec.json.encode(body),
                headers={**self._headers, **caller_headers(), **headers},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    data = await response.content.read(8192)
                    raise _refusal(asked, response.status, data, response.headers.get(REFUSAL_HEADER))
                yield response
        except TimeoutError as error:
            raise StepTimeout(
                f"step {asked.step!r} took longer than {timeout_s:g} s.", step=asked.step
            ) from error
        except aiohttp.ClientError as error:
            raise asked.failed(
                f"could not reach the gateway: {str(error) or type(error).__name__}."
            ) from error

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """For which step a model was asked, for errors."""

    step: str
    model: str

    def failed(self, why: str, **fields: Any) -> StepFailed:
        return StepFailed(f"step {self.step!r}: {why}", step=self.step, **fields)


def _read_whole(asked: _Asked, data: bytes) -> ModelReply:
    reply = _decode(asked, data)
    choice = reply.choices[0] if reply.choices else None
    if choice is None or choice.message is None:
        raise asked.failed(f"{asked.model!r} answered without a message.")
    return ModelReply(
        text=choice.message.content or "",
        usage=disjoint_usage(reply.usage) if reply.usage else None,
        finish_reason=choice.finish_reason or "stop",
        model=reply.model,
    )


async def _read_stream(asked: _Asked, response: aiohttp.ClientResponse, on_text: OnText) -> ModelReply:
    texts: list[str] = []
    usage: Usage | None = None
    finish_reason: str | None = None
    name: str | None = None
    is_done = False
    pending = b""
    async for piece in response.content.iter_any():
        *events, pending = _BORDER.split(pending + piece)
        if len(pending) > MAX_REPLY_BYTES:
            raise asked.failed(f"{asked.model!r} sent an endless event.")
        for event in events:
            data = _data_of(event)
            if data == b"[DONE]":
                is_done = True
                continue
            if not data:
                continue
            chunk = _decode(asked, data)
            name = chunk.model or name
            usage = disjoint_usage(chunk.usage) if chunk.usage else usage
            for choice in chunk.choices[:1]:
                finish_reason = choice.finish_reason or finish_reason
                if choice.delta is not None and choice.delta.content:
                    texts.append(choice.delta.content)
                    await on_text(choice.delta.content)
    if not is_done and finish_reason is None:
        raise asked.failed(f"{asked.model!r} broke off its reply.")
    return ModelReply(text="".join(texts), usage=usage, finish_reason=finish_reason or "stop", model=name)


def _data_of(event: bytes) -> bytes:
    lines = [line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def _decode(asked: _Asked, data: bytes) -> _Reply:
    try:
        reply = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise asked.failed(f"{asked.model!r} answered what is no chat reply.") from error
    if reply.error is not None:
        raise asked.failed(_error_text(reply.error))
    return reply


def _refusal(asked: _Asked, status: int, data: bytes, limit: str | None) -> StepFailed | CallerOverLimit:
    try:
        text = _error_text(msgspec.json.decode(data)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        text = "no reason given"
    if limit is not None:
        return CallerOverLimit(text, refusal=limit, step=asked.step)
    return asked.failed(f"the call of {asked.model!r} failed with status {status}: {text}", status=status)


def _error_text(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:500]
