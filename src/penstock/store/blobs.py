"""Content-addressed artefacts on any file system that fsspec speaks: `<root>/sha256/ab/cdef…`.

A blob is immutable and its name is its digest, so two writers of the same bytes never disturb each other.
It appears whole or not at all: on a local disk it is synced under a temporary name first, object stores
publish an object only when it is complete. Reading checks the digest.
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import fsspec

from penstock.base.digest import digest_bytes, digest_file
from penstock.base.errors import InvalidInput
from penstock.base.files import sync_directory, write_atomic
from penstock.store.errors import DamagedBlob, UnknownBlob

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class BlobStore:
    """Blobs below `root_url`: a path, or `s3://…`, `gs://…`, `memory://…` where that fsspec driver is there.

    Safe to use from several threads and processes at once.
    """

    def __init__(self, root_url: str, *, cache_folder: Path | None = None) -> None:
        """`cache_folder` holds local copies of remote blobs (default: a temporary folder)."""
        files, root = fsspec.core.url_to_fs(root_url)
        self._files: Any = files
        self._root = str(root).rstrip("/")
        self._is_local = "file" in _protocols(files)
        self._cache = cache_folder

    def put_bytes(self, data: bytes) -> str:
        """Store `data` and return its digest; storing it again costs one existence check."""
        digest = digest_bytes(data)
        if not self.exists(digest):
            place = self._place(digest)
            if self._is_local:
                _parent_of(place)
                write_atomic(Path(place), data)
            else:
                self._files.pipe_file(place, data)
        return digest

    def put_file(self, path: Path) -> str:
        """Store the content of a file, of any size, and return its digest."""
        digest = digest_file(path)
        if not self.exists(digest):
            place = self._place(digest)
            if self._is_local:
                _copy_durably(path, _parent_of(place) / f".{secrets.token_hex(8)}.part", Path(place))
            else:
                self._files.put_file(str(path), place)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes; raise `UnknownBlob`, or `DamagedBlob` when they do not match the digest."""
        place = self._place(digest)
        try:
            data: bytes = self._files.cat_file(place)
        except FileNotFoundError as error:
            raise UnknownBlob(f"There is no blob {digest}.") from error
        if digest_bytes(data) != digest:
            raise _damaged(digest)
        return data

    def exists(self, digest: str) -> bool:
        """Return whether the blob is there (its content is checked when it is read)."""
        return bool(self._files.isfile(self._place(digest)))

    def local_path(self, digest: str) -> Path:
        """Return a local file with the blob's content, to be read only; a verified copy if it is remote."""
        place = self._place(digest)
        if self._is_local:
            if not self.exists(digest):
                raise UnknownBlob(f"There is no blob {digest}.")
            return Path(place)
        copy = self._cache_folder() / digest.removeprefix("sha256:")
        if not copy.exists():
            part = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.part")
            try:
                self._files.get_file(place, str(part))
            except FileNotFoundError as error:
                part.unlink(missing_ok=True)
                raise UnknownBlob(f"There is no blob {digest}.") from error
            if digest_file(part) != digest:
                part.unlink()
                raise _damaged(digest)
            part.replace(copy)
        return copy

    def delete(self, digest: str) -> None:
        """Remove a blob; nothing happens when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._place(digest))

    def list_digests(self) -> list[str]:
        """Return every stored digest, sorted."""
        try:
            found = self._files.find(f"{self._root}/sha256")
        except FileNotFoundError:
            return []
        names = ["sha256:" + "".join(path.split("/")[-2:]) for path in found]
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    def _place(self, digest: str) -> str:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise InvalidInput(f"{digest!r} is not a digest.", hint="Write sha256: and 64 hex characters.")
        return f"{self._root}/sha256/{match[1][:2]}/{match[1][2:]}"

    def _cache_folder(self) -> Path:
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="penstock-blobs-"))
        self._cache.mkdir(parents=True, exist_ok=True)
        return self._cache


def _parent_of(place: str) -> Path:
    parent = Path(place).parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _copy_durably(source: Path, part: Path, target: Path) -> None:
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(target.parent)


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _damaged(digest: str) -> DamagedBlob:
    return DamagedBlob(
        f"The stored bytes are not those of {digest}.", hint="Restore the blob store from a backup."
    )
