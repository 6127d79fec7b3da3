"""The cache as an operator sees it: counts by route, an honest estimate of false hits, purges that reach everything."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.deploy.kept_replies import ResponseCacheService, wilson
from penstock.deploy.snapshots import build_snapshot
from penstock.spec.snapshot import Snapshot
from penstock.store.redis_client import RedisAddress, RedisClient
from penstock.store.response_cache import KeptReply, ResponseStore
from penstock.store.response_cache_redis import RedisReplies
from tests.fixtures.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

REPLY = KeptReply(project="p", route="r", stored_ns=5, expires_ns=2**62, content_type=b"", body=b"{}")
KEY = b"k" * 32
Make = Callable[..., ResponseCacheService]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_one(snapshot: Snapshot | None = None, **environ: str) -> ResponseCacheService:
        return ResponseCacheService(tmp_path / "cache", lambda: snapshot, environ, now_ns=lambda: 10)

    return make_one


def test_a_home_without_a_cache_has_an_empty_one(make: Make, tmp_path: Path) -> None:
    stats = make().stats()
    assert (stats.entries, stats.routes) == (0, ())
    make().purge()
    assert not (tmp_path / "cache").exists()


def test_counts_are_told_by_route(make: Make, tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "cache")
    store.put(KEY, REPLY)
    store.add_counts(
        {"a\x1fhit": 5, "a\x1fsemantic": 2, "a\x1fshared": 1, "a\x1fmiss": 2, "a\x1fchecked": 20}
    )
    store.add_counts({"a\x1fdiffered": 1, "b\x1fbypass": 3, "\x1ffailed": 4})
    store.close()
    stats = make().stats()
    assert (stats.entries, stats.failed, stats.shared) == (1, 4, False)
    first, second = stats.routes
    assert (first.route, first.hits, first.semantic, first.misses, first.hit_ratio) == ("a", 5, 2, 2, 0.8)
    assert first.false_hits is not None
    assert (first.false_hits.checked, first.false_hits.share) == (20, 0.05)
    assert (second.bypassed, second.hit_ratio, second.false_hits) == (3, None, None)
    assert msgspec.json.encode(stats)


def test_the_interval_is_wilsons() -> None:
    found = wilson(1, 20)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0089, 0.2361)
    none = wilson(0, 50)
    assert none.low == 0
    assert round(none.high, 4) == 0.0713


@given(checked=st.integers(1, 10_000), data=st.data())
def test_the_interval_holds_the_share(checked: int, data: st.DataObject) -> None:
    differed = data.draw(st.integers(0, checked))
    found = wilson(differed, checked)
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1


def test_a_purge_is_for_a_route_or_a_project_or_all(make: Make, tmp_path: Path) -> None:
    def is_there() -> bool:
        store = ResponseStore(tmp_path / "cache")
        found = store.get(KEY, now_ns=20)
        store.close()
        return found is not None

    store = ResponseStore(tmp_path / "cache")
    store.put(KEY, REPLY)
    store.close()
    make().purge(route="other")
    assert is_there()
    make().purge(project="p")
    assert not is_there()
    with pytest.raises(InvalidInput):
        make().purge(route="r", project="p")


def test_a_purge_reaches_the_redis_that_machines_share(make: Make, shared_redis: RedisServer) -> None:
    snapshot = build_snapshot(providers=[], routes=[], keys=[], redis_url_env="SHARED")

    async def put_and_purge() -> list[bool]:
        replies = RedisReplies(RedisClient(RedisAddress(shared_redis.url), timeout_s=60.0))
        await replies.connect()
        await replies.put(KEY, REPLY)
        before = await replies.get(KEY, now_ns=20)
        await asyncio.to_thread(make(snapshot, SHARED=shared_redis.url).purge, route="r")
        after = await replies.get(KEY, now_ns=20)
        replies.close()
        return [before is not None, after is not None]

    assert asyncio.run(put_and_purge()) == [True, False]
    assert make(snapshot, SHARED="x").stats().shared


def test_a_shared_cache_is_not_purged_by_halves(make: Make) -> None:
    snapshot = build_snapshot(providers=[], routes=[], keys=[], redis_url_env="SHARED")
    with pytest.raises(InvalidInput, match="SHARED"):
        make(snapshot).purge()
