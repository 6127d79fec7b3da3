"""Searching, following, exporting and saved views from the command line."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from penstock.cli.trace_lists import follow_rows
from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.cli.commands import call
from tests.fixtures.spans import T0, make_call_trace, make_span


@pytest.fixture
def root(tmp_path: Path) -> Path:
    home = Home(root=tmp_path)
    home.span_db.parent.mkdir(parents=True, exist_ok=True)
    store = DuckDBSpanStore(home.span_db, threads=1)
    store.append(make_call_trace(1))
    store.append([make_span(1, trace=2, name="nightly", kind="job", status="error", end_ns=T0 + 10**10)])
    store.close()
    return tmp_path


def test_a_search_chooses_traces_and_spans(root: Path) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["trace_id"][-1] for row in call("traces", *arguments, "--json", home=root).json]

    assert ids("list") == ids("list", "()") == ["2", "1"]
    assert ids("list", "any(kind:retrieval) status:ok") == ["1"]
    assert ids("list", "status:error", "--model", "nothing") == []
    assert ids("list", "--order", "slowest") == ["2", "1"]
    assert ids("spans", "kind:embedding") == ["1"]
    assert call("traces", "list", "--count", home=root).out == "2\n"
    assert call("traces", "spans", "trace:1*", "--count", home=root).out == "0\n"
    assert call("traces", "spans", "--count", "--json", home=root).json == {"n": 6, "is_more": False}


def test_columns_can_be_chosen(root: Path) -> None:
    listed = call("traces", "list", "--columns", "name,ms,n_errors", home=root).out.splitlines()
    assert listed == ["name\tms\tn_errors", "nightly\t7,999\t1", "chat handbook\t50\t0"]
    refused = call("traces", "list", "--columns", "nmae", home=root)
    assert (refused.code, "name" in refused.err) == (2, True)


def test_a_wrong_search_is_shown_with_its_place(root: Path) -> None:
    refused = call("traces", "list", "status:ok kidn:llm", home=root)
    assert refused.code == 2
    lines = refused.err.splitlines()
    assert "PS-1961" in lines[0]
    assert lines[1:3] == ["  status:ok kidn:llm", "            ^^^^"]
    assert "Did you mean 'kind'?" in lines[3]


def test_fields_are_listed_with_an_example_each(root: Path) -> None:
    rows = call("traces", "fields", "--json", home=root).json
    assert {"name": "duration", "help": "From start to end.", "example": "duration>2s"}.items() <= next(
        row for row in rows if row["name"] == "duration"
    ).items()


def test_exports_are_written_whole_or_not_at_all(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "spans.jsonl"
    told = call("traces", "export", "status:ok", "--out", str(out), "--json", home=root)
    assert told.json["size_bytes"] == out.stat().st_size
    assert [json.loads(line)["trace_id"][-1] for line in out.read_text().splitlines()] == ["1"] * 5
    parquet = tmp_path / "spans.parquet"
    assert call("traces", "export", "kind:llm", "--spans", "--out", str(parquet), home=root).code == 0
    assert duckdb.sql(f"SELECT count(*) FROM '{parquet}'").fetchall() == [(2,)]
    assert call("traces", "export", "--format", "parquet", home=root).code == 2
    assert call("traces", "export", "--format", "csv", home=root).code == 2
    assert call("traces", "export", "--out", str(tmp_path / "no" / "x.jsonl"), home=root).code == 2
    assert call("traces", "export", "kidn:x", "--out", str(tmp_path / "no.jsonl"), home=root).code == 2
    left = {path.suffix for path in tmp_path.iterdir()} - {".toml", ".duckdb", ""}
    assert left == {".jsonl", ".parquet"}


def test_a_view_is_saved_used_and_forgotten(root: Path) -> None:
    saved = call("view", "save", "bad", "status:error", "--columns", "name", "--order", "oldest", home=root)
    assert saved.code == 0
    assert call("traces", "list", "--view", "bad", home=root).out.splitlines() == ["name", "nightly"]
    assert call("traces", "list", "name:chat*", "--view", "bad", "--json", home=root).json == []
    assert [view["name"] for view in call("view", "list", "--json", home=root).json] == ["bad"]
    assert call("view", "show", "bad", "--json", home=root).json["query"] == "status:error"
    assert call("view", "save", "worse", "kidn:x", home=root).code == 2
    assert call("view", "delete", "bad", home=root).code == 0
    gone = call("traces", "list", "--view", "bad", home=root)
    assert (gone.code, "PS-1962" in gone.err) == (2, True)


def test_the_beginning_of_an_id_finds_a_trace_of_any_age(root: Path) -> None:
    refused = call("traces", "show", "0000", home=root)
    assert "2 traces begin with" in refused.err
    assert call("traces", "show", f"{1:032x}"[:31] + "1", "--json", home=root).json["trace_id"] == f"{1:032x}"


def test_following_prints_each_row_once_when_it_is_finished() -> None:
    def row(number: int, *, age_s: int = 0, ms: float | None = 1.0) -> dict[str, Any]:
        return {"trace_id": str(number), "start_ns": T0 - age_s * 10**9, "duration_ms": ms}

    pages = [
        [row(2), row(1)],
        [row(3, ms=None), row(2), row(1)],
        [row(4, age_s=100, ms=None), row(3, ms=2.0), row(2)],
        [row(4, age_s=101, ms=None), row(3, ms=2.0)],
    ]
    asked: list[dict[str, object]] = []

    class Lists:
        def list_rows(self, subject: str, filters: Any) -> dict[str, Any]:
            asked.append(dict(filters))
            return {"rows": pages[len(asked) - 1], "next_cursor": None}

    slept: list[float] = []
    found = follow_rows(
        Lists(),  # type: ignore[arg-type]
        "trace",
        {"q": "x", "order": "slowest", "limit": 2},
        sleep=slept.append,
        clock=lambda: T0,
        rounds=iter(range(4)),
    )
    assert [[each["trace_id"] for each in rows] for rows in found] == [["1", "2"], ["3", "4"]]
    assert [each["order"] for each in asked] == ["newest"] * 4
    assert "since_ns" not in asked[0]
    assert len(slept) == 3
