"""Which calls and judgements of the record datasets are made from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.main.dataset_traffic import RecordedTraffic
from penstock.spec.scores import SpanScore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import ScoreQuery
from penstock.traces.lists import TraceListService
from tests.fixtures.spans import T0, make_span

ASKED = {"messages": [{"role": "user", "content": "q"}]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb")
    yield opened
    opened.close()


def find(store: DuckDBSpanStore, search: str = "", subject: str = "call") -> list[Any]:
    traffic = RecordedTraffic(store, TraceListService(DuckDBTraceLists(store.file)))
    found = traffic.find_calls(search, subject=subject, since_ns=None, until_ns=None, project=None, limit=100)
    return sorted(row.group or "" for row in found)


def test_what_penstock_asked_itself_is_no_traffic(store: DuckDBSpanStore) -> None:
    sessions = [None, "s1", "evaluation", "eval:ev_1", "propose:job_1", "judges"]
    for number, session in enumerate(sessions, 1):
        store.append([make_span(1, trace=number, kind="llm", session_id=session, input=ASKED)])
    assert find(store) == ["", "evaluation", "s1"]
    assert find(store, subject="trace") == ["", "evaluation", "s1"]
    assert find(store, "session:judges") == ["judges"], "who names a session gets it"


def test_judgements_of_people_are_found_behind_any_number_of_others(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.store.spans.skeleton_queries.MAX_SCORES", 5)
    store.append([make_span(1, kind="llm", input=ASKED)])
    for number in range(20):
        score = SpanScore(
            name="helpful",
            value=1.0,
            source="human" if number == 0 else "code",
            scorer=f"scorer {number}",
            time_ns=T0 + number,
            trace_id=f"{1:032x}",
            span_id=f"{1:016x}",
        )
        judge = make_span(100 + number, kind="evaluation", parent_id=f"{1:016x}", scores=[score])
        store.append([judge])
    traffic = RecordedTraffic(store, TraceListService(DuckDBTraceLists(store.file)))
    (judged,) = traffic.list_judgements(name=None, since_ns=None, project=None, limit=100)
    assert (judged.value, judged.time_ns) == (1.0, T0)
    assert not list(traffic.list_judgements(name=None, since_ns=T0 + 1, project=None, limit=100))
    assert len(store.list_scores(ScoreQuery())) == 5
