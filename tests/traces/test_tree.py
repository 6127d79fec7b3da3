"""A trace's tree: sums, critical path, repeated steps, skewed clocks and judgements, for any spans."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.skeleton import skeleton_of
from penstock.traces.outline import Outline, to_columns
from penstock.traces.tree import (
    CRITICAL,
    CYCLE,
    EARLY,
    LATE,
    OPEN,
    ORPHAN,
    Run,
    TraceTree,
    build_tree,
)
from tests.fixtures.spans import T0, make_call_trace, make_span, spans

MS = 1_000_000


def span(
    number: int, start_ms: float, end_ms: float | None, parent: int | None = None, **fields: Any
) -> Span:
    return make_span(
        number,
        parent_id=None if parent is None else f"{parent:016x}",
        start_ns=T0 + round(start_ms * MS),
        end_ns=None if end_ms is None else T0 + round(end_ms * MS),
        **fields,
    )


def tree_of(*given_spans: Span) -> TraceTree:
    return build_tree(skeleton_of(given_spans))


def test_the_sums_of_a_subtree_count_each_call_once() -> None:
    tree = tree_of(*make_call_trace())
    whole = tree.sums(0)
    assert (whole.n_calls, whole.n_unpriced) == (2, 0)
    assert whole.cost_usd == Decimal(
        "0.000124456789012345"
    )  # the model and the embedding, not the calls around them
    assert (whole.input_tokens, whole.output_tokens) == (125, 12)
    assert tree.sums(2).cost_usd == Decimal("0.000001")
    assert tree.sums(2).output_tokens is None


def test_a_call_without_a_price_is_told_beside_the_sum() -> None:
    tree = tree_of(
        span(1, 0, 90, kind="chain"),
        span(2, 0, 40, 1, kind="llm", usage=Usage(input_uncached=5)),
        span(3, 40, 80, 1, kind="llm", cost_usd=Decimal("0.5"), status="error"),
    )
    assert (tree.sums(0).cost_usd, tree.sums(0).n_unpriced, tree.sums(0).n_errors) == (Decimal("0.5"), 1, 1)
    assert tree.sums(1).cost_usd is None


def test_the_critical_path_goes_back_from_the_end() -> None:
    tree = tree_of(
        span(1, 0, 100),
        span(2, 5, 30, 1),
        span(3, 10, 60, 1),  # waited for: 2 ended long before
        span(4, 60, 95, 1),
        span(5, 70, 90, 4),
    )
    path = {tree.source[row]: round(ns / MS) for row, ns in tree.critical_ns.items()}
    assert path == {0: 15, 2: 50, 3: 15, 4: 20}
    assert sum(path.values()) == 100
    assert [bool(flag & CRITICAL) for flag in tree.flags] == [True, False, True, True, True]


def test_a_child_that_outlives_its_parent_counts_up_to_its_end() -> None:
    tree = tree_of(span(1, 0, 50), span(2, 10, 400, 1))
    assert {row: round(ns / MS) for row, ns in tree.critical_ns.items()} == {0: 10, 1: 40}
    assert [bool(flag & LATE) for flag in tree.flags] == [False, True]


def test_a_child_before_its_parent_is_marked_and_clocks_in_milliseconds_are_not() -> None:
    tree = tree_of(span(1, 50, 100), span(2, 20, 60, 1), span(3, 49.5, 100.4, 1))
    assert [bool(flag & EARLY) for flag in tree.flags] == [False, True, False]
    assert not any(flag & LATE for flag in tree.flags)


def test_alike_siblings_in_a_row_are_runs_and_retries_already_two() -> None:
    rounds = [span(10 + each, each * 10, each * 10 + 9, 1, name="round") for each in range(4)]
    below = [span(20 + each, each * 10, each * 10 + 5, 10 + each, name="round") for each in range(4)]
    tries = [
        span(30 + each, 50 + each * 10, 55 + each * 10, 1, name="chat", kind="attempt") for each in range(2)
    ]
    pair = [span(40 + each, 80 + each * 5, 84 + each * 5, 1, name="pair") for each in range(2)]
    tree = tree_of(span(1, 0, 100), *rounds, *below, *tries, *pair)
    assert tree.runs == [Run(row=1, size=4), Run(row=9, size=2)]


def test_judgements_have_no_row_and_do_not_make_the_trace_longer() -> None:
    day = 86_400_000
    judged = SpanScore(name="helpful", value=1.0, time_ns=T0)
    tree = tree_of(
        span(1, 0, 100),
        span(2, 0, 50, 1),
        span(8, day, day, 2, kind="evaluation", name="score helpful", scores=[judged]),
        span(9, day, day, 77, kind="evaluation", name="score tone", scores=[judged]),
    )
    assert len(tree) == 2
    assert (tree.scores, tree.n_trace_scores, tree.n_orphans) == ([0, 1], 1, 0)
    assert tree.end_ns - tree.start_ns == 100 * MS
    alone = tree_of(span(8, 0, 1, kind="evaluation", scores=[judged]))
    assert (len(alone), alone.scores) == (1, [1])


def test_a_judge_with_calls_of_its_own_keeps_its_row() -> None:
    judged = SpanScore(name="helpful", value=1.0, time_ns=T0)
    tree = tree_of(
        span(1, 0, 100),
        span(2, 200, 300, 1, kind="evaluation", scores=[judged]),
        span(3, 210, 290, 2, kind="llm"),
    )
    assert tree.scores == [0, 1, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(spans(n_traces=1, n_spans=9), min_size=1, max_size=14))
def test_any_spans_give_a_sound_tree(given_spans: list[Span]) -> None:
    skeleton = skeleton_of(given_spans)
    tree = build_tree(skeleton)
    missing = set(range(len(skeleton))) - set(tree.source)
    assert all(skeleton.kinds[at] == "evaluation" and skeleton.n_scores[at] for at in missing)
    assert len(set(tree.source)) == len(tree.source) > 0
    assert sum(tree.scores) + tree.n_trace_scores == sum(skeleton.n_scores)
    for row, (parent, depth) in enumerate(zip(tree.parents, tree.depths, strict=True)):
        assert parent < row
        assert depth == (0 if parent < 0 else tree.depths[parent] + 1)
        assert parent < 0 or row <= parent + tree.n_below[parent]
    n_tops = sum(depth == 0 for depth in tree.depths)
    assert n_tops >= sum(bool(flag & ORPHAN) for flag in tree.flags) + sum(
        bool(flag & CYCLE) for flag in tree.flags
    )
    assert sum(tree.critical_ns.values()) <= max(tree.end_ns - tree.start_ns, 0)
    assert [bool(flag & OPEN) for flag in tree.flags] == [skeleton.end_ns[at] is None for at in tree.source]
    assert all(one.row < other.row for one, other in pairwise(tree.runs))


def test_columns_say_the_same_as_the_tree_in_few_bytes() -> None:
    given_spans = make_call_trace()
    skeleton = skeleton_of(given_spans)
    outline = Outline(
        trace_id=given_spans[0].trace_id,
        summary=None,
        skeleton=skeleton,
        tree=build_tree(skeleton),  # type: ignore[arg-type]
    )
    columns = to_columns(outline, is_live=False)
    assert columns.ids == [f"{number:016x}" for number in range(1, 6)]
    assert [columns.words["names"][place] for place in columns.names][:3] == [
        "chat handbook",
        "handbook",
        "search",
    ]
    assert columns.starts[1] == 1000
    assert columns.lengths[0] == 50_000
    assert columns.cost == [None, None, None, 0.000001, 0.000123456789012]
    assert columns.ttft[0] == 31_500
    assert outline.row_of(f"{3:016x}") == 2
    assert outline.row_of("nothing") is None
