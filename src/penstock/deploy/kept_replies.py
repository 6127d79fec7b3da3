"""The response cache as an operator sees it: how well it works, how often it may be wrong, and how it is emptied."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import sqrt
from pathlib import Path

import msgspec

from penstock.base.errors import InvalidInput, PenstockError
from penstock.spec.snapshot import Snapshot
from penstock.store.redis_client import RedisAddress, RedisClient
from penstock.store.response_cache import EVERYTHING, KeptReply, Mark, ResponseStore
from penstock.store.response_cache_redis import RedisReplies

_Z = 1.959964
"""95 % of a normal distribution."""
_REDIS_TIMEOUT_S = 2.0


class FalseHits(msgspec.Struct, frozen=True, kw_only=True):
    """Answers by meaning whose fresh answer said something else, and the 95 % interval of their share (Wilson)."""

    checked: int
    differed: int
    share: float
    low: float
    high: float


class RouteCache(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache did for one route, since the cache was made."""

    route: str
    hits: int = 0
    semantic: int = 0
    """Answers by meaning."""
    shared: int = 0
    """Calls that shared another's in flight."""
    misses: int = 0
    bypassed: int = 0
    hit_ratio: float | None = None
    """Calls that no provider was asked for, of those that looked; None when none has."""
    slow: int = 0
    """Questions that were not embedded in time."""
    false_hits: FalseHits | None = None
    """None while no answer by meaning has been checked."""


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of this machine. With a shared Redis the entries lie there, and only the counts are of this machine."""

    entries: int
    size_bytes: int
    max_bytes: int
    failed: int
    """Times that the cache could not be read or written."""
    shared: bool
    """Whether replies are kept in a Redis."""
    routes: tuple[RouteCache, ...]


def wilson(differed: int, checked: int) -> FalseHits:
    """Return the share with its 95 % interval, after Wilson (1927): it holds for small numbers and for shares near 0."""
    share = differed / checked
    middle = share + _Z * _Z / (2 * checked)
    spread = _Z * sqrt(share * (1 - share) / checked + _Z * _Z / (4 * checked * checked))
    scale = 1 + _Z * _Z / checked
    low, high = max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
    return FalseHits(checked=checked, differed=differed, share=share, low=low, high=high)


class ResponseCacheService:
    """Reads and empties the cache of a home; gateways may be running or not. Safe for threads."""

    def __init__(
        self,
        folder: Path,
        read_snapshot: Callable[[], Snapshot | None],
        environ: Mapping[str, str],
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._read_snapshot = read_snapshot
        self._environ = environ
        self._now_ns = now_ns
        self._guard = threading.Lock()

    def stats(self) -> CacheStats:
        """Return what the cache holds and did."""
        is_shared = self._variable() is not None
        if not self._folder.exists():
            return CacheStats(entries=0, size_bytes=0, max_bytes=0, failed=0, shared=is_shared, routes=())
        with self._opened() as store:
            counts = store.read_counts()
            entries, size = store.n_entries(), store.size_bytes()
        by_route: dict[str, dict[str, int]] = {}
        for name, count in counts.items():
            route, _, what = name.partition("\x1f")
            by_route.setdefault(route, {})[what] = count
        failed = by_route.pop("", {}).get("failed", 0)
        return CacheStats(
            entries=entries,
            size_bytes=size,
            max_bytes=store.max_bytes,
            failed=failed,
            shared=is_shared,
            routes=tuple(_describe(route, counted) for route, counted in sorted(by_route.items())),
        )

    def purge(self, *, route: str | None = None, project: str | None = None) -> Mark:
        """Forget everything that was kept until now: of a route, of a project, or all of it.

        Gateways heed it at once. Raises `RedisGone` when replies are shared and the Redis cannot be told.
        """
        if route is not None and project is not None:
            raise InvalidInput("A purge is for a route or for a project.", hint="Purge one after the other.")
        mark = EVERYTHING
        if route is not None:
            mark = Mark("route", route)
        elif project is not None:
            mark = Mark("project", project)
        variable, now_ns = self._variable(), self._now_ns()
        url = self._environ.get(variable, "") if variable is not None else ""
        if variable is not None and not url:
            raise InvalidInput(
                f"Replies are shared in Redis, and the variable {variable} with its URL is not set here.",
                hint="Set it, or ask the running installation: POST /api/v1/cache/purge.",
            )
        if self._folder.exists():
            with self._opened() as store:
                store.purge(mark, now_ns=now_ns)
        if url:
            asyncio.run(_purge_shared(url, mark, now_ns))
        return mark

    def remove_where(self, is_theirs: Callable[[KeptReply], bool]) -> int:
        """Remove replies from this machine's file, bytes and all; return how many."""
        if not self._folder.exists():
            return 0
        with self._opened() as store:
            return store.remove_where(is_theirs)

    @property
    def is_shared(self) -> bool:
        """Whether replies are kept in a Redis."""
        return self._variable() is not None

    @contextmanager
    def _opened(self) -> Iterator[ResponseStore]:
        with self._guard:  # a process may open the file only once at a time
            store = ResponseStore(self._folder)
            try:
                yield store
            finally:
                store.close()

    def _variable(self) -> str | None:
        """Return the name of the variable with the URL of the Redis that replies are shared in."""
        try:
            snapshot = self._read_snapshot()
        except (PenstockError, OSError):
            return None
        return snapshot.redis_url_env if snapshot is not None else None


async def _purge_shared(url: str, mark: Mark, now_ns: int) -> None:
    replies = RedisReplies(RedisClient(RedisAddress(url), timeout_s=_REDIS_TIMEOUT_S))
    await replies.connect()
    try:
        await replies.purge(mark, now_ns=now_ns)
    finally:
        replies.close()


def _describe(route: str, counts: Mapping[str, int]) -> RouteCache:
    hits, semantic = counts.get("hit", 0), counts.get("semantic", 0)
    shared, misses = counts.get("shared", 0), counts.get("miss", 0)
    served = hits + semantic + shared
    checked = counts.get("checked", 0)
    return RouteCache(
        route=route,
        hits=hits,
        semantic=semantic,
        shared=shared,
        misses=misses,
        bypassed=counts.get("bypass", 0),
        hit_ratio=served / (served + misses) if served + misses else None,
        slow=counts.get("slow", 0),
        false_hits=wilson(counts.get("differed", 0), checked) if checked else None,
    )
