"""Where replies are kept: this machine's file, or a Redis that machines share, with the file as its stand-in."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from penstock.base.errors import PenstockError
from penstock.store.response_cache import KeptReply, ResponseStore
from penstock.store.response_cache_redis import RedisReplies

_LARGE_BYTES = 64 * 1024
_RETRY_S = 1.0


class LocalReplies:
    """The file of this machine, opened when it is first needed: a gateway whose routes cache nothing has none."""

    def __init__(self, open_store: Callable[[], ResponseStore]) -> None:
        self._open = open_store
        self._store: ResponseStore | None = None
        self._writing = threading.Lock()
        """Held while a thread writes, so that the file is not closed under it when its caller has been cancelled."""

    @property
    def store(self) -> ResponseStore:
        """The open file. Raises `CacheUnusable`."""
        if self._store is None:
            self._store = self._open()
        return self._store

    async def get(self, key: bytes, *, now_ns: int) -> KeptReply | None:
        """Return the reply under a key, None if there is none that is valid."""
        return self.store.get(key, now_ns=now_ns)

    async def put(self, key: bytes, reply: KeptReply) -> None:
        """Keep a reply; a large one is written in a thread, so that other calls go on meanwhile."""
        if len(reply.body) > _LARGE_BYTES:
            await asyncio.to_thread(self._put_large, self.store, key, reply)
        else:
            self.store.put(key, reply)

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to counts that all workers of the machine share."""
        self.store.add_counts(counts)

    def add_vector(self, partition: bytes, key: bytes, record: bytes, *, keep: int) -> None:
        """Append a record to a partition, for the reply under `key`."""
        self.store.add_vector(partition, key, record, keep=keep)

    def list_vectors(self, partition: bytes) -> list[tuple[bytes, bytes]]:
        """Return (key of the reply, record) of a partition."""
        return self.store.list_vectors(partition)

    def drop_vectors(self, partition: bytes, keys: Iterable[bytes]) -> None:
        """Remove the records of replies that are there no more."""
        self.store.drop_vectors(partition, keys)

    async def close(self) -> None:
        """Let go of the file."""
        with self._writing:
            store, self._store = self._store, None
            if store is not None:
                store.close()

    def _put_large(self, store: ResponseStore, key: bytes, reply: KeptReply) -> None:
        with self._writing:
            if self._store is store:
                store.put(key, reply)


class SharedReplies(LocalReplies):
    """Replies in Redis; while it is gone, in the file. Nobody waits for a connection: it is made in the background."""

    def __init__(
        self,
        replies: RedisReplies,
        open_store: Callable[[], ResponseStore],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(open_store)
        self._redis = replies
        self._monotonic = monotonic
        self._try_at = 0.0
        self._connecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Try to connect once."""
        with contextlib.suppress(PenstockError):
            await self._redis.connect()

    async def get(self, key: bytes, *, now_ns: int) -> KeptReply | None:
        """Return the reply under a key, None if there is none that is valid."""
        if self._is_there():
            with contextlib.suppress(PenstockError):
                return await self._redis.get(key, now_ns=now_ns)
        return await super().get(key, now_ns=now_ns)

    async def put(self, key: bytes, reply: KeptReply) -> None:
        """Keep a reply."""
        if self._is_there():
            with contextlib.suppress(PenstockError):
                await self._redis.put(key, reply)
                return
        await super().put(key, reply)

    async def close(self) -> None:
        """Let go of Redis and of the file."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._redis.close()
        await super().close()

    def _is_there(self) -> bool:
        if self._redis.is_connected:
            return True
        now = self._monotonic()
        if now >= self._try_at and (self._connecting is None or self._connecting.done()):
            self._try_at = now + _RETRY_S
            self._connecting = asyncio.create_task(self.start(), name="cache-redis")
        return False
