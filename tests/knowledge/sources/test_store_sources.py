"""Object stores: what their listings say decides what is read, and a listing that fails deletes nothing."""

import sys
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from penstock.knowledge.credentials import Credentials
from penstock.knowledge.sources.errors import InvalidSource, MissingReader, SourceUnavailable
from penstock.knowledge.sources.kinds.store import StoreSettings, StoreSource, make_token
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.settings import read_settings
from penstock.knowledge.types import InlineContext
from tests.knowledge.sources.conftest import CountingBlobs


@pytest.fixture
def store() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.pipe(
        {
            "/bucket/docs/a.md": b"One.",
            "/bucket/docs/deep/b.md": b"Two.",
            "/bucket/docs/deep/_properties.toml": b'readers = ["group:deep"]',
            "/bucket/docs/pic.bin": b"PIC",
            "/bucket/other/c.md": b"Other.",
        }
    )
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_objects_below_an_address_are_read_once(
    store: Any, sources: SourceService, blobs: CountingBlobs
) -> None:
    sources.add("guide", "store", "store", {"location": "memory://bucket/docs"})
    found = sources.scan_all("guide", InlineContext())
    assert [item.path for item in found.items] == ["a.md", "deep/b.md"]
    assert found.items[1].properties.readers == ["group:deep"]
    assert [each.path for each in found.left_out] == ["pic.bin"]
    n_puts = blobs.n_puts
    assert sources.scan_all("guide", InlineContext()).items == found.items
    assert blobs.n_puts == n_puts
    store.pipe("/bucket/docs/a.md", b"Changed.")
    store.rm("/bucket/docs/deep/b.md")
    after = sources.scan_all("guide", InlineContext())
    assert ([item.path for item in after.items], after.gone, after.outcomes[0].changed) == (
        ["a.md"],
        ["deep/b.md"],
        1,
    )


def test_a_listing_that_fails_in_part_deletes_nothing_and_hides_the_secret(
    store: Any, sources: SourceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec's `walk` leaves out what it cannot list below the first level, whatever `on_error` says."""
    settings = {"location": "memory://bucket/docs", "options": {"secret": "{{secret:s3}}"}}
    sources.add("guide", "store", "store", settings)
    before = sources.scan_all("guide", InlineContext())
    real = type(store).ls

    def fail(self: Any, path: str, **more: Any) -> Any:
        if path.endswith("deep"):
            raise PermissionError("refused opened-s3-for-memory://bucket/docs")
        return real(self, path, **more)

    monkeypatch.setattr(type(store), "ls", fail)
    after = sources.scan_all("guide", InlineContext())
    assert after.items == before.items
    assert after.outcomes[0].problems == ["deep/ cannot be listed: PermissionError: refused •••"]
    monkeypatch.setattr(type(store), "ls", lambda *_, **__: (_ for _ in ()).throw(OSError("no answer")))
    with pytest.raises(SourceUnavailable, match="cannot be listed"):
        sources.scan_all("guide", InlineContext())
    assert sources.get("guide", "store").counts["live"] == 2


def test_objects_that_cannot_be_fetched_keep_their_version(
    store: Any, sources: SourceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.add("guide", "store", "store", {"location": "memory://bucket/docs"})
    before = sources.scan_all("guide", InlineContext())
    store.pipe("/bucket/docs/a.md", b"Changed.")
    monkeypatch.setattr(type(store), "cat_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
    after = sources.scan_all("guide", InlineContext())
    assert [item.digest for item in after.items] == [item.digest for item in before.items]
    assert after.items[0].problem == "It cannot be fetched: TimeoutError: slow."


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/plain/path", "no address of a store"),
        ("https://example.org/", "cannot be https"),
        ("simplecache::s3://bucket/x", "no address of a store"),
        ("sftp://user:pw@host/x", "no user and password"),
    ],
)
def test_addresses_that_are_none_of_a_store_are_refused(location: str, text: str) -> None:
    with pytest.raises(InvalidSource, match=text):
        read_settings("store", {"location": location}, StoreSettings)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    settings = read_settings("store", {"location": "s3://bucket/docs"}, StoreSettings)
    source = StoreSource("src_s3", settings, Credentials(None, "s3://bucket"))
    with pytest.raises(MissingReader) as caught:
        list(source.scan({}))
    assert caught.value.hint == "Install it: pip install s3fs"


def test_a_store_that_says_only_a_size_is_read_every_time() -> None:
    assert make_token({"name": "x", "size": 3}) is None
    assert make_token({"name": "x", "size": 3, "ETag": '"abc"'}) == 'size=3 ETag="abc"'
