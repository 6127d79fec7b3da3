"""Searching text window by window finds what a look at everything finds, on every page and in both directions."""

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from penstock.spec.scores import SpanScore
from penstock.spec.search import All, Compare, Condition, Either, Negated, Words
from penstock.store.spans import listing
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.text_sql import rarest_end
from penstock.store.spans.trace_lists import DuckDBTraceLists
from penstock.store.spans.types import Order, SpanQuery, TraceQuery
from tests.fixtures.spans import T0, make_span

WORDS = ("apple", "pear", "plum", "quince")


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBTraceLists]:
    """120 traces of one to four spans; children before their roots, spans of much later, a judgement after days."""
    store = DuckDBSpanStore(tmp_path_factory.mktemp("text") / "s.duckdb", threads=1)
    rng = random.Random(5)
    spans = []
    for trace in range(1, 121):
        for number in range(1, rng.randrange(2, 6)):
            shift = rng.choice((0, 0, 0, -40, 300, 90_000)) * 1_000_000_000 if number > 1 else 0
            spans.append(
                make_span(
                    number,
                    trace=trace,
                    parent_id=None if number == 1 else f"{1:016x}",
                    start_ns=T0 + 10**15 + trace // 3 * 1_000_000_000 + shift,
                    end_ns=None,
                    input=" ".join(rng.choices(WORDS, k=rng.randrange(0, 3))),
                    output="quince jam" if rng.random() < 0.1 else None,
                )
            )
    late = make_span(
        90,
        trace=40,
        name="score pear",
        kind="evaluation",
        start_ns=T0 + 10**16,
        scores=[SpanScore(name="x", value=1, time_ns=1)],
    )
    store.append([*spans, late])
    yield DuckDBTraceLists(store.file)
    store.close()


def all_pages(lists: DuckDBTraceLists, where: Condition, order: Order, **window: int) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = lists.list_traces(TraceQuery(where=where, order=order, limit=7, cursor=cursor, **window))
        found += [row.trace_id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


CONDITIONS: list[Condition] = [
    Words(text="apple"),
    Words(text="zqxj"),
    Words(text="QUINCE jam", where="output"),
    All(parts=(Words(text="apple"), Words(text="pear"))),
    All(parts=(Words(text="apple"), Negated(condition=Words(text="pear")))),
    Either(
        parts=(
            Words(text="plum pear"),
            All(parts=(Words(text="quince"), Compare(field="spans", operator=">", value=2))),
        )
    ),
    Negated(condition=Either(parts=(Words(text="apple"), Words(text="pear", where="input")))),
    Words(text="score pear"),
]


@pytest.mark.parametrize("where", CONDITIONS, ids=str)
@pytest.mark.parametrize("order", ["newest", "oldest", "slowest"])
def test_pages_of_small_windows_are_those_of_one_look_at_everything(
    lists: DuckDBTraceLists, where: Condition, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as whole:
        whole.setattr(listing, "find_words", lambda condition: ())
        expected = all_pages(lists, where, order)
        narrow = {"since_ns": T0 + 10**15 + 9 * 10**9, "until_ns": T0 + 10**15 + 30 * 10**9}
        expected_narrow = all_pages(lists, where, order, **narrow)
        n_expected = lists.count(TraceQuery(where=where)).n
    monkeypatch.setattr(listing, "FIRST_SLICE", 2)
    assert all_pages(lists, where, order) == expected
    assert all_pages(lists, where, order, **narrow) == expected_narrow
    assert lists.count(TraceQuery(where=where)).n == n_expected == len(expected)


def test_spans_are_found_window_by_window_too(
    lists: DuckDBTraceLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lists.list_spans(SpanQuery(where=Words(text="quince"), limit=1000)).rows
    monkeypatch.setattr(listing, "FIRST_SLICE", 1)
    for order in ("newest", "oldest"):
        found, cursor = [], None
        while True:
            page = lists.list_spans(
                SpanQuery(where=Words(text="quince"), order=order, limit=5, cursor=cursor)
            )
            found += page.rows
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(found) == len(expected)
        assert {row.span_id + row.trace_id for row in found} == {
            row.span_id + row.trace_id for row in expected
        }


def test_a_common_word_is_not_looked_for_in_everything(
    lists: DuckDBTraceLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[int, int]] = []
    look = listing.TextHits._look

    def note(self: listing.TextHits, low: int, end: int) -> None:
        looked.append((low, end))
        look(self, low, end)

    monkeypatch.setattr(listing.TextHits, "_look", note)
    monkeypatch.setattr(listing, "FIRST_SLICE", 10)
    assert len(lists.list_traces(TraceQuery(where=Words(text="apple"), limit=3)).rows) == 3
    assert len(looked) == 1
    looked.clear()
    assert lists.list_traces(TraceQuery(where=Words(text="zqxj"))).rows == []
    assert len(looked) > 1
    ordered = sorted(looked)
    assert all(before[1] <= after[0] for before, after in pairwise(ordered)), "each span once"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("order parcel", "parcel"),
        ("refund", "fund"),
        ("zqxj", "zqxj"),
        ("ab", "ab"),
        ("", ""),
        ("täglich", "äglich"),
        ("aaa", "aaa"),
    ],
)
def test_the_engine_is_asked_for_the_rarest_letter_first(text: str, end: str) -> None:
    assert rarest_end(text) == end
