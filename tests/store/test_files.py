"""Files and batches on disk: whole or not at all, one folder a project, gone when their time is over."""

from pathlib import Path

import pytest

from penstock.base.digest import digest_bytes
from penstock.store.files import FileStore, StoredBatch, StoredFile, Upload


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> FileStore:
    return FileStore(tmp_path / "files", now_s=clock)


def keep(upload: Upload, **more: int) -> StoredFile:
    return upload.keep(project="p", key_id="key_1", filename="a.jsonl", purpose="batch", created_s=5, **more)


def leave(store: FileStore, data: bytes, **more: int) -> StoredFile:
    upload = store.begin("p")
    upload.write(data[:3])
    upload.write(data[3:])
    return keep(upload, **more)


def test_a_file_is_kept_with_size_and_digest(store: FileStore) -> None:
    file = leave(store, b"hello world")
    assert (file.size_bytes, file.digest) == (11, digest_bytes(b"hello world"))
    assert store.find_file("p", file.id) == file
    content = store.open_file("p", file.id)
    assert content is not None
    with content:
        assert content.read() == b"hello world"


def test_an_upload_that_breaks_off_leaves_no_file(store: FileStore, tmp_path: Path) -> None:
    upload = store.begin("p")
    upload.write(b"half")
    assert store.find_file("p", upload.id) is None
    upload.discard()
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_what_a_killed_process_left_is_removed_a_day_later(
    store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    abandoned = store.begin("p")
    abandoned.write(b"half")
    abandoned._file.close()
    (part,) = (tmp_path / "files").rglob("*.part")
    clock.now_s = part.stat().st_mtime + 3600
    store.begin("p").discard()
    assert part.exists()
    clock.now_s += 24 * 3600
    store.begin("p").discard()
    assert not part.exists()


def test_projects_do_not_see_each_other(store: FileStore) -> None:
    file = leave(store, b"x")
    assert store.find_file("other", file.id) is None
    assert store.open_file("other", file.id) is None
    assert not store.delete_file("other", file.id)
    assert list(store.list_files("other")) == []
    batch = add_batch(store, file.id)
    assert store.find_batch("other", batch.id) is None


@pytest.mark.parametrize(
    "name", ["../p", "file-../../../etc/passwd", "", "file-", "batch_x", "file-" + "0" * 27]
)
def test_names_that_are_no_ids_lead_nowhere(store: FileStore, name: str) -> None:
    leave(store, b"x")
    assert store.find_file("p", name) is None
    assert not store.delete_file("p", name)
    assert store.find_batch("p", name) is None


@pytest.mark.parametrize("project", ["../../up", "a/b", "", "\0"])
def test_a_project_of_any_name_stays_below_the_root(store: FileStore, tmp_path: Path, project: str) -> None:
    store.begin(project).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_files_are_listed_by_age_and_gone_when_deleted_or_expired(store: FileStore, clock: Clock) -> None:
    first, second = leave(store, b"1"), leave(store, b"2", expires_s=int(clock.now_s) + 10)
    assert {file.id for file in store.list_files("p")} == {first.id, second.id}
    assert store.measure("p")[0] == 2
    clock.now_s += 10
    assert list(store.list_files("p")) == [first]
    assert store.delete_file("p", first.id)
    assert not store.delete_file("p", first.id)
    assert store.measure("p") == (0, 0)


def add_batch(store: FileStore, file_id: str) -> StoredBatch:
    return store.add_batch(
        project="p", key_id="key_1", endpoint="/v1/embeddings", input_file_id=file_id, completion_window="24h",
        metadata={"a": "b"},
    )  # fmt: skip


def test_batches_are_kept_and_cancelled(store: FileStore) -> None:
    batch = add_batch(store, "file-x")
    assert list(store.list_batches("p")) == [batch]
    assert batch.status == "validating"
    cancelled = store.cancel_batch(batch)
    assert (cancelled.status, cancelled.cancelled_s) == ("cancelled", 1_000_000)
    assert store.find_batch("p", batch.id) == cancelled
