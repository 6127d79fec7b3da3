"""The row of a trace says the same whatever order its spans came in, and counts money once."""

from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.spans import Span
from penstock.store.spans.rows import facts_of, prepare_span
from penstock.store.spans.summaries import TraceSummary, is_model_call, leaf_model_calls, summarise_trace
from tests.fixtures.spans import make_call_trace, make_span, spans


def summary_of(trace: list[Span]) -> TraceSummary:
    return summarise_trace([facts_of(prepare_span(span)) for span in trace])


def test_an_app_call_is_described_by_its_root_and_paid_for_at_its_leaves() -> None:
    summary = summary_of(make_call_trace())
    assert (summary.name, summary.route, summary.kind) == ("chat handbook", "handbook", "llm")
    assert summary.cost_usd == Decimal("0.000124456789012345")
    assert (summary.input_tokens, summary.output_tokens) == (125, 12)
    assert (summary.n_spans, summary.n_model_calls, summary.n_unpriced) == (5, 2, 0)
    assert summary.models == "\nhandbook\nminilm\npocket\n"
    assert summary.preview == "How much should I walk?"


def test_unknown_prices_and_tokens_stay_unknown() -> None:
    summary = summary_of([make_span(1, kind="llm"), make_span(2, kind="llm", cost_usd=Decimal(1))])
    assert (summary.cost_usd, summary.n_unpriced, summary.input_tokens) == (Decimal(1), 1, None)
    assert summary_of([make_span(1, kind="llm")]).cost_usd is None
    assert summary_of([make_span(1, kind="tool", cost_usd=Decimal(1))]).cost_usd is None


def test_without_a_root_the_earliest_orphan_stands_for_the_trace() -> None:
    late, early = make_span(7, parent_id="f" * 16), make_span(3, parent_id="e" * 16)
    below = make_span(1, parent_id=late.span_id)
    assert summary_of([below, late, early]).name == "span 3"


def test_an_open_root_has_no_duration() -> None:
    assert summary_of([make_span(1, end_ns=None), make_span(2)]).duration_ms is None


@settings(max_examples=20, deadline=None)
@given(st.lists(spans(n_traces=1), min_size=1, max_size=8, unique_by=lambda span: span.span_id), st.randoms())
def test_the_order_of_arrival_does_not_matter(trace: list[Span], random: object) -> None:
    expected = msgspec.structs.asdict(summary_of(trace))
    random.shuffle(trace)  # type: ignore[attr-defined]
    assert msgspec.structs.asdict(summary_of(trace)) == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(spans(n_traces=1), min_size=1, max_size=8, unique_by=lambda span: span.span_id))
def test_every_trace_with_model_calls_has_a_leaf_and_none_lies_above_another(trace: list[Span]) -> None:
    facts = [facts_of(prepare_span(span)) for span in trace]
    leaves = leaf_model_calls(facts)
    calls = [span for span in facts if is_model_call(span)]
    assert bool(leaves) == bool(calls)
    by_id = {span.span_id: span for span in facts}
    leaf_ids = {leaf.span_id for leaf in leaves}
    for call in calls:
        above, parent = set(), call.parent_id
        while parent in by_id and parent not in above and parent != call.span_id:
            above.add(parent)
            parent = by_id[parent].parent_id
        is_in_cycle = parent in above or parent == call.span_id
        assert is_in_cycle or not (above & leaf_ids), "a counted call lies above another call"
