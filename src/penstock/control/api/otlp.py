"""OTLP over HTTP: spans and events from anybody's OpenTelemetry SDK, acknowledged once they are on disk.

OTLP 1.9 §"OTLP/HTTP": protobuf or JSON, optionally gzip; the answer is in the request's encoding, with
`partial_success` where something had to be left out. A body is inflated piece by piece and given up over the limit, so
a small body that inflates to gigabytes costs no more than the limit; while too much waits to be stored the answer is 503
with the seconds after which to come again.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.control.known_keys import KnownKeys
from penstock.control.services import ControlServices
from penstock.spec.routes import KeyRow
from penstock.telemetry.errors import SpoolUnavailable
from penstock.telemetry.otlp import JSON, PROTOBUF, OtlpBatch, Signal, encode_otlp_reply

_PIECE_BYTES = 1024 * 1024
_MAX_LOST = 2**40
PAUSE_S = 30.0
"""How long a sender may pause within a body: what it holds meanwhile, nobody else can take."""
BODY_S = 300.0
_THREADS = 16
"""Requests that may wait for the disk at once; they share its syncs."""
SMALL_BYTES = 16 * 1024
"""Bodies up to this are decoded where they are received: a quarter of a millisecond, less than to hand them on."""
_WAY = "http"
_SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")


class UnsupportedEncoding(InvalidInput):
    """The body's encoding or content type is none that OTLP/HTTP knows."""

    code = "PS-1651"
    status = 415


class BodyStalled(InvalidInput):
    """The body did not come to its end in time."""

    code = "PS-1657"
    status = 408


async def read_body(request: Request, grow: Callable[[int], None]) -> bytes:
    """Return the inflated body; `grow` is told how much more of it there is, on the wire or inflated, and may refuse it.

    Raises `InvalidInput`, `UnsupportedEncoding` and `BodyStalled`.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", ""}:
        raise UnsupportedEncoding(
            f"content-encoding {encoding!r} is not known here.", hint="Use gzip or none."
        )
    inflate = Gunzip() if encoding == "gzip" else None
    pieces: list[bytes] = []
    n_wire = n_held = 0
    async for chunk in _in_time(request.stream()):
        n_wire += len(chunk)
        for piece in inflate.pieces(chunk) if inflate is not None else (chunk,):
            grow(len(piece))
            n_held += len(piece)
            pieces.append(piece)
        if n_wire > n_held:  # gzip may go on for ever without holding anything
            grow(n_wire - n_held)
            n_held = n_wire
    if inflate is not None:
        inflate.check_end()
    return b"".join(pieces)


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    now = asyncio.get_running_loop().time
    end = now() + BODY_S
    while True:
        try:
            async with asyncio.timeout_at(min(now() + PAUSE_S, end)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise BodyStalled(
                "The body did not come to its end in time.", hint="Send it again, in smaller batches."
            ) from error
        if chunk is None:
            return
        yield chunk


class Gunzip:
    """Inflates gzip that comes in chunks, piece by piece, so that a small body cannot swell before it is counted.

    Several members in a row are one body (RFC 1952, section 2.2). Raises `InvalidInput` for what is no gzip.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._is_begun = False

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` holds, at most a MiB at a time."""
        rest = chunk
        while rest:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            self._is_begun = True
            try:
                piece = self._member.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise InvalidInput("The body is not valid gzip.") from error
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                yield piece

    def check_end(self) -> None:
        """Raise `InvalidInput` when the last member is not whole."""
        if self._is_begun and not self._member.eof:
            raise InvalidInput("The gzip body ends too early.")


class OtlpEndpoint:
    """Takes one signal, as an ASGI application of its own, which checks its declared permission itself.

    A sender of many small requests would pay more for being routed and introduced than for its spans.
    """

    def __init__(
        self, services: ControlServices, keys: KnownKeys, signal: Signal, executor: ThreadPoolExecutor
    ) -> None:
        self._ingest = services.ingest
        self._keys = keys
        self._signal: Signal = signal
        self._executor = executor
        needs(Permission.TRACES_WRITE)(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raise `PenstockError`, which the application turns into a reply."""
        request = Request(scope, receive)
        headers = request.headers
        loop = asyncio.get_running_loop()
        shown = headers.get("authorization", "")
        key = self._keys.recall(shown)
        if key is None:
            key = await loop.run_in_executor(self._executor, self._keys.find, shown)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {PROTOBUF, JSON}:
            raise UnsupportedEncoding(
                f"content type {kind!r} is not OTLP.", hint=f"Send {PROTOBUF} or {JSON}."
            )
        self._count_lost(headers.get("x-penstock-dropped", ""))
        with self._ingest.reserve() as grow:
            body = await read_body(request, grow)
            if len(body) <= SMALL_BYTES and self._ingest.is_calm:
                batch = await self._take_small(body, kind, key)
            else:
                take = partial(self._ingest.take, self._signal, body, kind, way=_WAY, came_s=time.monotonic())
                take = partial(take, key_id=key.id, project=key.project)
                batch = await loop.run_in_executor(self._executor, take)
        await Response(encode_otlp_reply(batch, kind), media_type=kind)(scope, receive, send)

    async def _take_small(self, body: bytes, kind: str, key: KeyRow) -> OtlpBatch:
        """Take a request here and now, and wait without a thread until it is on disk."""
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[SpoolUnavailable | None] = loop.create_future()

        def hear(fault: SpoolUnavailable | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, settled, fault)

        batch = self._ingest.begin(self._signal, body, kind, then=hear, key_id=key.id, project=key.project)
        self._ingest.finish(batch, await settled, way=_WAY)
        return batch

    def _count_lost(self, told: str) -> None:
        if told.isascii() and told.isdigit() and int(told) < _MAX_LOST:
            self._ingest.counters.add("dropped", "spans lost by their sender", int(told))


def _settle(settled: asyncio.Future[SpoolUnavailable | None], fault: SpoolUnavailable | None) -> None:
    if not settled.done():  # its request may have been given up
        settled.set_result(fault)


def create_router(services: ControlServices) -> APIRouter:
    """Return `POST /v1/traces`, `/v1/logs` and `/v1/metrics`.

    They are on disk when they are answered with 200, and spans are searchable within two seconds; of log records GenAI
    events are kept and joined to their spans; metrics are not kept, and their senders are told so.
    """
    router = APIRouter(tags=["otlp"])
    keys = KnownKeys(services.keys)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="otlp-http")
    for signal in _SIGNALS:
        endpoint: Any = OtlpEndpoint(services, keys, signal, executor)  # an application is an endpoint too
        router.add_route(f"/v1/{signal}", endpoint, methods=["POST"])
    return router
