"""Blobs are addressed by their content, verified, and the same on every file system."""

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from penstock.base.digest import digest_bytes
from penstock.base.errors import InvalidInput
from penstock.store.blobs import BlobStore
from penstock.store.errors import DamagedBlob, UnknownBlob

MISSING = "sha256:" + "0" * 64


@pytest.fixture(params=["local", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "local":
        yield BlobStore(str(tmp_path / "blobs"), cache_folder=tmp_path / "cache")
    else:
        yield BlobStore("memory://blobs", cache_folder=tmp_path / "cache")
        fsspec.filesystem("memory").store.clear()


def test_what_was_put_is_got_under_its_digest(blobs: BlobStore) -> None:
    for data in (b"", b"hello", bytes(range(256)) * 5000):
        digest = blobs.put_bytes(data)
        assert digest == digest_bytes(data)
        assert blobs.get(digest) == data
        assert blobs.local_path(digest).read_bytes() == data


def test_the_same_content_is_stored_once_however_it_comes(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"artefact" * 1000)
    assert blobs.put_file(source) == blobs.put_bytes(source.read_bytes()) == blobs.put_file(source)
    assert len(blobs.list_digests()) == 1
    assert source.exists()


def test_listing_shows_exactly_the_stored_blobs(blobs: BlobStore) -> None:
    assert blobs.list_digests() == []
    digests = sorted(blobs.put_bytes(bytes([number])) for number in range(10))
    assert blobs.list_digests() == digests
    blobs.delete(digests[0])
    blobs.delete(digests[0])
    assert blobs.list_digests() == digests[1:]
    assert not blobs.exists(digests[0])


def test_an_unknown_blob_is_told_apart_from_a_damaged_one(blobs: BlobStore) -> None:
    with pytest.raises(UnknownBlob):
        blobs.get(MISSING)
    with pytest.raises(UnknownBlob):
        blobs.local_path(MISSING)
    digest = blobs.put_bytes(b"good")
    blobs._files.pipe_file(blobs._place(digest), b"evil")
    with pytest.raises(DamagedBlob):
        blobs.get(digest)


@pytest.mark.parametrize(
    "digest", ["", "hello", "sha256:../../etc/passwd", "sha256:" + "G" * 64, "sha256:abc"]
)
def test_a_text_that_is_no_digest_never_becomes_a_path(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(InvalidInput):
        blobs.get(digest)
    with pytest.raises(InvalidInput):
        blobs.delete(digest)


def test_a_remote_copy_is_verified_before_it_is_used(tmp_path: Path) -> None:
    blobs = BlobStore("memory://verified", cache_folder=tmp_path / "cache")
    digest = blobs.put_bytes(b"good")
    blobs._files.pipe_file(blobs._place(digest), b"evil")
    with pytest.raises(DamagedBlob):
        blobs.local_path(digest)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="space"):
        blobs.put_bytes(b"y" * 1000)
    with pytest.raises(OSError, match="space"):
        blobs.put_file(source)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_writers_of_the_same_blob_do_not_disturb_each_other(blobs: BlobStore) -> None:
    data = b"same" * 50_000
    seen: list[bytes] = []

    def work() -> None:
        seen.append(blobs.get(blobs.put_bytes(data)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [data] * 8
