"""A whole home in one file, taken while it runs: a tar file whose last member lists the digest of every other.

What is copied first never knows less than what is copied later: a span that leaves the spool after the spool was copied
is in the span store's copy, which comes after it, and is known there by its id. Artefacts come after the tables that
name them.
"""

import fcntl
import glob
import hashlib
import io
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import lmdb
import msgspec
from sqlalchemy import make_url

from penstock import __version__
from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.base.files import sync_directory
from penstock.main.control_client import ControlClient
from penstock.main.copies import copies_folder, hold_copies
from penstock.main.errors import BackupFailed
from penstock.main.home_files import create_home
from penstock.main.instance import own_home, running_instance
from penstock.main.settings import load_settings
from penstock.spec.home import Home
from penstock.store.control.engine import control_url, newest_revision
from penstock.store.sealing import MASTER_KEY_VARIABLE
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.schema import SCHEMA_VERSION

FORMAT = 1
MANIFEST = "manifest.json"
COPY_TIMEOUT_S = 3600.0
Tell = Callable[[float | None, str], None]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a backup."""

    path: str
    """Below the home, with slashes."""
    size: int
    digest: str
    mode: int = 0o600


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    version: str
    """Of the Penstock that made it."""
    created_ns: int
    control_revision: str
    span_schema: int
    members: list[Member]
    notes: list[str] = []
    """What is not in it, and what to take care of."""


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    size_bytes: int
    n_files: int
    notes: list[str]


def back_up(
    home: Home, out: Path, *, environ: Mapping[str, str], with_keys: bool = True, tell: Tell = lambda *_: None
) -> BackupReport:
    """Write everything of `home` to the file `out`, which must not exist; running or not.

    A name that ends in `.gz` or `.tgz` is compressed. Raises `InvalidInput`, `BackupFailed`.
    """
    if out.exists():
        raise InvalidInput(f"{out} is there already.", hint="Name a file that does not exist.")
    if not home.root.is_dir():
        raise InvalidInput(f"{home.root} is no home.", hint="Name one with --home.")
    create_home(home)  # a restored one has no folder for locks yet
    try:
        with _growing(out) as (partial, file), hold_copies(home):
            manifest = _write(home, file, environ, with_keys=with_keys, tell=tell, mode=_mode_of(out))
            partial.replace(out)
            sync_directory(out.absolute().parent)
    except (OSError, sqlite3.Error, lmdb.Error) as error:
        raise BackupFailed(
            f"The backup could not be written: {error}", hint=f"Nothing was left at {out}."
        ) from error
    return BackupReport(
        path=str(out), size_bytes=out.stat().st_size, n_files=len(manifest.members), notes=manifest.notes
    )


def _mode_of(out: Path) -> Literal["w|", "w|gz"]:
    return "w|gz" if out.suffix in {".gz", ".tgz"} else "w|"


@contextmanager
def _growing(out: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield a new file beside `out`, for its owner alone; those that killed backups to `out` left are removed.

    It is locked while it grows, which tells it from one that was left.
    """
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        with suppress(OSError), left.open("rb") as file:  # what cannot be opened is not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield partial, file
    finally:
        partial.unlink(missing_ok=True)


def _write(
    home: Home,
    file: IO[bytes],
    environ: Mapping[str, str],
    *,
    with_keys: bool,
    tell: Tell,
    mode: Literal["w|", "w|gz"],
) -> Manifest:
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        writer = _Writer(home, tar, environ, tell)
        writer.write_all(with_keys=with_keys)
        manifest = Manifest(
            format=FORMAT,
            version=__version__,
            created_ns=now_ns(),
            control_revision=newest_revision(),
            span_schema=SCHEMA_VERSION,
            members=writer.members,
            notes=writer.notes,
        )
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        _add(tar, MANIFEST, io.BytesIO(data), len(data))
    file.flush()
    os.fsync(file.fileno())
    return manifest


