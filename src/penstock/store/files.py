"""Files and batches that clients leave: one folder for each project, one record and one content for each file.

A file is there once its record is: the content is synced under its final name first, and a record is removed before its
content. So a crash loses at most what was not yet confirmed, and several processes may use the folder at once.
Nothing here knows what a batch does.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec

from penstock.base.files import sync_directory, write_atomic
from penstock.base.ids import new_id

_ID = re.compile(r"(?:file-|batch_)[0-9a-hjkmnp-tv-z]{26}")
_STALE_S = 24 * 3600.0
BatchStatus = Literal["validating", "cancelled"]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a file."""

    id: str
    project: str
    key_id: str
    """Who left it."""
    filename: str
    purpose: str
    size_bytes: int
    digest: str
    """`sha256:` and 64 hex characters, taken while it arrived."""
    created_s: int
    expires_s: int | None = None


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch as it was accepted."""

    id: str
    project: str
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_s: int
    status: BatchStatus = "validating"
    cancelled_s: int | None = None
    metadata: dict[str, str] | None = None


Record = TypeVar("Record", StoredFile, StoredBatch)


class Upload:
    """A file as it arrives. Either `keep` or `discard` ends it."""

    def __init__(self, folder: Path) -> None:
        self.id = _make_id("file-")
        self.size_bytes = 0
        self._folder = folder
        self._part = folder / f".{self.id}.part"
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = self._part.open("xb")
        self._part.chmod(0o600)

    def write(self, data: bytes) -> None:
        """Add bytes; raise `OSError` if the disk takes no more."""
        self._file.write(data)
        self._file.flush()  # so that it counts for whoever measures the folder
        self._digest.update(data)
        self.size_bytes += len(data)

    def keep(
        self,
        *,
        project: str,
        key_id: str,
        filename: str,
        purpose: str,
        created_s: int,
        expires_s: int | None = None,
    ) -> StoredFile:
        """Make it a file, durably; raise `OSError`."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        content = self._folder / f"{self.id}.bin"
        self._part.replace(content)
        record = StoredFile(
            id=self.id,
            project=project,
            key_id=key_id,
            filename=filename,
            purpose=purpose,
            size_bytes=self.size_bytes,
            digest=f"sha256:{self._digest.hexdigest()}",
            created_s=created_s,
            expires_s=expires_s,
        )
        try:
            write_atomic(self._folder / f"{self.id}.json", msgspec.json.encode(record), mode=0o600)
        except OSError:
            content.unlink(missing_ok=True)
            raise
        return record

    def discard(self) -> None:
        """Forget it; nothing happens when it has been kept."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class FileStore:
    """Files and batches below `root`. Blocking; safe from several threads and processes at once."""

    def __init__(self, root: Path, *, now_s: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now_s = now_s

    def begin(self, project: str) -> Upload:
        """Start a file; raise `OSError`. Removes what uploads that broke off have left."""
        folder = self._folder(project)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):
            with contextlib.suppress(FileNotFoundError):
                if self._now_s() - part.stat().st_mtime > _STALE_S:
                    part.unlink()
        return Upload(folder)

    def find_file(self, project: str, file_id: str) -> StoredFile | None:
        """Return the record of a file, None if this project has no such file (any more)."""
        found = self._read(project, file_id, "file-", StoredFile)
        if found is not None and found.expires_s is not None and found.expires_s <= self._now_s():
            self.delete_file(project, file_id)
            return None
        return found

    def open_file(self, project: str, file_id: str) -> IO[bytes] | None:
        """Return the content of a file, open for reading; None if this project has no such file."""
        if self.find_file(project, file_id) is None:
            return None
        try:
            return (self._folder(project) / f"{file_id}.bin").open("rb")
        except FileNotFoundError:
            return None

    def delete_file(self, project: str, file_id: str) -> bool:
        """Remove a file; return whether there was one."""
        if not _is_id(file_id, "file-"):
            return False
        folder = self._folder(project)
        try:
            (folder / f"{file_id}.json").unlink()
        except FileNotFoundError:
            return False
        sync_directory(folder)
        (folder / f"{file_id}.bin").unlink(missing_ok=True)
        return True

    def list_files(self, project: str) -> Iterator[StoredFile]:
        """Yield the files of a project, the oldest first."""
        for file_id in self._ids(project, "file-"):
            found = self.find_file(project, file_id)
            if found is not None:
                yield found

    def measure(self, project: str) -> tuple[int, int]:
        """Return how many records a project has, and the bytes it takes with what is arriving."""
        folder = self._folder(project)
        count = size = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat().st_size
                    count += entry.name.endswith(".json")
        return count, size

    def delete_expired(self, project: str) -> None:
        """Remove the files of a project whose time is over."""
        for _ in self.list_files(project):
            pass

    def add_batch(
        self,
        *,
        project: str,
        key_id: str,
        endpoint: str,
        input_file_id: str,
        completion_window: str,
        metadata: dict[str, str] | None,
    ) -> StoredBatch:
        """Store a batch, durably; raise `OSError`."""
        batch = StoredBatch(
            id=_make_id("batch_"),
            project=project,
            key_id=key_id,
            endpoint=endpoint,
            input_file_id=input_file_id,
            completion_window=completion_window,
            created_s=int(self._now_s()),
            metadata=metadata,
        )
        self._folder(project).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_batch(batch)
        return batch

    def find_batch(self, project: str, batch_id: str) -> StoredBatch | None:
        """Return a batch, None if this project has no such one."""
        return self._read(project, batch_id, "batch_", StoredBatch)

    def cancel_batch(self, batch: StoredBatch) -> StoredBatch:
        """Mark a batch as cancelled; raise `OSError`."""
        cancelled = msgspec.structs.replace(batch, status="cancelled", cancelled_s=int(self._now_s()))
        self._write_batch(cancelled)
        return cancelled

    def list_batches(self, project: str) -> Iterator[StoredBatch]:
        """Yield the batches of a project, the oldest first."""
        for batch_id in self._ids(project, "batch_"):
            found = self.find_batch(project, batch_id)
            if found is not None:
                yield found

    def _write_batch(self, batch: StoredBatch) -> None:
        place = self._folder(batch.project) / f"{batch.id}.json"
        write_atomic(place, msgspec.json.encode(batch), mode=0o600)

    def _read(self, project: str, name: str, prefix: str, kind: type[Record]) -> Record | None:
        if not _is_id(name, prefix):
            return None
        try:
            return msgspec.json.decode((self._folder(project) / f"{name}.json").read_bytes(), type=kind)
        except FileNotFoundError:
            return None

    def _ids(self, project: str, prefix: str) -> list[str]:
        try:
            names = [entry.name for entry in self._folder(project).iterdir()]
        except FileNotFoundError:
            return []
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(stem for stem in stems if _is_id(stem, prefix))

    def _folder(self, project: str) -> Path:
        return self._root / hashlib.sha256(project.encode()).hexdigest()[:32]


def _make_id(prefix: str) -> str:
    return prefix + new_id("x").removeprefix("x_")


def _is_id(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and _ID.fullmatch(name) is not None
