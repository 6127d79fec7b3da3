"""One call over HTTP: sent once, never retried, timed from before the first byte goes out."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import msgspec

from penstock.deploy.load.mixes import Ask
from penstock.deploy.load.streams import ReplyReader
from penstock.deploy.load.types import LoadSpec

_EXAMPLE = 300
SESSION_PREFIX = "loadtest:"


@dataclass(kw_only=True)
class Reply:
    """How a call went. Times are of the sender's clock."""

    sent_s: float
    ended_s: float
    status: int | None = None
    error: str = ""
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    reader: ReplyReader = field(default_factory=ReplyReader)


class Sender(Protocol):
    """Sends calls."""

    async def send(self, target: str, ask: Ask) -> Reply:
        """Return how the call went; raises nothing but cancellation."""


class HttpSender:
    """`Sender` over the gateway's chat endpoint. Use from one event loop, inside `async with`."""

    def __init__(
        self,
        url: str,
        key: str,
        spec: LoadSpec,
        *,
        test_id: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`url` is the gateway's, without `/v1`."""
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._spec = spec
        self._clock = clock
        self._headers = {
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            # so that the record tells these calls from those of people
            "x-penstock-session": f"{SESSION_PREFIX}{test_id}",
        }
        if not spec.cache:
            self._headers["x-penstock-cache"] = "bypass"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "HttpSender":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), trust_env=False, read_bufsize=2**18
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, target: str, ask: Ask) -> Reply:
        """Return how the call went; raises nothing but cancellation."""
        assert self._session is not None
        body: dict[str, Any] = {
            "model": target,
            "messages": list(ask.messages),
            "max_tokens": ask.max_tokens,
            **self._spec.parameters,
        }
        if self._spec.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        data = msgspec.json.encode(body)
        reply = Reply(sent_s=self._clock(), ended_s=0.0)
        try:
            async with self._session.post(
                self._url,
                data=data,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=self._spec.timeout_s),
                allow_redirects=False,
            ) as response:
                reply.status = response.status
                reply.headers = {name.lower(): value for name, value in response.headers.items()}
                await self._read(response, reply)
        except TimeoutError:
            reply.error, reply.detail = "timeout", f"no whole reply within {self._spec.timeout_s:g} s"
        except aiohttp.ClientError as error:
            reply.error = "connection" if reply.status is None else "broken"
            reply.detail = (str(error) or type(error).__name__)[:_EXAMPLE]
        reply.ended_s = self._clock()
        return reply

    async def _read(self, response: aiohttp.ClientResponse, reply: Reply) -> None:
        reader = reply.reader
        if response.status != 200:
            reply.error, reply.detail = explain_refusal(response.status, await response.read())
            return
        if "text/event-stream" in response.headers.get("content-type", ""):
            async for piece in response.content.iter_any():
                reader.feed(piece, self._clock())
        else:
            reader.read_whole(await response.read())
        reply.error, reply.detail = judge_reply(reader)


def judge_reply(reader: ReplyReader) -> tuple[str, str]:
    """Return the kind of failure and an example; two empty texts for a reply that came whole."""
    if reader.error is not None:
        code, message = _told(reader.error)
        return f"stream {code or 'error'}", message[:_EXAMPLE]
    if not reader.is_done:
        return "broken", "the reply ended before it was complete"
    if reader.n_pieces == 0 and not reader.completion_tokens:
        return "empty", f"a reply without text (finish: {reader.finish})"
    return "", ""


def explain_refusal(status: int, data: bytes) -> tuple[str, str]:
    """Return the kind of a refusal (`429 PS-2601`) and what it says."""
    try:
        told = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return str(status), data[:_EXAMPLE].decode("utf-8", "replace")
    code, message = _told(told.get("error", told) if isinstance(told, dict) else told)
    return f"{status} {code}".strip(), message[:_EXAMPLE]


def _told(error: Any) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "", str(error)
    code = error.get("penstock_code") or error.get("code") or error.get("type") or ""
    return str(code), str(error.get("message") or error)
