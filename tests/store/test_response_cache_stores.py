"""Kept replies, in the file and in Redis alike: given again until they expire or are purged; the file stays in its bounds."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.usage import Usage
from penstock.store.errors import CacheUnusable
from penstock.store.redis_client import RedisAddress, RedisClient
from penstock.store.response_cache import (
    EVERYTHING,
    KeptReply,
    Mark,
    ResponseStore,
    decode_reply,
    encode_reply,
)
from penstock.store.response_cache_redis import RedisReplies
from tests.fixtures.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

NOW = 1_900_000_000_000_000_000
SECOND = 1_000_000_000


class Keeping(Protocol):
    """What both stores promise, without waiting."""

    def get(self, key: bytes, *, now_ns: int) -> KeptReply | None: ...
    def put(self, key: bytes, reply: KeptReply) -> object: ...
    def purge(self, mark: Mark, *, now_ns: int) -> None: ...


class Redis:
    """Replies in Redis, driven from a loop of their own, under a prefix that nobody else has."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._replies = RedisReplies(
            RedisClient(RedisAddress(url), timeout_s=60.0), prefix=f"{{penstock}}:{uuid.uuid4()}:"
        )
        self._runner.run(self._replies.connect())

    def get(self, key: bytes, *, now_ns: int) -> KeptReply | None:
        return self._runner.run(self._replies.get(key, now_ns=now_ns))

    def put(self, key: bytes, reply: KeptReply) -> None:
        self._runner.run(self._replies.put(key, reply))

    def purge(self, mark: Mark, *, now_ns: int) -> None:
        self._runner.run(self._replies.purge(mark, now_ns=now_ns))

    def close(self) -> None:
        self._replies.close()
        self._runner.run(asyncio.sleep(0))
        self._runner.close()


@pytest.fixture(params=["lmdb", "redis"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeping]:
    made: Any
    if request.param == "lmdb":
        made = ResponseStore(tmp_path / "cache")
    else:
        server: RedisServer = request.getfixturevalue("shared_redis")
        made = Redis(server.url)
    yield made
    made.close()


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def reply(body: bytes = b"{}", *, at_ns: int = NOW, ttl_s: int = 60, **fields: Any) -> KeptReply:
    values = {"project": "p", "route": "r", "content_type": b"application/json", **fields}
    return KeptReply(stored_ns=at_ns, expires_ns=at_ns + ttl_s * SECOND, body=body, **values)


def test_what_was_kept_comes_back_whole(kept: Keeping) -> None:
    full = reply(
        bytes(range(256)) * 300,
        is_stream=True,
        provider="openai",
        model="m",
        usage=Usage(input_uncached=3, output_text=4),
        headers=((b"x-penstock-provider", b"openai"),),
    )
    kept.put(key(1), full)
    assert kept.get(key(1), now_ns=NOW) == full
    assert kept.get(key(2), now_ns=NOW) is None
    kept.put(key(1), reply(b"new"))
    found = kept.get(key(1), now_ns=NOW)
    assert found is not None
    assert found.body == b"new"


def test_it_expires(kept: Keeping) -> None:
    kept.put(key(1), reply(ttl_s=60))
    assert kept.get(key(1), now_ns=NOW + 59 * SECOND)
    assert kept.get(key(1), now_ns=NOW + 60 * SECOND) is None


@pytest.mark.parametrize(
    ("mark", "left"),
    [
        (EVERYTHING, []),
        (Mark("route", "r1"), [2]),
        (Mark("project", "p1"), [1, 2]),
        (Mark("project", "p"), []),
    ],
)
def test_a_purge_is_for_what_it_names_and_what_was_kept_before(
    kept: Keeping, mark: Mark, left: list[int]
) -> None:
    kept.put(key(1), reply(route="r1"))
    kept.put(key(2), reply(route="r2"))
    kept.purge(mark, now_ns=NOW + 5)
    assert [number for number in (1, 2) if kept.get(key(number), now_ns=NOW + 9)] == left
    kept.put(key(1), reply(route="r1", at_ns=NOW + 6))
    assert kept.get(key(1), now_ns=NOW + 9)


def test_bytes_of_another_version_are_no_reply() -> None:
    assert decode_reply(b"\x93\x01\x02\x03") is None
    assert decode_reply(b"") is None
    assert decode_reply(encode_reply(reply())) == reply()


# -- what only the file does


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., ResponseStore]]:
    made: list[ResponseStore] = []

    def make(**options: Any) -> ResponseStore:
        made.append(ResponseStore(tmp_path / f"cache{len(made)}", **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


def test_the_oldest_are_thrown_out_for_room(make_store: Callable[..., ResponseStore]) -> None:
    store = make_store(max_bytes=100_000)
    for number in range(50):
        assert store.put(key(number), reply(b"x" * 9_000))
    there = [number for number in range(50) if store.get(key(number), now_ns=NOW)]
    assert there == list(range(50 - len(there), 50))
    assert 8 <= len(there) <= 11
    assert store.n_evicted == 50 - len(there)
    assert store.size_bytes() <= 100_000
    assert not store.put(key(99), reply(b"x" * 30_000)), "one reply may not take most of the room"


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12_000)), max_size=40))
def test_sizes_add_up_whatever_is_put(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    store = ResponseStore(tmp_path_factory.mktemp("cache"), max_bytes=60_000)
    last: dict[int, int] = {}
    for number, size in steps:
        if store.put(key(number), reply(b"x" * size)):
            last.pop(number, None)
            last[number] = size
        there = {n: len(found.body) for n in range(7) if (found := store.get(key(n), now_ns=NOW))}
        assert store.size_bytes() <= 60_000
        assert there.items() <= last.items()
        assert list(there) == sorted(there)
        assert store.n_entries() == len(there)
        newest = list(last)[-len(there) :] if there else []
        assert set(newest) == set(there), "what is gone is older than what is there"
    store.close()


def test_processes_share_replies_and_counts(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from penstock.store.response_cache import KeptReply, ResponseStore
store = ResponseStore(Path(sys.argv[1]))
number = int(sys.argv[2])
for step in range(50):
    store.put((number * 100 + step).to_bytes(32, "big"), KeptReply(
        project="p", route="r", stored_ns=1, expires_ns=2**62, content_type=b"", body=b"x" * 2000))
    store.add_counts({"r hit": 1})
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "c"), str(number)])
        for number in range(2)
    ]
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    store = ResponseStore(tmp_path / "c")
    assert (store.n_entries(), store.read_counts()) == (100, {"r hit": 100})
    store.close()


