"""A provider that misbehaves on request: raw bytes over real sockets, and a record of what it saw."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 8,
    "total_tokens": 28,
    "prompt_tokens_details": {"cached_tokens": 5},
}
REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Drink water."}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
    "unknown_member": {"kept": [1, 2.50]},
}
Handler = Callable[["Exchange"], Awaitable[None]]


def chunk(
    delta: dict[str, Any] | None, *, finish: str | None = None, usage: Any = None, **extra: Any
) -> bytes:
    """One stream event; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    value = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": choices,
    }
    if usage is not None:
        value["usage"] = usage
    return b"data: " + json.dumps({**value, **extra}).encode() + b"\n\n"


STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Drink "}),
    chunk({"content": "water."}),
    chunk({}, finish="stop"),
]
USAGE_EVENT = chunk(None, usage=USAGE)
DONE = b"data: [DONE]\n\n"


class Exchange:
    """One request and the pen to answer it with."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self.writer = writer

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(
        self,
        body: bytes | dict[str, Any],
        *,
        status: int = 200,
        kind: str = "application/json",
        extra: str = "",
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{extra}\r\n"
        await self.send(head.encode() + data)

    async def begin_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")


async def answer(exchange: Exchange) -> None:
    """Do what a good provider does."""
    if exchange.head.startswith(b"POST /v1/embeddings"):
        await exchange.reply(
            {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}],
             "model": "minilm", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        )  # fmt: skip
        return
    if not exchange.json.get("stream"):
        await exchange.reply(REPLY)
        return
    await exchange.begin_stream()
    for piece in STREAM:
        await exchange.piece(piece)
    if exchange.json.get("stream_options", {}).get("include_usage"):
        await exchange.piece(USAGE_EVENT)
    await exchange.piece(DONE)
    await exchange.end_stream()


def _look_away(task: "asyncio.Future[bytes]") -> None:
    """Whether the client's end was a reset or not is the same here."""
    if not task.cancelled():
        task.exception()


class FakeUpstream:
    """A server whose `handler` decides what happens. `seen` holds every request, `n_lost` the clients that left."""

    def __init__(self, handler: Handler = answer) -> None:
        self.handler = handler
        self.seen: list[Exchange] = []
        self.n_connections = 0
        self.client_left = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def n_open(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    async def start(self, port: int = 0) -> "FakeUpstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.n_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head, b"", writer)
                exchange.body = await reader.readexactly(int(exchange.header("content-length") or 0))
                self.seen.append(exchange)
                handling = asyncio.ensure_future(self.handler(exchange))
                watching = asyncio.ensure_future(reader.read(1))
                watching.add_done_callback(_look_away)
                await asyncio.wait({handling, watching}, return_when=asyncio.FIRST_COMPLETED)
                if not handling.done():
                    self.client_left.set()
                    handling.cancel()
                    await asyncio.gather(handling, return_exceptions=True)
                    return
                if handling.exception() is not None:
                    return
                if watching.done() and watching.result() == b"":
                    return
                if writer.is_closing():
                    watching.cancel()
                    return
                if not watching.done():
                    # The next request's first byte belongs to the next round; put it back by reading on.
                    first = await watching
                    if not first:
                        return
                    head = first + await reader.readuntil(b"\r\n\r\n")
                    reader._buffer[:0] = head  # type: ignore[attr-defined]
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            self._tasks.discard(task)
