"""What the front of an engine does with ASGI: streams, whole bodies, errors, and clients that leave."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from penstock.base.errors import PenstockError
from penstock.providers.engines.lanes import TextPump
from penstock.providers.engines.replies import ReplyWriter, encode_json, error_fields
from penstock.providers.engines.types import GenerationEnd

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class Started:
    """A `send` that remembers whether the response has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.has_begun = True
        await self._send(message)


async def stream_reply(
    pump: TextPump, job: "asyncio.Future[GenerationEnd]", writer: ReplyWriter, send: Started, extra: Headers
) -> None:
    """Send what comes out of the pump as events. `extra` is looked at when the first of them is there."""
    async for batch in pump.drain(job):
        events = writer.pieces(batch)
        if not send.has_begun:
            await _begin_stream(send, extra)
            events = writer.start() + events
        if events:
            await send({"type": "http.response.body", "body": events, "more_body": True})
    try:
        tail = writer.finish(job.result())
    except PenstockError as error:
        if not send.has_begun:
            raise
        tail = writer.failure(error)
    if not send.has_begun:  # the very first token ended the reply
        await _begin_stream(send, extra)
        tail = writer.start() + tail
    await send({"type": "http.response.body", "body": tail})


async def _begin_stream(send: Started, extra: Headers) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, *extra]})


@contextlib.asynccontextmanager
async def cancel_on_disconnect(receive: Receive, pump: TextPump) -> Any:
    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        pump.is_cancelled = True

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        pump.is_cancelled = True  # whatever ended the call, an exception too, also ends the generation
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


async def send_body(send: Started, body: bytes, *, status: int = 200, extra: Headers = ()) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Started, error: PenstockError) -> None:
    if send.has_begun:
        return
    extra = [(b"retry-after", b"1")] if error.status == 503 else []
    await send_body(send, encode_json(error_fields(error)), status=error.status, extra=extra)
