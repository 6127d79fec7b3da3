"""Metadata that was sent in can be searched, grouped by and completed by its name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.spec.measures import MetricQuery
from penstock.spec.search import Compare
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.measures import DuckDBMeasures
from penstock.store.spans.search_sql import compile_condition
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.telemetry.metadata import add_metadata
from tests.fixtures.spans import make_span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb")
    for number, plan in enumerate(["pro", "pro", "free"], start=1):
        attributes: dict[str, Any] = {"metadata": json.dumps({"plan": plan, "turn": number})}
        add_metadata(attributes)
        opened.append([make_span(trace=number, kind="llm", attributes=attributes)])
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("part", "n"),
    [
        (Compare(field="metadata.plan", operator="=", value="pro"), 2),
        (Compare(field="metadata.turn", operator=">", value=2), 1),
        (Compare(field="metadata.plan", operator="exists"), 3),
        (Compare(field="metadata.colour", operator="exists"), 0),
    ],
)
@pytest.mark.parametrize(("subject", "table"), [("trace", "traces"), ("span", "spans")])
def test_metadata_is_found_by_name(
    store: DuckDBSpanStore, part: Compare, n: int, subject: Any, table: str
) -> None:
    sql, values = compile_condition(part, subject)
    with store.file.cursor() as cursor:
        assert cursor.execute(f"SELECT count(*) FROM {table} WHERE {sql}", values).fetchall() == [(n,)]


@pytest.mark.parametrize("subject", ["trace", "call", "span"])
def test_metadata_is_grouped_by(store: DuckDBSpanStore, subject: Any) -> None:
    query = MetricQuery(
        measures=("calls",), since_ns=0, until_ns=2**62, subject=subject, by=("metadata.plan",)
    )
    rows = DuckDBMeasures(store.file).measure(query).rows
    assert {row.group["metadata.plan"]: row.n for row in rows} == {"pro": 2, "free": 1}


def test_names_and_values_of_metadata_are_completed(store: DuckDBSpanStore) -> None:
    lists = DuckDBTraceLists(store.file)
    assert lists.complete("metadata.", "", limit=5) == [("plan", 3), ("turn", 3)]
    assert lists.complete("metadata.plan", "", limit=5) == [("pro", 2), ("free", 1)]
