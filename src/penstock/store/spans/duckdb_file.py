"""One DuckDB file that one process owns: opening, cursors, one writer at a time, and reopening after a failure.

The adapters of the span store's ports (`DuckDBSpanStore` and its neighbours) share one `DuckDBFile`. Threads share the
connection through cursors; every change goes through `transaction`, which is durable when it is left.

The file is attached to an empty database in memory, because only so it can be told how many rows make a group: a group
that one transaction fills is compressed once and goes straight into the file, the rest is written to the log first and
compressed at a checkpoint. The surprise: DuckDB keeps that number nowhere, and every cursor has to be told which
database it means.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from penstock.base.errors import InvalidInput, PenstockError
from penstock.base.files import sync_directory
from penstock.store.spans.errors import SpanStoreBusy, SpanStoreFailed, SpanStoreInUse, SpanStoreUnreadable
from penstock.store.spans.schema import SCHEMA_VERSION, create_statements, migration_statements
from penstock.store.spans.text_known import KnownTexts

IN_MEMORY = Path(":memory:")
"""Stands for a store without a file, which lives as long as its connection."""
ROW_GROUP = 6144
"""Rows of a table that are compressed together. A transaction that brings a multiple of them costs least."""
COMPACT_ROW_GROUP = 122_880
"""The same in a file that is written anew: larger groups are smaller on disk, and nobody waits for them."""
SWAP_WAIT_S = 60.0
REOPEN_WAIT_S = 5.0
MIN_ROOM = 64 << 20
_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # A checkpoint compresses what came and the row group before it anew: over 147,000 spans commits and checkpoints took
    # 37 µs a span with 128 MB, 23 with 256 MB. It stops appends for its length, and opening reads as much after a crash:
    # 1.1 s of processor time.
    "checkpoint_threshold": "256MB",
    # A page is sorted by its key alone, and only its own rows are read whole; left alone, that ends at 50 rows, and a
    # page asks for one more than it shows.
    "late_materialization_max_rows": "2000",
}
_DAMAGE = "Corrupt database file"
_GIVEN_UP = "has been invalidated"
_NAME = "record"
"""Of the attached database."""
_SESSION = (
    "SET pandas_analyze_sample = 0",  # text columns are text, whatever the first values look like
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class DuckDBFile:
    """The DuckDB file at `path`, made when missing, with the span store's tables of this version.

    Raises `SpanStoreInUse` when another process has the file open and `SpanStoreUnreadable` when it is
    damaged or of another version. With `read_only` nothing is written, not even a new file.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, memory_limit: str = "1GB", threads: int | None = None
    ) -> None:
        self.path = path
        self.known_texts = KnownTexts()
        self._written_from = 0
        self._write = threading.Lock()
        self._gate = threading.Condition()
        self._n_cursors = 0
        self._is_swapping = False
        self._is_lost = False
        self._config: dict[str, Any] = {**_CONFIG, "memory_limit": memory_limit}
        if threads is not None:
            self._config["threads"] = threads
        self._read_only = read_only
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = self._open()

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Yield a cursor for reading; raise `SpanStoreFailed` when DuckDB gives up on the file, which is opened anew then.

        Whoever comes next opens it, again and again while that fails: the store comes back once its disk has room.
        """
        with self._gate:
            self._gate.wait_for(lambda: not self._is_swapping)
            if self._is_lost:
                self._reopen()
            self._n_cursors += 1
            connection = self._connection
        try:
            with self._open_cursor(connection) as cursor:
                yield cursor
        finally:
            with self._gate:
                self._n_cursors -= 1
                self._gate.notify_all()

    @contextmanager
    def _open_cursor(self, connection: Any) -> Iterator[Any]:
        cursor = connection.cursor()
        try:
            run(cursor, f"USE {_NAME}")
            yield cursor
        except duckdb.Error as error:
            if _has_given_up(error):
                with self._gate:
                    self._is_lost = self._is_lost or connection is self._connection
                raise SpanStoreFailed(
                    f"The span store gave up: {error}", hint="It is opened anew; see that its disk has room."
                ) from error
            if _is_of_surroundings(error):
                raise _failure(error) from error
            raise
        finally:
            with suppress(duckdb.Error):
                cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Yield a cursor within the one transaction that writes now; it is durable once this is left without error.

        Values that DuckDB refuses raise `InvalidInput`; nothing is stored then.
        """
        with self._write, self.cursor() as cursor:
            self._written_from = 0
            run(cursor, "BEGIN")
            try:
                yield cursor
                self.known_texts.note_change(self._written_from)
                try:
                    run(cursor, "COMMIT")
                finally:
                    self.known_texts.note_change(self._written_from)
            except BaseException as error:
                with suppress(duckdb.Error):  # a failed statement may have ended the transaction
                    run(cursor, "ROLLBACK")
                if isinstance(error, duckdb.DataError | UnicodeError):
                    raise InvalidInput(f"The span store refuses the spans: {error}") from error
                raise

    def tell_written(self, low_ns: int) -> None:
        """Tell, within `transaction`, that it changes no span that starts before `low_ns`; untold, it may be any."""
        self._written_from = low_ns

    @contextmanager
    def paused_writes(self) -> Iterator[Any]:
        """Yield a cursor outside of any transaction while nobody writes: for checkpoints and copies of the file."""
        with self._write, self.cursor() as cursor:
            yield cursor

    def rebuild(self, build: Callable[[Any, str], None]) -> None:
        """Put a new file in the place of this one: `build(cursor, schema)` fills its empty tables from those here.

        Nobody writes meanwhile; readers go on and wait only while the files change places. Whenever the process is
        killed, the old file or the new one is whole.
        """
        fresh = _fresh_folder(self.path) / self.path.name
        _check_room(self.path)
        with self._write:
            shutil.rmtree(fresh.parent, ignore_errors=True)
            fresh.parent.mkdir()
            try:
                with self.cursor() as cursor:
                    run(cursor, _attach(fresh, "fresh", row_group=COMPACT_ROW_GROUP))
                    try:
                        for statement in create_statements():
                            run(cursor, _in_schema(statement, "fresh"))
                        run(cursor, "DELETE FROM fresh.store_meta")
                        build(cursor, "fresh")
                        run(cursor, "CHECKPOINT fresh")
                    finally:
                        run(cursor, "DETACH fresh")
                self._swap(fresh)
            finally:
                shutil.rmtree(fresh.parent, ignore_errors=True)

    def copy_to(self, destination: Path) -> int:
        """Copy the file as it is now to a path that does not exist; return its size. Nobody writes meanwhile."""
        if destination.exists():
            raise InvalidInput(f"{destination} is there already.", hint="Name a file that does not exist.")
        partial = destination.with_name(destination.name + ".partial")
        try:
            with self.paused_writes() as cursor, partial.open("wb") as target:
                run(cursor, "CHECKPOINT")
                with self.path.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(destination)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(destination.parent)
        return destination.stat().st_size

    def _swap(self, fresh: Path) -> None:
        with self._gate:
            self._is_swapping = True
            try:
                if not self._gate.wait_for(lambda: not self._n_cursors, timeout=SWAP_WAIT_S):
                    raise SpanStoreBusy(
                        "The span store was read all the time and could not be exchanged.",
                        hint="Try again when no export or long search is running.",
                    )
                self._is_lost = True
                self._connection.execute("CHECKPOINT").fetchall()
                self._connection.close()
                try:
                    fresh.replace(self.path)
                    sync_directory(self.path.parent)
                finally:
                    self._connection = self._open()
                    self._is_lost = False
            finally:
                self._is_swapping = False
                self._gate.notify_all()

    def close(self) -> None:
        """Write everything into the main file and let it go."""
        with self._write:
            with self._gate:
                self._is_lost = False  # nobody is to open it anew
            self._connection.close()

    def _open(self) -> Any:
        if not self._read_only and self.path != IN_MEMORY and not self.path.exists():
            _create(self.path, self._config)
        connection = _connect(self.path, read_only=self._read_only, config=self._config)
        if (
            not self._read_only and self.path != IN_MEMORY
        ):  # rows that a killed process put aside while it sorted
            shutil.rmtree(self.path.with_name(self.path.name + ".tmp"), ignore_errors=True)
        try:
            _prepare(connection, self.path, read_only=self._read_only)
        except BaseException as error:
            with suppress(duckdb.Error):  # closing writes too
                connection.close()
            if isinstance(error, duckdb.Error) and _is_of_surroundings(error):
                raise _failure(error) from error
            raise
        if not self._read_only:
            shutil.rmtree(_fresh_folder(self.path), ignore_errors=True)  # what a killed rebuild left
        return connection

    def _reopen(self) -> None:
        """Open the file anew after DuckDB gave up on it, within the gate; what was acknowledged is in it.

        A file that is being read cannot be let go. Those who hold a cursor only are not waited for: theirs ends.
        """
        self._gate.wait_for(lambda: not (self._is_lost and self._n_cursors), timeout=REOPEN_WAIT_S)
        if self._is_lost:
            try:
                self._connection.close()
            except duckdb.ResourceInUseException as error:
                raise SpanStoreFailed(
                    "The span store gave up and is still being read.",
                    hint="It is opened anew when that has ended.",
                ) from error
            except duckdb.Error:  # closing writes too
                pass
            self._connection = self._open()
            self._is_lost = False


