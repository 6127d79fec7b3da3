"""Calls a chat model through the gateway, as any client would, with the trace's `traceparent`."""

import re
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


_decoder = msgspec.json.Decoder(_Reply)


class ModelClient:
    """One HTTP session to the gateway. Use from one event loop; `close` at the end."""

    def __init__(self, gateway_url: str, internal_key: str) -> None:
        self._url = f"{gateway_url.rstrip('/')}/chat/completions"
        self._headers = {"authorization": f"Bearer {internal_key}", "content-type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, body: dict[str, Any], *, headers: dict[str, str], timeout_s: float, on_text: OnText | None
    ) -> ModelReply:
        """Return the reply; with `on_text` it is streamed, and each piece is passed on as it comes.

        Raises `StepTimeout` after `timeout_s`, `CallerOverLimit` where a limit refuses the call, `StepFailed` for any
        other failure.
        """
        if on_text is not None:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=True, trust_env=False
            )
        try:
            async with self._session.post(
                self._url,
                data=msgspec.json.encode(body),
                headers={**self._headers, **caller_headers(), **headers},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    data = await response.content.read(8192)
                    raise _refusal(body["model"], response.status, data, response.headers.get(REFUSAL_HEADER))
                if on_text is None:
                    return _read_whole(body["model"], await response.read())
                return await _read_stream(body["model"], response, on_text)
        except TimeoutError as error:
            raise StepTimeout(f"step 'answer' took longer than {timeout_s:g} s.", step="answer") from error
        except aiohttp.ClientError as error:
            reason = str(error) or type(error).__name__
            raise StepFailed(
                f"step 'answer' could not reach the gateway: {reason}.", step="answer"
            ) from error

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _read_whole(model: str, data: bytes) -> ModelReply:
    reply = _decode(model, data)
    choice = reply.choices[0] if reply.choices else None
    if choice is None or choice.message is None:
        raise StepFailed(f"step 'answer': {model!r} answered without a message.", step="answer")
    return ModelReply(
        text=choice.message.content or "",
        usage=disjoint_usage(reply.usage) if reply.usage else None,
        finish_reason=choice.finish_reason or "stop",
        model=reply.model,
    )


async def _read_stream(model: str, response: aiohttp.ClientResponse, on_text: OnText) -> ModelReply:
    texts: list[str] = []
    usage: Usage | None = None
    finish_reason: str | None = None
    name: str | None = None
    is_done = False
    pending = b""
    async for piece in response.content.iter_any():
        *events, pending = _BORDER.split(pending + piece)
        if len(pending) > MAX_REPLY_BYTES:
            raise StepFailed(f"step 'answer': {model!r} sent an endless event.", step="answer")
        for event in events:
            data = _data_of(event)
            if data == b"[DONE]":
                is_done = True
                continue
            if not data:
                continue
            chunk = _decode(model, data)
            name = chunk.model or name
            usage = disjoint_usage(chunk.usage) if chunk.usage else usage
            for choice in chunk.choices[:1]:
                finish_reason = choice.finish_reason or finish_reason
                if choice.delta is not None and choice.delta.content:
                    texts.append(choice.delta.content)
                    await on_text(choice.delta.content)
    if not is_done and finish_reason is None:
        raise StepFailed(f"step 'answer': {model!r} broke off its reply.", step="answer")
    return ModelReply(text="".join(texts), usage=usage, finish_reason=finish_reason or "stop", model=name)


def _data_of(event: bytes) -> bytes:
    lines = [line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).strip()


def _decode(model: str, data: bytes) -> _Reply:
    try:
        reply = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StepFailed(
            f"step 'answer': {model!r} answered what is no chat reply.", step="answer"
        ) from error
    if reply.error is not None:
        raise StepFailed(f"step 'answer': {_error_text(reply.error)}", step="answer")
    return reply


def _refusal(model: str, status: int, data: bytes, limit: str | None) -> StepFailed | CallerOverLimit:
    try:
        text = _error_text(msgspec.json.decode(data)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        text = "no reason given"
    if limit is not None:
        return CallerOverLimit(text, refusal=limit, step="answer")
    return StepFailed(
        f"step 'answer': the call of {model!r} failed with status {status}: {text}",
        step="answer",
        status=status,
    )


def _error_text(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:500]
