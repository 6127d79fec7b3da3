"""What the last searches of text found is taken over, and never hides or invents anything after spans were written."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.spec.measures import MetricQuery
from penstock.spec.search import All, Condition, Either, Negated, Words
from penstock.spec.spans import Span
from penstock.store.spans import text_known
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.measures import DuckDBMeasures
from penstock.store.spans.text_hits import TextHits
from penstock.store.spans.text_known import Known, KnownTexts
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import TraceQuery
from penstock.store.spans.upkeep import DuckDBUpkeep
from penstock.store.spans.upkeep_types import RetentionRule, Subject
from tests.fixtures.spans import T0, make_span

PEAR, PLUM = Words(text="pear"), Words(text="plum")
WINDOW = {"since_ns": T0, "until_ns": T0 + 10**15}
S = 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    store = DuckDBSpanStore(tmp_path / "s.duckdb", threads=1)
    store.append([said("pear" if n % 3 == 0 else "plum", trace=n) for n in range(1, 31)])
    yield store
    store.close()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every stretch of time whose text was read."""
    stretches: list[tuple[int, int]] = []
    look = TextHits._look

    def note(self: TextHits, low: int, end: int) -> None:
        stretches.append((low, end))
        look(self, low, end)

    monkeypatch.setattr(TextHits, "_look", note)
    return stretches


def said(text: str, *, trace: int, number: int = 1, at: int | None = None) -> Span:
    start = T0 + (trace if at is None else at) * S
    parent = None if number == 1 else f"{1:016x}"
    return make_span(number, trace=trace, parent_id=parent, start_ns=start, end_ns=start + S, input=text)


def find(store: DuckDBSpanStore, where: Condition = PEAR) -> list[str]:
    page = DuckDBTraceLists(store.file).list_traces(TraceQuery(where=where, limit=500))
    return [row.trace_id for row in page.rows]


def count_in_chart(store: DuckDBSpanStore, where: Condition) -> int:
    query = MetricQuery(measures=("calls",), subject="trace", where=where, bucket_ns=3600 * S, **WINDOW)
    return DuckDBMeasures(store.file).measure(query).n_matched


def test_list_count_and_chart_of_one_search_read_the_text_once(
    store: DuckDBSpanStore, looked: list[tuple[int, int]]
) -> None:
    where = All(parts=(PEAR, Negated(condition=PLUM)))
    assert len(find(store, where)) == 10
    n_looked = len(looked)
    assert n_looked
    assert DuckDBTraceLists(store.file).count(TraceQuery(where=where)).n == 10
    assert count_in_chart(store, where) == 10
    assert len(looked) == n_looked


def test_after_an_append_only_what_is_newer_is_read_again(
    store: DuckDBSpanStore, looked: list[tuple[int, int]]
) -> None:
    find(store)
    looked.clear()
    store.append([said("pear", trace=40)])
    assert len(find(store)) == 11
    assert min(low for low, _ in looked) >= T0 + 30 * S


def test_a_span_that_comes_late_into_the_past_is_found(store: DuckDBSpanStore) -> None:
    assert len(find(store)) == 10
    store.append([said("pear", trace=4, number=2, at=5)])
    store.append([said("pear", trace=50, at=2)])
    assert len(find(store)) == 12


def test_words_that_were_rewritten_expired_or_erased_are_found_no_more(store: DuckDBSpanStore) -> None:
    assert len(find(store)) == 10
    store.rewrite([said("quince", trace=3)])
    assert len(find(store)) == 9
    upkeep = DuckDBUpkeep(store.file)
    upkeep.expire([RetentionRule(spans_before_ns=T0 + 7 * S)])
    assert len(find(store)) == 8
    store.append([make_span(1, trace=60, user_id="ann", start_ns=T0 + 60 * S, input="pear")])
    assert len(find(store)) == 9
    upkeep.erase(Subject(kind="user", id="ann"))
    assert len(find(store)) == 8


def test_whatever_is_written_between_searches_they_find_what_a_fresh_look_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBSpanStore(tmp_path / "s.duckdb", threads=1)
    rng = random.Random(8)
    conditions = (PEAR, PLUM, All(parts=(PEAR, PLUM)), Either(parts=(PEAR, Negated(condition=PLUM))))
    for _ in range(30):
        spans = [
            said(
                rng.choice(("pear", "plum", "pear plum", "")),
                trace=rng.randrange(1, 25),
                number=rng.randrange(1, 4),
                at=rng.randrange(1, 60),
            )
            for _ in range(rng.randrange(1, 4))
        ]
        write = rng.choice((store.append, store.append, store.rewrite))
        write(list({(span.trace_id, span.span_id): span for span in spans}.values()))
        where = rng.choice(conditions)
        found, counted = find(store, where), count_in_chart(store, where)
        with monkeypatch.context() as patch:
            patch.setattr(KnownTexts, "find", lambda *_: None)
            assert found == find(store, where)
            assert counted == count_in_chart(store, where)
    store.close()


def hits(*starts: int) -> dict[str, Any]:
    return {name: np.array(starts, dtype=np.int64) for name in ("place", "high", "low", "start_ns")}


def test_what_was_found_before_a_write_is_kept_for_the_time_before_it_alone() -> None:
    texts = KnownTexts()
    mark = texts.mark()
    texts.note_change(15)  # while the search ran
    texts.keep((PEAR,), Known(mark, 5, 30, hits(10, 20)))
    found = texts.find((PEAR,), texts.mark())
    assert found is not None
    assert (found.mark, found.low, found.end, list(found.hits["high"])) == (1, 5, 15, [10])
    assert texts.find((PLUM,), texts.mark()) is None
    texts.note_change(5)
    assert texts.find((PEAR,), texts.mark()) is None


def test_a_reader_is_not_given_what_a_later_one_found() -> None:
    texts = KnownTexts()
    early = texts.mark()
    texts.note_change(100)
    texts.keep((PEAR,), Known(texts.mark(), 5, 200, hits()))
    assert texts.find((PEAR,), early) is None


def test_little_is_remembered_and_nothing_after_a_change_of_unknown_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_known, "MAX_HITS", 1)
    texts = KnownTexts()
    texts.keep((PEAR,), Known(0, 5, 200, hits(10, 10)))
    assert texts.find((PEAR,), 0) is None
    for number in range(6):
        texts.keep((Words(text=str(number)),), Known(0, 5, 200, hits()))
    assert [texts.find((Words(text=str(n)),), 0) is None for n in range(6)] == [True, True, *[False] * 4]
    texts.note_change(0)
    assert texts.find((Words(text="5"),), 0) is None
    texts.keep((PEAR,), Known(texts.mark(), 5, 200, hits()))
    for _ in range(text_known.MAX_CHANGES + 1):
        texts.note_change(500)
    assert texts.find((PEAR,), texts.mark()) is None, "more changes than are noted"
