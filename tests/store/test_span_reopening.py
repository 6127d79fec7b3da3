"""A span store that DuckDB gave up on is opened anew, as often as that takes, and holds what it acknowledged."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest

from penstock.store.spans import duckdb_file
from penstock.store.spans.append import Append
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreFailed
from penstock.store.spans.types import TraceQuery
from tests.fixtures.spans import make_call_trace, make_span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "s.duckdb", threads=1)
    yield opened
    opened.close()


@contextmanager
def file_bound(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: each write beyond it fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def give_up(store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an append end in an error after which DuckDB does nothing more."""

    def fail(*arguments: object) -> None:
        raise duckdb.FatalException("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Append, "run", fail)
        with pytest.raises(SpanStoreFailed):
            store.append(make_call_trace(2))


def count_spans(store: DuckDBSpanStore) -> int:
    return sum(row.n_spans for row in store.list_traces(TraceQuery(limit=1000)).rows)


def test_a_store_whose_checkpoint_found_no_room_comes_back_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(duckdb_file._CONFIG, "checkpoint_threshold", "1MB")
    path = tmp_path / "s.duckdb"
    store = DuckDBSpanStore(path, threads=1)
    text = os.urandom(3000)
    batches = [
        [make_span(1000 * batch + number, input=f"{number} {text.hex()}") for number in range(1, 400)]
        for batch in range(1, 5)
    ]
    store.append(batches[0])
    acknowledged = 399
    with file_bound(path.stat().st_size + 4096):
        for batch in batches[1:]:
            with suppress(SpanStoreFailed):
                acknowledged += store.append(batch)
        assert acknowledged < 4 * 399
    for batch in batches[1:]:
        store.append(batch)  # the spool hands them in again
    assert count_spans(store) == 4 * 399
    store.close()
    store = DuckDBSpanStore(path, threads=1)
    assert count_spans(store) == 4 * 399
    store.close()


def test_a_store_that_could_not_be_opened_anew_is_opened_by_who_comes_later(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(make_call_trace(1))

    def refuse(*arguments: object, **options: object) -> None:
        raise SpanStoreFailed("no file handle is left")

    with monkeypatch.context() as patched:
        patched.setattr(duckdb_file, "_connect", refuse)
        give_up(store, patched)
        for _ in range(2):
            with pytest.raises(SpanStoreFailed):
                count_spans(store)
            with pytest.raises(SpanStoreFailed):
                store.append(make_call_trace(2))
    assert store.append(make_call_trace(2)) == 5
    assert count_spans(store) == 10


def test_a_store_that_is_read_when_it_gives_up_is_opened_anew_once_that_has_ended(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(make_call_trace(1))
    is_reading, may_end = threading.Event(), threading.Event()

    def read() -> None:
        with store.file.cursor() as cursor:
            cursor.execute("SELECT * FROM spans").fetchone()
            is_reading.set()
            may_end.wait(30)

    reader = threading.Thread(target=read)
    reader.start()
    assert is_reading.wait(30)
    give_up(store, monkeypatch)
    threading.Timer(0.2, may_end.set).start()
    assert store.append(make_call_trace(2)) == 5
    reader.join(30)
    assert count_spans(store) == 10


def test_a_reader_that_holds_a_cursor_for_long_does_not_keep_the_store_shut(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_file, "REOPEN_WAIT_S", 0.01)
    store.append(make_call_trace(1))
    with store.file.cursor() as held:
        held.execute("SELECT * FROM spans").fetchone()
        give_up(store, monkeypatch)
        assert store.append(make_call_trace(2)) == 5
        assert count_spans(store) == 10
    assert count_spans(store) == 10


def test_a_store_that_was_closed_stays_closed(store: DuckDBSpanStore) -> None:
    store.append(make_call_trace(1))
    store.close()
    with pytest.raises(duckdb.Error):
        count_spans(store)


def test_a_store_that_was_given_up_and_closed_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBSpanStore(tmp_path / "s.duckdb", threads=1)
    give_up(store, monkeypatch)
    store.close()
    with pytest.raises(duckdb.ConnectionException):
        count_spans(store)
    DuckDBSpanStore(tmp_path / "s.duckdb", threads=1).close()
