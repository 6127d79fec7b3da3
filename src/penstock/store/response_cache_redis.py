"""Kept replies in a Redis that machines share: one value a reply, which Redis lets expire, and marks for what was purged.

How much is kept is the server's business: give it `maxmemory` and a policy such as `volatile-ttl`. Counters that share the
server must not be thrown out (see the guide to limits), so a policy for keys with an expiry alone would hit both: use two.
"""

from penstock.store.redis_client import RedisClient
from penstock.store.response_cache import KeptReply, Mark, decode_reply, encode_reply, marks_of

PREFIX = "{penstock}:reply:"
_MARK_LIVES_S = 400 * 86_400


class RedisReplies:
    """Replies on the server that `client` is connected to. Errors are `RedisGone` and `RedisRefused`."""

    def __init__(self, client: RedisClient, *, prefix: str = PREFIX) -> None:
        self._client = client
        self._prefix = prefix.encode()

    @property
    def is_connected(self) -> bool:
        """Whether commands can be sent."""
        return self._client.is_connected

    async def connect(self) -> None:
        """Connect anew."""
        await self._client.connect()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    async def get(self, key: bytes, *, now_ns: int) -> KeptReply | None:
        """Return the reply if it is there, has not expired and was not purged."""
        data = await self._client.call(b"GET", self._name(key))
        reply = decode_reply(data) if isinstance(data, bytes) else None
        if reply is None or reply.expires_ns <= now_ns:
            return None
        names = [self._mark(mark) for mark in marks_of(reply.route, reply.project)]
        told = await self._client.call(b"MGET", *names)
        marks = told if isinstance(told, list) else []
        if any(isinstance(mark, bytes) and int(mark) >= reply.stored_ns for mark in marks):
            return None
        return reply

    async def put(self, key: bytes, reply: KeptReply) -> None:
        """Store a reply in place of any other under `key`."""
        left_ms = max(1, (reply.expires_ns - reply.stored_ns) // 1_000_000)
        await self._client.call(b"SET", self._name(key), encode_reply(reply), b"PX", b"%d" % left_ms)

    async def purge(self, mark: Mark, *, now_ns: int) -> None:
        """Make everything that `mark` names and that was stored until now invalid."""
        await self._client.call(b"SET", self._mark(mark), b"%d" % now_ns, b"EX", b"%d" % _MARK_LIVES_S)

    def _name(self, key: bytes) -> bytes:
        return self._prefix + key.hex().encode()

    def _mark(self, mark: Mark) -> bytes:
        return self._prefix + b"mark:" + mark.text().encode()
