"""Two traces side by side: steps that belong together are paired, and texts differ in the words that changed."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.alignment import MAX_ALIGNED, align, diff_words
from penstock.traces.comparison import (
    Reference,
    WrongReference,
    compare_payloads,
    compare_traces,
    find_counterpart,
    read_reference,
)
from penstock.traces.service import TraceService, UnknownTrace
from tests.fixtures.spans import make_call_trace, make_span

LEFT, RIGHT = f"{1:032x}", f"{2:032x}"


def agent_trace(trace: int, names: list[str], **model_fields: Any) -> list[Span]:
    spans = [make_span(1, trace=trace, name="agent", kind="agent", route="agent")]
    for number, name in enumerate(names, start=2):
        kind: Any = "llm" if name.startswith("chat") else "tool"
        fields = model_fields if kind == "llm" else {}
        spans.append(make_span(number, trace=trace, parent_id=f"{1:016x}", name=name, kind=kind, **fields))
    return spans


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "s.duckdb")
    yield opened
    opened.close()


def test_steps_are_paired_by_name_and_models_that_took_over_by_kind(store: DuckDBSpanStore) -> None:
    usage = Usage(input_uncached=10, output_text=5)
    store.append(agent_trace(1, ["chat small", "search", "read", "chat small"], model="small", usage=usage))
    store.append(
        agent_trace(
            2,
            ["chat large", "search", "write", "chat large"],
            model="large",
            usage=usage,
            cost_usd=Decimal(1),
        )
    )
    diff = compare_traces(TraceService(store), Reference(trace_id=LEFT), Reference(trace_id=RIGHT))
    names = [(pair.left and pair.left.name, pair.right and pair.right.name) for pair in diff.pairs]
    assert names == [
        ("agent", "agent"),
        ("chat small", "chat large"),
        ("search", "search"),
        ("read", "write"),
        ("chat small", "chat large"),
    ]
    assert [pair.depth for pair in diff.pairs][:2] == [0, 1]
    assert diff.pairs[0].right is not None
    assert diff.pairs[0].right.cost_usd == Decimal(2)
    assert not next(pair for pair in diff.pairs if pair.left and pair.left.name == "search").differs


def test_sums_are_of_whole_traces_however_many_steps_are_kept(
    store: DuckDBSpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.traces.comparison.MAX_PAIRS", 3)
    for trace, n_loose in ((1, 2), (2, 5)):
        loose = [
            make_span(
                50 + number, trace=trace, parent_id=f"{77:016x}", name="chat", kind="llm", cost_usd=Decimal(1),
                usage=Usage(input_uncached=10, output_text=number), status="error",
            )
            for number in range(n_loose)
        ]  # fmt: skip
        store.append([*agent_trace(trace, ["search"] * 8), *loose])
    diff = compare_traces(TraceService(store), Reference(trace_id=LEFT), Reference(trace_id=RIGHT))
    one, two = diff.totals
    assert (one.n_steps, two.n_steps) == (11, 14)
    assert (one.cost_usd, two.cost_usd) == (Decimal(2), Decimal(5))
    assert (one.tokens, two.tokens) == (21, 60)
    assert (one.n_errors, two.n_errors) == (2, 5)
    assert (len(diff.pairs), diff.n_left_out, diff.n_same) == (3, 11, 11)


def test_traces_with_loose_spans_are_compared_by_their_roots(store: DuckDBSpanStore) -> None:
    lost = make_span(9, trace=1, parent_id=f"{77:016x}", name="lost")
    store.append(
        [
            *agent_trace(1, ["search"]),
            lost,
            make_span(1, trace=2, name="other agent"),
            make_span(2, trace=2, parent_id=f"{1:016x}", name="search", kind="tool"),
        ]
    )
    diff = compare_traces(TraceService(store), Reference(trace_id=LEFT), Reference(trace_id=RIGHT))
    names = [(pair.left and pair.left.name, pair.right and pair.right.name) for pair in diff.pairs]
    assert names == [("agent", "other agent"), ("search", "search"), ("lost", None)]


def test_a_span_is_compared_with_the_one_alike_in_the_trace_before(store: DuckDBSpanStore) -> None:
    store.append([*agent_trace(1, ["search", "search"]), *agent_trace(2, ["search", "search", "search"])])
    traces = TraceService(store)
    second = Reference(trace_id=RIGHT, span_id=f"{3:016x}")
    assert find_counterpart(traces, second) == Reference(trace_id=LEFT, span_id=f"{3:016x}")
    third = Reference(trace_id=RIGHT, span_id=f"{4:016x}")
    assert find_counterpart(traces, third) == Reference(trace_id=LEFT, span_id=f"{3:016x}")


def test_a_trace_does_not_differ_from_itself(store: DuckDBSpanStore) -> None:
    store.append(make_call_trace())
    itself = Reference(trace_id=LEFT)
    diff = compare_traces(TraceService(store), itself, itself)
    assert len(diff.pairs) == 5
    assert not any(pair.differs for pair in diff.pairs)
    assert diff.versions == [("app:handbook", "1", "1")]


def test_parts_of_traces_and_their_words_are_compared(store: DuckDBSpanStore) -> None:
    store.append(make_call_trace(1, answer="Walk every day."))
    store.append(make_call_trace(2, answer="Walk every morning."))
    traces = TraceService(store)
    one, two = (read_reference(f"{trace}/{5:016x}") for trace in (LEFT, RIGHT))
    assert len(compare_traces(traces, one, two).pairs) == 1
    words = compare_payloads(traces, one, two)
    assert [kind for kind, _ in words.input] == ["same"]
    assert ("removed", "day") in words.output
    assert ("added", "morning") in words.output
    assert compare_payloads(traces, None, two).input[0][0] == "added"


def test_the_trace_before_of_the_same_route_is_taken_when_none_is_named(store: DuckDBSpanStore) -> None:
    store.append([*make_call_trace(1), *make_call_trace(2), *agent_trace(3, [])])
    traces = TraceService(store)
    assert find_counterpart(traces, Reference(trace_id=RIGHT)) == Reference(trace_id=LEFT)
    assert find_counterpart(traces, Reference(trace_id=LEFT)) is None


@pytest.mark.parametrize("text", ["", "zz", LEFT + "/12", "12/" + "0" * 16])
def test_what_names_no_trace_and_no_span_says_how_to_write_one(text: str) -> None:
    with pytest.raises(WrongReference) as caught:
        read_reference(text)
    assert "TRACE/SPAN" in str(caught.value.hint)


def test_unknown_traces_and_spans_are_told(store: DuckDBSpanStore) -> None:
    store.append(make_call_trace())
    traces = TraceService(store)
    known = Reference(trace_id=LEFT)
    with pytest.raises(UnknownTrace):
        compare_traces(traces, known, Reference(trace_id=RIGHT))
    with pytest.raises(WrongReference):
        compare_traces(traces, known, Reference(trace_id=LEFT, span_id="f" * 16))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_an_alignment_has_every_entry_once_in_order_and_pairs_equal_ones(
    left: list[str], right: list[str]
) -> None:
    pairs = align(left, right)
    assert [at for at, _ in pairs if at is not None] == list(range(len(left)))
    assert [to for _, to in pairs if to is not None] == list(range(len(right)))
    assert all(left[at] == right[to] for at, to in pairs if at is not None and to is not None)
    both = sum(at is not None and to is not None for at, to in pairs)
    assert both == _common(left, right)


def _common(left: list[str], right: list[str]) -> int:
    if not left or not right:
        return 0
    if left[0] == right[0]:
        return 1 + _common(left[1:], right[1:])
    return (
        max(_common(left[1:], right), _common(left, right[1:]))
        if len(left) + len(right) < 14
        else _table(left, right)
    )


def _table(left: list[str], right: list[str]) -> int:
    best = [0] * (len(right) + 1)
    for one in left:
        row = [0]
        for at, two in enumerate(right, start=1):
            row.append(best[at - 1] + 1 if one == two else max(best[at], row[-1]))
        best = row
    return best[-1]


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_difference_of_texts_holds_both_of_them(left: str, right: str) -> None:
    changes = diff_words(left, right)
    assert "".join(text for kind, text in changes if kind != "added") == left
    assert "".join(text for kind, text in changes if kind != "removed") == right


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (  # a few words alike by chance: the one text, then the other
            "Rain falls on the hills and rivers rise.",
            "Prices of the oldest books rarely fall.",
            [
                ("removed", "Rain falls on the hills and rivers rise"),
                ("added", "Prices of the oldest books rarely fall"),
                ("same", "."),
            ],
        ),
        (  # one word of a long sentence
            "Most adults need seven hours of sleep.",
            "Most adults need nine hours of sleep.",
            [
                ("same", "Most adults need "),
                ("removed", "seven"),
                ("added", "nine"),
                ("same", " hours of sleep."),
            ],
        ),
        (  # a line that stayed is told apart, however short
            "alpha beta\nx\ngamma delta",
            "one two\nx\nthree four",
            [
                ("removed", "alpha beta"),
                ("added", "one two"),
                ("same", "\nx\n"),
                ("removed", "gamma delta"),
                ("added", "three four"),
            ],
        ),
    ],
)
def test_words_alike_by_chance_do_not_cut_up_a_change(
    left: str, right: str, told: list[tuple[str, str]]
) -> None:
    assert diff_words(left, right) == told


def test_sequences_that_are_too_long_are_paired_by_place() -> None:
    left, right = list(range(MAX_ALIGNED + 9)), list(range(1, MAX_ALIGNED + 10))
    pairs = align(left, right)
    assert len(pairs) == 2 * len(left)
