"""A waterfall is drawn for any spans: every span once, every bar within bounds, parents above children."""

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.spans import Span
from penstock.traces.waterfall import layout_waterfall
from tests.fixtures.spans import T0, make_call_trace, make_span


@st.composite
def tangled_spans(draw: st.DrawFn) -> list[Span]:
    """Spans with missing parents, cycles, self-parents, clocks apart, ends before starts, open ends."""
    numbers = draw(st.lists(st.integers(1, 12), max_size=12, unique=True))
    return [
        make_span(
            number,
            parent_id=draw(st.none() | st.integers(1, 14).map(lambda parent: f"{parent:016x}")),
            start_ns=draw(st.integers(0, 2**62)),
            end_ns=draw(st.none() | st.integers(0, 2**62)),
            ttft_ms=draw(st.none() | st.floats(0, 1e9)),
        )
        for number in numbers
    ]


@settings(deadline=None)
@given(tangled_spans())
def test_every_span_has_one_row_within_bounds(spans: list[Span]) -> None:
    drawn = layout_waterfall(spans)
    assert sorted(row.span_id for row in drawn.rows) == sorted(span.span_id for span in spans)
    assert drawn.duration_ms >= 0
    for row in drawn.rows:
        assert 0.0 <= row.offset_pct <= 100.0
        assert row.width_pct >= 0.0
        assert row.offset_pct + row.width_pct <= 100.0 + 1e-9
        assert row.ttft_pct is None or row.offset_pct <= row.ttft_pct <= 100.0
        assert row.depth >= 0


@settings(deadline=None)
@given(tangled_spans())
def test_a_row_lies_directly_below_its_parents_rows_unless_a_cycle_was_cut(spans: list[Span]) -> None:
    rows = layout_waterfall(spans).rows
    path: list[str] = []
    for index, row in enumerate(rows):
        assert row.depth <= len(path)
        path = [*path[: row.depth], row.span_id]
        if row.depth > 0:
            assert row.span.parent_id == path[row.depth - 1]
        below = rows[index + 1 : index + 1 + row.n_below]
        assert all(other.depth > row.depth for other in below)
        rest = rows[index + 1 + row.n_below :]
        assert not rest or rest[0].depth <= row.depth


@settings(deadline=None)
@given(tangled_spans(), st.randoms())
def test_the_drawing_does_not_depend_on_the_order_of_spans(spans: list[Span], source: random.Random) -> None:
    drawn = layout_waterfall(spans)
    source.shuffle(spans)
    assert layout_waterfall(spans) == drawn


@settings(deadline=None)
@given(tangled_spans())
def test_orphans_are_exactly_the_spans_whose_parent_is_missing(spans: list[Span]) -> None:
    known = {span.span_id for span in spans}
    missing = {span.span_id for span in spans if span.parent_id is not None and span.parent_id not in known}
    drawn = layout_waterfall(spans)
    assert {row.span_id for row in drawn.rows if row.is_orphan} == missing
    assert drawn.n_orphans == len(missing)
    assert all(row.depth == 0 for row in drawn.rows if row.is_orphan)


def test_a_call_is_drawn_as_the_tree_it_was() -> None:
    drawn = layout_waterfall(make_call_trace())
    assert [(row.depth, row.n_below) for row in drawn.rows] == [(0, 4), (1, 3), (2, 1), (3, 0), (2, 0)]
    assert drawn.rows[0].offset_pct == 0.0
    assert drawn.rows[-1].offset_pct + drawn.rows[-1].width_pct == 100.0


def test_a_cycle_starts_at_its_earliest_span() -> None:
    one, two, three = (f"{number:016x}" for number in (1, 2, 3))
    cycle = [make_span(1, parent_id=three), make_span(2, parent_id=one), make_span(3, parent_id=two)]
    drawn = layout_waterfall(cycle)
    assert [(row.span_id, row.depth) for row in drawn.rows] == [(one, 0), (two, 1), (three, 2)]
    alone = layout_waterfall([make_span(1, parent_id=one)])
    assert [(row.depth, row.is_orphan) for row in alone.rows] == [(0, False)]


def test_an_open_span_runs_to_the_end_of_the_trace() -> None:
    drawn = layout_waterfall([make_span(1), make_span(2, end_ns=None)])
    assert [row.is_open for row in drawn.rows] == [False, True]
    assert drawn.rows[1].offset_pct + drawn.rows[1].width_pct == 100.0


def test_nothing_and_an_instant_are_drawn_too() -> None:
    assert layout_waterfall([]).rows == []
    instant = layout_waterfall([make_span(1, end_ns=make_span(1).start_ns)])
    assert (instant.rows[0].offset_pct, instant.rows[0].width_pct, instant.duration_ms) == (0.0, 0.0, 0.0)


def test_ten_thousand_spans_in_one_chain_are_laid_out() -> None:
    chain = [
        make_span(
            number,
            parent_id=f"{number - 1:016x}" if number > 1 else None,
            start_ns=T0 + number,
            end_ns=T0 + 20_000,
        )
        for number in range(1, 10_001)
    ]
    random.Random(1).shuffle(chain)
    drawn = layout_waterfall(chain)
    assert [row.depth for row in drawn.rows] == list(range(10_000))
    assert drawn.rows[0].n_below == 9_999


def test_repeated_records_of_a_span_are_drawn_once() -> None:
    span = make_span(1)
    assert len(layout_waterfall([span, msgspec.structs.replace(span, name="again")]).rows) == 1
