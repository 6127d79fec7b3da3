"""The DuckDB file: owned by one process, durable through kill -9, honest when damaged."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from penstock.spec.spans import Span
from penstock.store.spans.append import Append
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.duckdb_file import ROW_GROUP
from penstock.store.spans.errors import SpanStoreFailed, SpanStoreInUse, SpanStoreUnreadable
from penstock.store.spans.schema import SCHEMA_VERSION
from penstock.store.spans.types import TraceQuery
from penstock.traces.collector import ROUND_SPANS
from tests.fixtures.spans import make_call_trace, make_span

_APPENDER = """
import os, signal, sys
from pathlib import Path
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.fixtures.spans import make_call_trace
store = DuckDBSpanStore(Path(sys.argv[1]))
for number in range(1, 4):
    store.append(make_call_trace(number))
print("appended", flush=True)
sys.stdin.readline()
"""


_ROUNDS = """
import sys
from pathlib import Path
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.duckdb_file import ROW_GROUP
from tests.fixtures.spans import make_span
store = DuckDBSpanStore(Path(sys.argv[1]))
for first in range(1, 10**6, ROW_GROUP):
    spans = [make_span(number, input=f"{number} " * 200) for number in range(first, first + ROW_GROUP)]
    print("begins", flush=True)
    store.append(spans)
"""


def start_owner(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "appended\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_has_it_and_after_kill_9_everything_is_there(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    owner = start_owner(path)
    try:
        with pytest.raises(SpanStoreInUse) as caught:
            DuckDBSpanStore(path)
        assert caught.value.hint
    finally:
        end(owner)
    store = DuckDBSpanStore(path)
    assert [row.n_spans for row in store.list_traces(TraceQuery()).rows] == [5, 5, 5]
    store.close()


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    store = DuckDBSpanStore(path)
    for read_only in (False, True):
        with pytest.raises(SpanStoreInUse) as caught:
            DuckDBSpanStore(path, read_only=read_only)
        assert "This process" in str(caught.value)
    store.close()
    DuckDBSpanStore(path).close()


def test_a_full_round_goes_into_the_file_compressed_and_not_by_way_of_the_log(tmp_path: Path) -> None:
    assert ROUND_SPANS % ROW_GROUP == 0
    path = tmp_path / "s.duckdb"
    store = DuckDBSpanStore(path)
    text = " ".join(f"sentence {number % 50} of a long story" for number in range(50))

    def spans(first: int, n: int) -> list[Span]:
        return [make_span(number, input=f"{number} {text}") for number in range(first, first + n)]

    def n_log_bytes() -> int:
        return path.with_name("s.duckdb.wal").stat().st_size

    store.append(spans(1, ROUND_SPANS))
    after_full = n_log_bytes()
    store.append(spans(10**6, ROUND_SPANS - 1))
    assert (n_log_bytes() - after_full) > 3 * after_full
    with store.file.cursor() as cursor:
        groups = cursor.execute(
            "SELECT DISTINCT row_group_id, count FROM pragma_storage_info('payloads') WHERE column_name = 'start_ns'"
            " AND segment_type = 'BIGINT' ORDER BY 1"
        ).fetchall()
    assert groups[0] == (0, ROW_GROUP)
    store.close()
    assert not path.with_name("s.duckdb.wal").exists()


def test_kill_9_while_full_rounds_are_written_leaves_whole_rounds(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    for n_begun in (1, 3):
        process = subprocess.Popen(
            [sys.executable, "-c", _ROUNDS, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert process.stdout is not None
        for _ in range(n_begun):
            assert process.stdout.readline() == "begins\n"
        end(process)
        store = DuckDBSpanStore(path)
        with store.file.cursor() as cursor:
            counts = [
                cursor.execute(f"SELECT count(*), count(DISTINCT span_id) FROM {table}").fetchall()[0]
                for table in ("spans", "payloads")
            ]
            told = cursor.execute("SELECT sum(n_spans) FROM traces").fetchall()[0][0] or 0
        store.close()
        assert counts[0] == counts[1]
        n_spans, n_distinct = counts[0]
        assert n_spans == n_distinct == told
        assert n_spans % ROW_GROUP == 0
        assert n_spans >= (n_begun - 1) * ROW_GROUP


def test_a_closed_store_can_be_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    with pytest.raises(SpanStoreUnreadable):
        DuckDBSpanStore(path, read_only=True)
    store = DuckDBSpanStore(path)
    store.append(make_call_trace())
    store.close()
    before = path.read_bytes()
    reader = DuckDBSpanStore(path, read_only=True)
    assert len(reader.list_traces(TraceQuery()).rows) == 1
    reader.close()
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(SpanStoreUnreadable) as caught:
        DuckDBSpanStore(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"not a database" * 1000


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    DuckDBSpanStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE store_meta SET schema_version = 99").fetchall()
    with pytest.raises(SpanStoreUnreadable, match="99"):
        DuckDBSpanStore(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE store_meta SET schema_version = ?", [SCHEMA_VERSION]).fetchall()
    DuckDBSpanStore(path).close()


def test_payloads_are_compressed(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    store = DuckDBSpanStore(path)
    text = " ".join(f"sentence {number % 50} of a long story" for number in range(200))
    store.append([make_span(number, input=f"{number} {text}", output=text) for number in range(1, 2000)])
    store.close()
    assert path.stat().st_size < 1999 * 2 * len(text) / 5


def test_the_store_can_reach_no_other_file(tmp_path: Path) -> None:
    store = DuckDBSpanStore(tmp_path / "s.duckdb")
    with pytest.raises(duckdb.Error):
        store.file._connection.execute("SELECT * FROM read_text('/etc/passwd')")
    with pytest.raises(duckdb.Error):
        store.file._connection.execute("SET enable_external_access = true")
    store.close()


def test_after_a_fatal_error_the_store_reopens_and_keeps_what_it_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBSpanStore(tmp_path / "s.duckdb")
    store.append(make_call_trace(1))

    def fail(*arguments: object) -> None:
        raise duckdb.FatalException("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Append, "run", fail)
        with pytest.raises(SpanStoreFailed):
            store.append(make_call_trace(2))
    assert store.append(make_call_trace(2)) == 5
    assert [row.n_spans for row in store.list_traces(TraceQuery()).rows] == [5, 5]
    store.close()


def test_a_store_left_by_kill_9_can_be_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    end(start_owner(path))
    reader = DuckDBSpanStore(path, read_only=True)
    assert [row.n_spans for row in reader.list_traces(TraceQuery()).rows] == [5, 5, 5]
    reader.close()
