"""Records as documents: rows of databases, lines of JSON; read only, streamed, and incomplete when a part fails."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, text

from penstock.base.errors import InvalidInput
from penstock.knowledge.credentials import Credentials
from penstock.knowledge.sources.errors import InvalidSource, MissingReader, SourceUnavailable
from penstock.knowledge.sources.kinds.database import DatabaseSettings, DatabaseSource
from penstock.knowledge.sources.kinds.jsonl import JsonlSettings, JsonlSource
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.sources.settings import read_settings
from penstock.knowledge.sources.types import LeftOut, SourceItem
from penstock.knowledge.types import InlineContext

QUERY = "SELECT id, title, body AS text, changed, team, may_read FROM articles ORDER BY id"


@pytest.fixture
def address(control_engine: Engine) -> str:
    """A database with articles, on SQLite and on PostgreSQL."""
    with control_engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE articles (id INTEGER, title TEXT, body TEXT, changed TIMESTAMP, team TEXT, may_read TEXT)"
            )
        )
        for number in range(1, 4):
            connection.execute(
                text("INSERT INTO articles VALUES (:n, :title, :body, :changed, 'docs', :readers)"),
                {
                    "n": number,
                    "title": f"Article {number}",
                    "body": f"Text {number}: 100% sure.",
                    "changed": datetime(2026, 3, number, tzinfo=UTC).replace(tzinfo=None),
                    "readers": "group:a, group:b" if number == 1 else None,
                },
            )
    return control_engine.url.render_as_string(hide_password=False)


def scan_database(
    address: str, **settings: Any
) -> tuple[DatabaseSource, dict[str, SourceItem], dict[str, LeftOut]]:
    given = {"location": address, "query": QUERY, **settings}
    source = DatabaseSource(
        "src_db",
        read_settings("database", given, DatabaseSettings),
        Credentials(lambda name, _: f"{name}@/x", address),
    )
    return source, *_sort(source.scan({}))


def _sort(found: Iterator[SourceItem | LeftOut]) -> tuple[dict[str, SourceItem], dict[str, LeftOut]]:
    items: dict[str, SourceItem] = {}
    left_out: dict[str, LeftOut] = {}
    for each in found:
        (items if isinstance(each, SourceItem) else left_out)[each.path] = each  # type: ignore[index]
    return items, left_out


def test_rows_become_documents_with_mapped_columns(address: str) -> None:
    source, items, _ = scan_database(
        address, title="title", modified="changed", keep=["team"], readers_from="may_read", format="md"
    )
    assert sorted(items) == ["1.md", "2.md", "3.md"]
    first = items["1.md"]
    assert first.read() == b"Text 1: 100% sure."
    assert first.properties.values == {"title": "Article 1", "team": "docs"}
    assert first.properties.readers == ["group:a", "group:b"]
    assert items["2.md"].properties.readers == []  # says nobody: found by nobody
    assert first.properties.modified_ns == int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 10**9
    assert source.complete


def test_a_version_column_saves_reading_and_deleted_rows_go(
    address: str, sources: SourceService, control_engine: Engine
) -> None:
    sources.add("guide", "wiki", "database", {"location": address, "query": QUERY, "version": "changed"})
    assert sources.scan_all("guide", InlineContext()).outcomes[0].read == 3
    with control_engine.begin() as connection:
        connection.execute(text("DELETE FROM articles WHERE id = 2"))
        connection.execute(
            text("UPDATE articles SET body = 'New.', changed = '2026-04-01 00:00:00' WHERE id = 3")
        )
    after = sources.scan_all("guide", InlineContext())
    assert (after.outcomes[0].read, after.outcomes[0].changed, after.gone) == (1, 1, ["2.txt"])


@pytest.mark.parametrize(
    "query",
    [
        "WITH gone AS (DELETE FROM articles RETURNING id, body) SELECT id, body AS text FROM gone",
        "SELECT 1 AS id, 'x' AS text; DELETE FROM articles",
    ],
)
def test_a_query_cannot_write(address: str, control_engine: Engine, query: str) -> None:
    with pytest.raises(SourceUnavailable):
        scan_database(address, query=query)
    with control_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM articles")).scalar() == 3


def test_a_query_with_colons_and_percent_signs_is_taken_as_it_is(address: str) -> None:
    _, items, _ = scan_database(
        address, query="SELECT id, ':name 50% ' || body AS text FROM articles WHERE body LIKE 'Text 1%'"
    )
    assert items["1.txt"].read().startswith(b":name 50% Text 1")


def test_a_query_that_fails_in_the_middle_leaves_the_scan_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'wiki.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE articles (id INTEGER, body TEXT)"))
        for number in range(3):
            connection.execute(text("INSERT INTO articles VALUES (:n, :body)"), {"n": number, "body": "[1]"})
        connection.execute(text("UPDATE articles SET body = 'broken' WHERE id = 2"))
    engine.dispose()
    monkeypatch.setattr("penstock.knowledge.sources.kinds.database.PAGE_ROWS", 1)
    source, items, _ = scan_database(
        f"sqlite:///{tmp_path / 'wiki.db'}", query="SELECT id, json_extract(body, '$') AS text FROM articles"
    )
    assert sorted(items) == ["0.txt"]  # SQLite looks one row ahead
    assert not source.complete
    assert "failed after 1 rows" in source.problems[0]


def test_what_cannot_work_is_told_before_or_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="no database file"):
        scan_database(f"sqlite:///{tmp_path / 'nothing.db'}")
    assert not (tmp_path / "nothing.db").exists()
    with pytest.raises(InvalidSource, match="password stands in the address"):
        scan_database("postgresql://reader:hunter2@127.0.0.1:1/wiki")
    with pytest.raises(InvalidSource, match="must be a query"):
        scan_database("sqlite:///x.db", query="DROP TABLE articles")
    with pytest.raises(MissingReader) as caught:
        scan_database("mssql://db/wiki", read_only_account=True)
    assert caught.value.hint == "Install it: pip install pyodbc"
    with pytest.raises(SourceUnavailable) as refused:
        scan_database("postgresql://reader:{{secret:wiki}}@127.0.0.1:1/wiki")
    assert "wiki@/x" not in str(refused.value)
    assert "wiki%40%2Fx" not in str(refused.value)


def test_a_column_that_the_query_lacks_is_named(address: str) -> None:
    with pytest.raises(InvalidSource, match="no column 'subject'") as caught:
        scan_database(address, title="subject")
    assert "It has: id, title, text" in (caught.value.hint or "")


def scan_lines(place: Path, **settings: Any) -> tuple[JsonlSource, dict[str, SourceItem], dict[str, LeftOut]]:
    source = JsonlSource(
        "src_lines", read_settings("jsonl", {"location": str(place), **settings}, JsonlSettings)
    )
    return source, *_sort(source.scan({}))


def write_lines(place: Path, *records: Any) -> Path:
    text = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records)
    place.write_bytes(gzip.compress(text.encode()) if place.suffix == ".gz" else text.encode())
    return place


def test_lines_become_documents_and_odd_ones_have_a_line(tmp_path: Path) -> None:
    place = write_lines(
        tmp_path / "tickets.jsonl.gz",
        {"id": "a/1", "text": "First.", "subject": "S", "team": "x", "rank": 3},
        {"id": 2, "text": "Second."},
        {"id": "three", "text": ""},
        {"text": "Nameless."},
        "",
    )
    source, items, left_out = scan_lines(place, title="subject", keep=["team", "rank"])
    assert sorted(items) == ["2.txt", "a/1.txt"]
    assert items["a/1.txt"].properties.values == {"title": "S", "team": "x", "rank": 3}
    assert {path: each.reason for path, each in left_out.items()} == {
        "three.txt": "no 'text'",
        "tickets.jsonl.gz:4": "no usable 'id'",
    }
    assert source.complete


def test_a_line_that_is_no_record_keeps_everything_until_it_is_mended(
    tmp_path: Path, sources: SourceService
) -> None:
    place = write_lines(tmp_path / "t.jsonl", *({"id": n, "text": f"Text {n}."} for n in range(4)))
    sources.add("guide", "t", "jsonl", {"location": str(place)})
    sources.scan_all("guide", InlineContext())
    write_lines(place, {"id": 0, "text": "Text 0."}, '{"id": 1, "text": "cut', "[" * 100_000)
    after = sources.scan_all("guide", InlineContext())
    assert [item.path for item in after.items] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert not after.outcomes[0].complete
    assert {each.path for each in after.left_out} == {"t.jsonl:2", "t.jsonl:3"}


def test_a_record_that_comes_twice_counts_once_and_is_told(tmp_path: Path, sources: SourceService) -> None:
    place = write_lines(tmp_path / "t.jsonl", {"id": 1, "text": "One."}, {"id": 1, "text": "Other."})
    sources.add("guide", "t", "jsonl", {"location": str(place)})
    outcome = sources.scan_all("guide", InlineContext()).outcomes[0]
    assert (outcome.seen, outcome.problems) == (1, ["1.txt comes twice; the first one counts"])


def test_a_cut_archive_and_a_missing_file(tmp_path: Path) -> None:
    place = tmp_path / "t.jsonl.gz"
    place.write_bytes(gzip.compress(b'{"id": 1, "text": "One."}\n' * 50_000)[:-20])
    source, _, _ = scan_lines(place)
    assert "cannot be read to its end" in source.problems[-1]
    with pytest.raises(InvalidInput, match="no file"):
        scan_lines(tmp_path / "nothing.jsonl")


def test_single_files_are_taken_by_name_and_pattern(
    tmp_path: Path, sources: SourceService, write: Callable[..., Path]
) -> None:
    write("a/one.md", "One.")
    write("a/deep/two.md", "Two.")
    write("b/one.md", "Another one.")
    write("b/three.txt", "Three.")
    write("b/three.txt.meta.json", '{"readers": ["group:x"], "modified": "2026-03-01"}')
    docs = tmp_path / "docs"
    sources.add(
        "guide",
        "some",
        "files",
        {
            "location": str(docs / "a" / "**" / "*.md"),
            "also": [str(docs / "b" / "three.txt"), str(docs / "b" / "one.md"), str(docs / "missing.md")],
        },
    )
    found = sources.scan_all("guide", InlineContext())
    assert [item.path for item in found.items] == ["deep/two.md", "one.md", "three.txt"]
    assert found.items[2].properties.readers == ["group:x"]
    reasons = {each.path: each.reason for each in found.left_out}
    assert "there is no file" in reasons["missing.md"]
    assert any("has the name of another file" in reason for reason in reasons.values())
