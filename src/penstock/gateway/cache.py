"""Replies that are given again: looked up before a call goes to a provider, kept after one came back complete.

Off unless a route asks for it. Only complete, successful replies are kept; a hit costs nothing and says what it saved.
A cache that fails is a cache that misses: nothing here can make a call fail.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from penstock.base.errors import PenstockError
from penstock.gateway.caching.flights import Flight
from penstock.gateway.caching.keys import CACHED_OPERATIONS, find_key
from penstock.gateway.caching.meaning import Asks, Meaning, Probe
from penstock.gateway.caching.recording import KEPT_HEADERS, Recording
from penstock.gateway.caching.semantic import Nearest
from penstock.gateway.caching.stores import LocalReplies, SharedReplies
from penstock.gateway.calls import CacheWish, Call
from penstock.gateway.http import LONG_BODY_BYTES, Header, Send
from penstock.gateway.table import header_text
from penstock.spec.routes import CachePolicy
from penstock.store.redis_client import RedisAddress, RedisClient
from penstock.store.response_cache import KeptReply, ResponseStore
from penstock.store.response_cache_redis import RedisReplies

_log = logging.getLogger("penstock.gateway")
Produce = Callable[[Send], Awaitable[None]]
_FLUSH_EVERY_S = 2.0
_PIECE_BYTES = 16 * 1024
_NS = 1_000_000_000


def read_wish(headers: Mapping[bytes, bytes]) -> CacheWish:
    """Return what a client wants of the cache: `cache-control: no-store` and `no-cache`, or `x-penstock-cache`."""
    own = headers.get(b"x-penstock-cache", b"").strip().lower()
    control = headers.get(b"cache-control", b"").lower()
    if own == b"bypass" or b"no-store" in control:
        return "bypass"
    if own == b"refresh" or b"no-cache" in control:
        return "refresh"
    return "use"


class ResponseCache:
    """Serves calls of routes whose policy asks for it. For one event loop."""

    def __init__(
        self, open_store: Callable[[], ResponseStore], *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._open_store = open_store
        self._store = LocalReplies(open_store)
        self._redis_url: str | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._now_ns = now_ns
        self._flights: dict[bytes, Flight] = {}
        self._counts: Counter[str] = Counter()
        self._flushing: asyncio.Task[None] | None = None
        self._is_failing = False
        self._meaning: Meaning | None = None

    def use_calls(self, asks: Asks) -> None:
        """Answer by meaning too, where a route wants it, with the embeddings that `asks` gets."""
        self._meaning = Meaning(asks, self._count)

    def follow(self, redis_url: str | None) -> None:
        """Keep replies in the Redis at `redis_url` from now on, or in this machine's file if it is None."""
        if redis_url == self._redis_url:
            return
        before, self._redis_url = self._store, redis_url
        self._store = LocalReplies(self._open_store)
        if redis_url is not None:
            try:
                self._store = SharedReplies(
                    RedisReplies(RedisClient(RedisAddress(redis_url))), self._open_store
                )
            except PenstockError as error:
                self._note_failure(error)
        closing = asyncio.ensure_future(before.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def start(self) -> None:
        """Begin to write counts from time to time."""
        self._flushing = asyncio.create_task(self._flush_for_ever(), name="cache-counts")

    async def close(self) -> None:
        """Write what is counted and stop."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        if self._meaning is not None:
            await self._meaning.close()
        self._flush()
        await asyncio.gather(self._store.close(), *self._closing)

    async def serve(self, call: Call, send: Send, produce: Produce) -> None:
        """Answer `call` from the cache, or by `produce`, whose reply is kept if it may be."""
        assert call.route is not None
        policy, wish = call.route.route.cache, call.cache_wish
        key = None if wish == "bypass" else await self._find_key(call)
        if key is None:
            self._note(call, "bypass")
            await produce(send)
            return
        if wish == "use":
            reply = await self._get(key)
            if reply is not None:
                self._note(call, "hit")
                await self._replay(call, reply, send)
                return
        probe: Probe | None = None
        if policy.mode == "semantic" and self._meaning is not None:
            nearest, probe = await self._meaning.look_up(call, policy, self._store)
            if nearest is not None and wish == "use" and probe is not None:
                reply = await self._get(nearest.key)
                if reply is not None:
                    await self._answer_by_meaning(call, policy, nearest, reply, send)
                    return
                self._meaning.forget(probe, nearest.key, self._store)
        flight = self._flights.get(key) if policy.share_in_flight and wish == "use" else None
        if flight is not None and flight.is_open:
            self._note(call, "shared")
            await self._follow(call, flight, send)
        elif policy.share_in_flight:
            await self._lead(call, key, probe, send, produce)
        else:
            self._note(call, "miss")
            await self._produce(call, key, probe, send, produce)

    # -- looking up

    async def _find_key(self, call: Call) -> bytes | None:
        if call.operation not in CACHED_OPERATIONS or call.endpoint.is_form:
            return None
        if len(call.body) > LONG_BODY_BYTES:
            return await asyncio.to_thread(find_key, call)
        return find_key(call)

    async def _get(self, key: bytes) -> KeptReply | None:
        try:
            reply = await self._store.get(key, now_ns=self._now_ns())
        except PenstockError as error:
            self._note_failure(error)
            return None
        return reply

    async def _answer_by_meaning(
        self, call: Call, policy: CachePolicy, nearest: Nearest, reply: KeptReply, send: Send
    ) -> None:
        assert self._meaning is not None
        self._note(call, "semantic")
        call.extra_headers.append((b"x-penstock-cache-similarity", b"%.4f" % nearest.similarity))
        await self._replay(call, reply, send)
        self._meaning.maybe_check(call, policy, reply)

    async def _replay(self, call: Call, reply: KeptReply, send: Send) -> None:
        call.http_status = 200
        call.streamed = reply.is_stream
        call.output = [reply.body] if reply.is_stream else reply.body
        call.output_size = len(reply.body)
        call.usage = reply.usage  # billed nothing, since it was never sent; kept to tell what was saved
        call.reply_model = reply.model
        call.note_overhead()
        age_s = max(0, (self._now_ns() - reply.stored_ns) // _NS)
        headers = [
            (b"content-type", reply.content_type),
            *own_headers(call),
            *reply.headers,
            (b"age", b"%d" % age_s),
        ]
        if not reply.is_stream:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = reply.body
        while len(body) > _PIECE_BYTES and reply.is_stream:
            cut = body.find(b"\n\n", _PIECE_BYTES) + 2
            if cut < 2 or cut >= len(body):
                break
            await send({"type": "http.response.body", "body": body[:cut], "more_body": True})
            body = body[cut:]
        await send({"type": "http.response.body", "body": body})

    # -- sharing

    async def _lead(self, call: Call, key: bytes, probe: Probe | None, send: Send, produce: Produce) -> None:
        flight = Flight()
        self._flights[key] = flight
        self._note(call, "miss")
        call.flight = flight

        def forget() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight.begin(lambda out: self._produce(call, key, probe, out, produce), forget)
        await flight.follow(send, lambda message: message)

    async def _follow(self, call: Call, flight: Flight, send: Send) -> None:
        call.http_status = 200

        def make_own(message: dict[str, Any]) -> dict[str, Any]:
            call.http_status = message["status"]
            call.note_overhead()
            kept = [
                header
                for header in message["headers"]
                if header[0] in KEPT_HEADERS or header[0] in (b"content-type", b"content-length")
            ]
            return {**message, "headers": [*kept, *own_headers(call)]}

        await flight.follow(send, make_own)

    # -- keeping

    async def _produce(
        self, call: Call, key: bytes, probe: Probe | None, send: Send, produce: Produce
    ) -> None:
        asked = call.route
        assert asked is not None
        policy = asked.route.cache
        began_ns = self._now_ns()  # a purge in the meantime is for this reply too
        recording = Recording(send, max_bytes=policy.max_entry_bytes)
        await produce(recording)
        if recording.status != 200 or not recording.is_whole or call.error_code not in (None, "client_gone"):
            return
        if call.route is not asked:
            return  # a fallback's: what stood in for seconds must not be given for hours
        assert call.key is not None
        provider = call.target.provider if call.target is not None else None
        reply = KeptReply(
            project=call.key.project,
            route=asked.route.name,
            stored_ns=began_ns,
            expires_ns=began_ns + policy.ttl_s * _NS,
            content_type=recording.content_type,
            body=recording.body,
            is_stream=call.streamed,
            provider=provider.name if provider is not None else None,
            model=call.reply_model or (call.target.model if call.target is not None else None),
            usage=call.usage,
            headers=recording.kept_headers,
        )
        try:
            await self._store.put(key, reply)
            if probe is not None and self._meaning is not None:
                self._meaning.keep(probe, key, self._store)
        except PenstockError as error:
            self._note_failure(error)

    # -- counting

    def _note(self, call: Call, state: Literal["hit", "miss", "bypass", "semantic", "shared"]) -> None:
        assert call.route is not None
        call.cache_state = state
        self._count(call.route.route.name, state)

    def _count(self, route: str, what: str) -> None:
        self._counts[f"{route}\x1f{what}"] += 1

    def _note_failure(self, error: PenstockError) -> None:
        self._count("", "failed")
        if not self._is_failing:
            self._is_failing = True
            _log.error("the cache cannot be used, calls go on without it", extra={"reason": error.message})

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            self._flush()

    def _flush(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        try:
            self._store.add_counts(counts)
        except PenstockError as error:
            self._note_failure(error)


def own_headers(call: Call) -> list[Header]:
    """Return the headers of a reply that belong to this call, not to the one that first got the reply."""
    headers = [
        (b"x-penstock-trace-id", call.trace_id.encode()),
        (b"x-penstock-attempts", b"0"),
        (b"x-penstock-overhead-ms", b"%.3f" % (call.overhead_ms or 0.0)),
        *call.extra_headers,
        *((b"x-penstock-warning", header_text(text[:500])) for text in call.warnings),
    ]
    if call.cache_state is not None:
        headers.append((b"x-penstock-cache", call.cache_state.encode()))
    return headers