def _create(path: Path, config: dict[str, Any]) -> None:
    """Make an empty store that appears under its name whole: one that was half made could never be opened again."""
    fresh = _fresh_folder(path) / path.name
    shutil.rmtree(fresh.parent, ignore_errors=True)
    try:
        fresh.parent.mkdir()
        with _connect(fresh, read_only=False, config=config) as connection:
            for statement in ("BEGIN", *create_statements(), "COMMIT", "CHECKPOINT"):
                run(connection, statement)
        with suppress(FileExistsError):  # somebody else was faster
            os.link(fresh, path)
        sync_directory(path.parent)
    except (OSError, duckdb.Error, SpanStoreUnreadable) as error:
        raise SpanStoreFailed(
            f"{path} could not be made: {error}", hint="See that its disk has room."
        ) from error
    finally:
        shutil.rmtree(fresh.parent, ignore_errors=True)


def _prepare(connection: Any, path: Path, *, read_only: bool) -> None:
    """Make the tables of a new file, check the version of an old one, and lock the session down."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'store_meta'"
    ).fetchall()
    if not found[0][0]:
        if read_only:
            raise SpanStoreUnreadable(f"{path} holds no spans yet.")
        for statement in ("BEGIN", *create_statements(), "COMMIT"):
            run(connection, statement)
    version = connection.execute("SELECT max(schema_version) FROM store_meta").fetchall()[0][0]
    if version != SCHEMA_VERSION and (steps := migration_statements(version)):
        if read_only:
            raise SpanStoreUnreadable(
                f"{path} was written by an older Penstock.",
                hint="Start it once: `penstock up` brings it up to date.",
            )
        for statement in ("BEGIN", *steps, "COMMIT"):
            run(connection, statement)
        version = SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise SpanStoreUnreadable(
            f"{path} has span schema {version}, this program reads {SCHEMA_VERSION}.",
            hint="Run the version of Penstock that wrote it.",
        )
    for statement in (f"SET allowed_directories = ['{_quoted(_fresh_folder(path))}/']", *_SESSION):
        run(connection, statement)


def _has_given_up(error: duckdb.Error) -> bool:
    """Return whether DuckDB does no more with the file until it is opened anew. A failed checkpoint has no type of its own."""
    return isinstance(error, duckdb.FatalException) or _GIVEN_UP in str(error)


def _is_of_surroundings(error: duckdb.Error) -> bool:
    """Return whether disk, memory or a damaged file are to blame, and not what was asked. Damage has no type of its own."""
    return isinstance(error, duckdb.OperationalError) or _DAMAGE in str(error)


def _failure(error: duckdb.Error) -> SpanStoreFailed:
    if _DAMAGE in str(error):
        hint = "Its file is damaged: restore a backup. New spans wait in the spool meanwhile."
    elif isinstance(error, duckdb.OutOfMemoryException):
        hint = "Ask for less: a shorter stretch of time, a narrower search."
    else:
        hint = "See that its disk has room. New spans wait in the spool meanwhile."
    return SpanStoreFailed(f"The span store failed: {error}", hint=hint)


def _fresh_folder(path: Path) -> Path:
    """Return the folder in which the file is written anew."""
    return path.with_name(path.name + ".fresh")


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("'", "''")


def _in_schema(statement: str, schema: str) -> str:
    """Return one of `create_statements` for the tables of another database."""
    for head in ("CREATE TABLE IF NOT EXISTS ", "CREATE TABLE ", "INSERT INTO "):
        if statement.startswith(head):
            return f"{head}{schema}.{statement.removeprefix(head)}"
    return statement


def _check_room(path: Path) -> None:
    needed = path.stat().st_size + MIN_ROOM
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise SpanStoreFailed(
            f"Writing the span store anew takes up to {needed >> 20} MB, and {free >> 20} MB are free.",
            hint="Make room on its disk.",
        )


def run(cursor: Any, statement: str) -> None:
    """Execute and take the result: DuckDB 2 does no other work on a cursor while a result is unfinished."""
    cursor.execute(statement).fetchall()


def _attach(path: Path, name: str, *, read_only: bool = False, row_group: int = ROW_GROUP) -> str:
    """Return the statement that opens a file as a database of that name."""
    place = str(path) if path == IN_MEMORY else _quoted(path)
    return f"ATTACH '{place}' AS {name} ({'READ_ONLY, ' if read_only else ''}ROW_GROUP_SIZE {row_group})"


def _connect(path: Path, *, read_only: bool, config: dict[str, Any]) -> Any:
    """Return a connection whose own statements mean the database at `path`."""
    aside = {} if path == IN_MEMORY else {"temp_directory": f"{path}.tmp"}
    connection = duckdb.connect(config={**config, **aside})
    try:
        run(connection, _attach(path, _NAME, read_only=read_only))
        run(connection, f"USE {_NAME}")
    except duckdb.Error as error:
        connection.close()
        raise _opening_failure(path, error) from error
    return connection


def _opening_failure(path: Path, error: duckdb.Error) -> PenstockError:
    if isinstance(error, duckdb.ResourceInUseException):
        return SpanStoreInUse(f"This process has {path} open already.", hint="Use the store that is open.")
    if not isinstance(error, duckdb.IOException):
        return SpanStoreUnreadable(
            f"{path} is damaged: {error}", hint="Restore a backup, or move the file away to begin a new one."
        )
    if "lock" in str(error).lower():
        return SpanStoreInUse(
            f"Another process has {path} open.", hint="Ask it over its REST API, or stop it first."
        )
    return SpanStoreUnreadable(f"{path} cannot be opened: {error}")
