"""Replies that are removed leave no bytes in the cache's file, and the others stay as they are."""

import re
from pathlib import Path

import pytest

from penstock.store.response_cache import KeptReply, ResponseStore


def make_reply(number: int, *, words: int) -> KeptReply:
    return KeptReply(
        project="p",
        route="r",
        stored_ns=number,
        expires_ns=2**62,
        content_type=b"text/plain",
        body=b"SECRETWORD%d " % number * words,
    )


def numbers_in(folder: Path) -> set[int]:
    return {int(found) for found in re.findall(rb"SECRETWORD(\d+) ", (folder / "data.mdb").read_bytes())}


@pytest.mark.parametrize("words", [1, 60, 800])
def test_no_byte_of_a_removed_reply_stays_in_the_file(tmp_path: Path, words: int) -> None:
    store = ResponseStore(tmp_path)
    for number in range(200):
        store.put(number.to_bytes(32, "big"), make_reply(number, words=words))
    store.close()
    store = ResponseStore(tmp_path)
    size = store.size_bytes()
    assert store.remove_where(lambda reply: reply.stored_ns % 2 == 0) == 100
    assert numbers_in(tmp_path) == set(range(1, 200, 2))
    assert store.n_entries() == 100
    assert store.size_bytes() < size
    kept = store.get((3).to_bytes(32, "big"), now_ns=0)
    assert kept is not None
    assert kept.body == b"SECRETWORD3 " * words
    for number in range(300, 340):
        assert store.put(number.to_bytes(32, "big"), make_reply(number, words=words))
    assert store.n_entries() == 140
    store.close()


def test_nothing_is_written_where_nothing_is_removed(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    store.put(bytes(32), make_reply(1, words=1))
    before = (tmp_path / "data.mdb").stat().st_size
    assert store.remove_where(lambda _: False) == 0
    assert (tmp_path / "data.mdb").stat().st_size == before
    store.close()


def test_the_file_does_not_grow_without_end_however_often_something_is_removed(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path)
    sizes = []
    for _ in range(6):
        for number in range(40):
            store.put(number.to_bytes(32, "big"), make_reply(number, words=200))
        store.remove_where(lambda _: True)
        sizes.append((tmp_path / "data.mdb").stat().st_size)
    assert sizes[-1] <= 2 * sizes[1]
    store.close()