class _Writer:
    """Adds one part of the home after the other."""

    def __init__(self, home: Home, tar: tarfile.TarFile, environ: Mapping[str, str], tell: Tell) -> None:
        self.members: list[Member] = []
        self.notes: list[str] = []
        self._home = home
        self._tar = tar
        self._environ = environ
        self._tell = tell

    def write_all(self, *, with_keys: bool) -> None:
        """Add everything, in the order that keeps it consistent."""
        home = self._home
        parts: tuple[tuple[str, Callable[[], None]], ...] = (
            ("settings and keys", lambda: self._add_keys(with_keys=with_keys)),
            ("control tables", self._add_control),
            ("billing journals", lambda: self._add_folder(home.journal, is_moving=True)),
            ("spool", lambda: self._add_folder(home.spool, is_moving=True)),
            ("spans to be sent on", lambda: self._add_folder(home.forward, is_moving=True)),
            ("span store", self._add_spans),
            ("counters", self._add_counters),
            ("files", lambda: self._add_folder(home.files)),
            ("artefacts", self._add_blobs),
            ("indexes", lambda: self._add_folder(home.indexes)),
        )
        for number, (name, write) in enumerate(parts):
            self._tell(number / len(parts), name)
            write()
        self._tell(1.0, "done")

    def _add_keys(self, *, with_keys: bool) -> None:
        home = self._home
        self._add_file(home.settings)
        self._add_file(home.privacy_key)
        self._add_file(home.root / "retention.json")
        if not with_keys:
            self.notes.append(
                "admin.key and master.key are not in it: without the master key, sealed secrets have to be entered again"
            )
            return
        self._add_file(home.admin_key)
        if MASTER_KEY_VARIABLE in self._environ:
            self.notes.append(
                f"the master key lies where {MASTER_KEY_VARIABLE} says, and is not in it: keep it too"
            )
        elif home.master_key.exists():
            self._add_file(home.master_key)
            self.notes.append("it holds the master key: whoever has the file can open the sealed secrets")

    def _add_control(self) -> None:
        storage = load_settings(self._home.settings).settings.storage
        url = storage.control_url or control_url(self._home)
        if storage.control_url_env is not None or not url.startswith("sqlite"):
            self.notes.append(
                "the control tables are in a database of their own: take them with pg_dump at the same time"
            )
            return
        source = Path(make_url(url).database or "")
        if source != self._home.control_db:
            self.notes.append(f"the control tables come from {source}; restored, they lie in the home")
        if not source.exists():
            return
        with self._scratch() as folder:
            copy = folder / "control.db"
            with (
                closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
                closing(sqlite3.connect(copy)) as new,
            ):
                old.backup(new, pages=1000)
            self._add_file(copy, name="control.db")

    def _add_spans(self) -> None:
        home = self._home
        if running_instance(home) is not None:
            told = ControlClient(home).post("/api/v1/upkeep/span-copy", {}, timeout_s=COPY_TIMEOUT_S)
            copy = Path(told["path"])
            try:
                self._add_file(copy, name=home.span_db.name)
            finally:
                copy.unlink(missing_ok=True)
        elif home.span_db.exists():
            with own_home(home), self._scratch() as folder:
                copy = folder / home.span_db.name
                file = DuckDBFile(home.span_db)
                try:
                    file.copy_to(copy)
                finally:
                    file.close()
                self._add_file(copy, name=home.span_db.name)

    def _add_counters(self) -> None:
        if not (self._home.counters / "data.mdb").exists():
            return
        with self._scratch() as folder:
            environment = lmdb.open(str(self._home.counters), readonly=True, max_dbs=0)
            try:
                environment.copy(str(folder), compact=True)
            finally:
                environment.close()
            self._add_file(folder / "data.mdb", name="counters/data.mdb")

    def _add_blobs(self) -> None:
        url = load_settings(self._home.settings).settings.storage.blobs_url
        if url is not None and "://" in url and not url.startswith("file:"):
            self.notes.append(f"artefacts lie at {url.partition('?')[0]}, and are not in it")
            return
        self._add_folder(self._home.blobs)

    def _add_folder(self, folder: Path, *, is_moving: bool = False) -> None:
        """Add all files below a folder. Those that move are read at once, and may be gone."""
        for path in sorted(folder.rglob("*")) if folder.exists() else []:
            if path.is_symlink() or not path.is_file() or path.name == "writer.lock":
                continue
            try:
                if is_moving:
                    data = path.read_bytes()
                    self._add_bytes(path.relative_to(self._home.root).as_posix(), data)
                else:
                    self._add_file(path)
            except FileNotFoundError:  # stored, sent or removed meanwhile
                continue

    def _add_file(self, path: Path, *, name: str | None = None) -> None:
        if not path.exists():
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._add_stream(name or path.relative_to(self._home.root).as_posix(), file, size)

    def _add_bytes(self, name: str, data: bytes) -> None:
        self._add_stream(name, io.BytesIO(data), len(data))

    def _add_stream(self, name: str, file: IO[bytes], size: int) -> None:
        hashing = _Hashing(file)
        _add(self._tar, name, hashing, size)
        self.members.append(Member(path=name, size=size, digest=hashing.digest))

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=copies_folder(self._home)) as folder:
            yield Path(folder)


def _add(tar: tarfile.TarFile, name: str, file: "IO[bytes] | _Hashing", size: int) -> None:
    facts = tarfile.TarInfo(name)
    facts.size, facts.mode, facts.mtime = size, 0o600, now_ns() // 1_000_000_000
    tar.addfile(facts, file)


class _Hashing:
    """A file that is read once, and the digest of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._state = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._state.update(data)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._state.hexdigest()}"