def test_a_partition_keeps_its_newest_questions(make_store: Callable[..., ResponseStore]) -> None:
    store = make_store()
    one, other = b"1" * 16, b"2" * 16
    for number in range(10):
        store.add_vector(one, key(number), b"record%d" % number, keep=3)
    store.add_vector(other, key(50), b"else", keep=3)
    assert store.list_vectors(one) == [(key(n), b"record%d" % n) for n in (7, 8, 9)]
    store.drop_vectors(one, [key(8)])
    assert [name for name, _ in store.list_vectors(one)] == [key(7), key(9)]
    assert store.list_vectors(other) == [(key(50), b"else")]


def test_questions_without_end_take_no_room_from_the_replies_to_come(
    make_store: Callable[..., ResponseStore],
) -> None:
    store = make_store(max_bytes=300_000)
    for number in range(8_000):
        store.add_vector(number.to_bytes(16, "big"), key(number), b"x" * 6_000, keep=500)
    assert store.size_bytes() <= 300_000
    for number in range(5):
        assert store.put(key(number), reply(b"x" * 20_000))
    assert [number for number in range(5) if store.get(key(number), now_ns=NOW)] == [0, 1, 2, 3, 4]
    assert store.list_vectors((7_999).to_bytes(16, "big")), "the youngest are kept"
    assert store.list_vectors((0).to_bytes(16, "big")) == []


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "add", "drop"]), st.integers(0, 3), st.integers(0, 9_000)),
        max_size=40,
    )
)
def test_sizes_of_replies_and_questions_add_up_together(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    store = ResponseStore(tmp_path_factory.mktemp("cache"), max_bytes=60_000)
    for what, number, size in steps:
        partition = bytes([number % 2]) * 16
        if what == "put":
            store.put(key(number), reply(b"x" * size))
        elif what == "add":
            store.add_vector(partition, key(number), b"y" * size, keep=3)
        else:
            store.drop_vectors(partition, [key(number)])
        assert 0 <= store.size_bytes() <= 60_000
        assert max(len(store.list_vectors(bytes([n]) * 16)) for n in range(2)) <= 3
    for number in range(4):
        store.drop_vectors(bytes([number % 2]) * 16, [key(number)])
    assert not any(store.list_vectors(bytes([n]) * 16) for n in range(2))
    assert (store.size_bytes() > 0) == (store.n_entries() > 0), (
        "nothing is left in the count of what has gone"
    )
    store.close()


def test_questions_of_a_file_that_did_not_count_them_are_forgotten(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "c")
    store.put(key(1), reply())
    store.add_vector(b"1" * 16, key(1), b"record", keep=3)
    with store._env.begin(write=True) as transaction:
        transaction.delete(b"layout", db=store._counts)  # as earlier versions wrote it
    store.close()
    store = ResponseStore(tmp_path / "c")
    assert store.list_vectors(b"1" * 16) == []
    assert store.get(key(1), now_ns=NOW)
    store.close()


def test_a_file_that_is_damaged_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "data.mdb").write_bytes(b"garbage" * 5000)
    with pytest.raises(CacheUnusable) as caught:
        ResponseStore(tmp_path / "c")
    assert "remove the folder" in (caught.value.hint or "")


def test_only_the_owner_may_read_what_is_kept(tmp_path: Path) -> None:
    ResponseStore(tmp_path / "c").close()
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0
