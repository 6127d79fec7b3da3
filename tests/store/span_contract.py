"""What every span store promises, whatever engine is below: a suite that each adapter runs.

A test module gives a fixture `make_store` that returns a new, empty `StoreUnderTest` each time it is called, and
imports everything from here. Only the ports are used.
"""

import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput, NotFound
from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK, Span, SpanLink
from penstock.spec.usage import Usage
from penstock.store.spans.port import ScoreReader, SpanSink, TraceReader
from penstock.store.spans.rows import ENDED_BEFORE, facts_of, prepare_span
from penstock.store.spans.skeleton import skeleton_of
from penstock.store.spans.summaries import summarise_trace
from penstock.store.spans.types import ScoreQuery
from tests.fixtures.spans import T0, make_call_trace, make_span, spans


class StoreUnderTest(NamedTuple):
    """One store, by its ports."""

    sink: SpanSink
    reader: TraceReader
    scores: ScoreReader


MakeStore = Callable[[], StoreUnderTest]
TRACE = f"{1:032x}"


def without_payload(span: Span) -> Span:
    return msgspec.structs.replace(span, input=None, output=None)


def stored_spans(store: StoreUnderTest, trace_id: str = TRACE) -> list[Span]:
    return store.reader.get_trace(trace_id)


def make_score(value: float | None, *, at: int, judged: int = 1, by: int = 77, **fields: Any) -> Span:
    """Return a judgement of span `judged` of trace 1 as it travels: a span of its own below the judged one."""
    score = SpanScore(
        **{
            "name": "helpful",
            "value": value,
            "time_ns": at,
            "trace_id": TRACE,
            "span_id": f"{judged:016x}",
            **fields,
        }
    )
    return make_span(
        by,
        parent_id=f"{judged:016x}",
        name="score helpful",
        kind="evaluation",
        start_ns=at,
        end_ns=at,
        scores=[score],
    )


def test_every_field_of_a_span_comes_back(make_store: MakeStore) -> None:
    store = make_store()
    full = make_span(
        1,
        kind="llm",
        parent_id=f"{9:016x}",
        status="error",
        status_message="no",
        error_code="PS-4201",
        project="lab",
        service="shop",
        environment="production",
        release="1.2",
        scope="x 1",
        key_id="k",
        user_id="u",
        session_id="s",
        route="r",
        provider="p",
        model="m",
        agent="a",
        tool="t",
        prompt="triage@3",
        cache="hit",
        http_status=500,
        streamed=True,
        attempts=2,
        usage=Usage(input_uncached=1, output_text=0, estimated=True),
        cost_usd=Decimal("0.000000000000000001"),
        cost_source="settings",
        ttft_ms=0.25,
        overhead_ms=0.5,
        tags=["z", "a b"],
        versions={"app:x": "1"},
        attributes={"a": [1, {"b": None}], "é": "😀"},
        links=[SpanLink(trace_id="2" * 32, span_id="3" * 16, attributes={"why": "retry"})],
        scores=[SpanScore(name="ok", value=1.0, time_ns=5, evidence={"x": 1})],
        input={"q": 1},
        output=["a"],
    )
    store.sink.append([full])
    assert stored_spans(store) == [without_payload(full)]
    assert store.reader.get_spans(TRACE, [full.span_id]) == [without_payload(full)]
    payload = store.reader.get_payload(TRACE, full.span_id)
    assert (payload.input, payload.output, payload.dropped) == ({"q": 1}, ["a"], False)


def test_appending_the_same_again_in_any_order_changes_nothing(make_store: MakeStore) -> None:
    store, trace = make_store(), [*make_call_trace(), make_score(1.0, at=T0)]
    assert store.sink.append(trace + trace) == 6
    before = (stored_spans(store), store.reader.get_summary(TRACE), store.scores.list_scores(ScoreQuery()))
    for attempt in range(3):
        random.Random(attempt).shuffle(trace)
        assert store.sink.append(trace) == 0
        assert [store.sink.append([span]) for span in trace] == [0] * 6
    assert (
        stored_spans(store),
        store.reader.get_summary(TRACE),
        store.scores.list_scores(ScoreQuery()),
    ) == before


def test_spans_that_come_late_and_shuffled_give_the_same_trace(make_store: MakeStore) -> None:
    trace = [*make_call_trace(), make_score(0.5, at=T0 + 10**15)]
    expected = None
    for attempt in range(4):
        store, moved = make_store(), list(trace)
        random.Random(attempt).shuffle(moved)
        for span in moved:
            assert store.sink.append([span]) == 1
        seen = (stored_spans(store), store.reader.get_summary(TRACE), store.reader.get_skeleton(TRACE))
        expected = expected or seen
        assert seen == expected


def test_a_more_complete_record_replaces_a_poorer_one_and_not_the_other_way_round(
    make_store: MakeStore,
) -> None:
    store = make_store()
    done = make_span(1, kind="llm", usage=Usage(input_uncached=3), input="q", output="a")
    begun = msgspec.structs.replace(done, end_ns=None, status="unset", usage=None, output=None)
    assert store.sink.append([begun]) == 1
    assert stored_spans(store) == [without_payload(begun)]
    for record in (done, begun, done):
        assert store.sink.append([record]) == 0
        assert stored_spans(store) == [without_payload(done)]
        assert store.reader.get_payload(TRACE, done.span_id).output == "a"


def test_what_somebody_sends_never_replaces_a_span_of_our_own(make_store: MakeStore) -> None:
    store = make_store()
    own = make_span(1, kind="llm", end_ns=None, status="unset")
    claimed = make_span(
        1, name="forged", usage=Usage(input_uncached=1), input="x", attributes={FOREIGN_MARK: 2}
    )
    store.sink.append([claimed])
    store.sink.append([own])
    store.sink.append([claimed])
    assert [span.name for span in stored_spans(store)] == ["span 1"]


def test_the_later_judgement_holds_whatever_order_they_come_in(make_store: MakeStore) -> None:
    early, late = make_score(0.0, at=T0 + 5), make_score(1.0, at=T0 + 9, comment="better")
    for order in ((early, late), (late, early), (late, early, late)):
        store = make_store()
        store.sink.append([make_span(1)])
        for span in order:
            store.sink.append([span])
        (row,) = store.scores.list_scores(ScoreQuery(trace_id=TRACE))
        assert (row.value, row.comment, row.span_id, row.time_ns) == (1.0, "better", f"{1:016x}", T0 + 9)
        assert [span.scores[0].value for span in stored_spans(store) if span.scores] == [1.0]
    batch = make_store()
    batch.sink.append([make_span(1), late, early])
    assert [row.value for row in batch.scores.list_scores(ScoreQuery())] == [1.0]


def test_judgements_are_told_apart_by_target_name_scorer_and_identifier(make_store: MakeStore) -> None:
    store = make_store()
    store.sink.append([make_span(1), make_span(2)])
    different = [
        make_score(1.0, at=T0, by=50),
        make_score(1.0, at=T0, by=51, judged=2),
        make_score(1.0, at=T0, by=52, name="polite"),
        make_score(1.0, at=T0, by=53, scorer="bob"),
        make_score(1.0, at=T0, by=54, identifier="second"),
        make_score(1.0, at=T0, by=55, trace_id=TRACE, span_id=None),
        make_score(None, at=T0, by=56, trace_id=None, span_id=None, session_id="s", label="good"),
        make_score(0.0, at=T0 - 1, by=57),
    ]
    store.sink.append(different)
    rows = store.scores.list_scores(ScoreQuery())
    assert len(rows) == 7, "the last one is an earlier judgement of what the first one judges"
    assert sorted(row.by_span_id for row in rows) == [f"{number:016x}" for number in range(50, 57)]
    assert [row.label for row in store.scores.list_scores(ScoreQuery(session_id="s"))] == ["good"]
    assert len(store.scores.list_scores(ScoreQuery(trace_id=TRACE))) == 6
    assert len(store.scores.list_scores(ScoreQuery(name="polite"))) == 1
    assert store.scores.list_scores(ScoreQuery(trace_id="no id")) == []
    assert store.scores.list_scores(ScoreQuery(limit=2)) == rows[:2]


def test_a_score_that_names_no_target_is_about_the_span_above_it(make_store: MakeStore) -> None:
    store = make_store()
    bare = SpanScore(name="ok", value=1.0, time_ns=T0)
    store.sink.append([make_span(1), make_span(2, parent_id=f"{1:016x}", kind="evaluation", scores=[bare])])
    store.sink.append([make_span(3, kind="llm", scores=[bare])])
    about = {row.by_span_id: row.span_id for row in store.scores.list_scores(ScoreQuery())}
    assert about == {f"{2:016x}": f"{1:016x}", f"{3:016x}": f"{3:016x}"}


def test_scores_count_in_nothing_that_happened(make_store: MakeStore) -> None:
    store = make_store()
    store.sink.append(make_call_trace())
    before = store.reader.get_summary(TRACE)
    failed = msgspec.structs.replace(make_score(1.0, at=5), status="error", parent_id=None, user_id="judge")
    store.sink.append([failed])
    after = store.reader.get_summary(TRACE)
    assert before is not None
    assert after == msgspec.structs.replace(before, n_spans=6, has_scores=True)


def test_a_trace_of_nothing_but_a_score_is_there_and_gives_way_to_what_it_judges(
    make_store: MakeStore,
) -> None:
    store = make_store()
    store.sink.append([make_score(1.0, at=T0 + 10**12)])
    alone = store.reader.get_summary(TRACE)
    assert alone is not None
    assert (alone.name, alone.n_model_calls, alone.has_scores) == ("score helpful", 0, True)
    store.sink.append(make_call_trace())
    whole = store.reader.get_summary(TRACE)
    assert whole is not None
    assert (whole.name, whole.n_spans, whole.has_scores) == ("chat handbook", 6, True)


def test_a_score_in_another_trace_marks_the_trace_that_it_judges(make_store: MakeStore) -> None:
    for judged_first in (True, False):
        store = make_store()
        judged = make_call_trace(1)
        elsewhere = make_span(
            1, trace=9, kind="evaluation", scores=[SpanScore(name="x", value=1, time_ns=1, trace_id=TRACE)]
        )
        for batch in (judged, [elsewhere]) if judged_first else ([elsewhere], judged):
            store.sink.append(batch)
        summary = store.reader.get_summary(TRACE)
        assert summary is not None
        assert summary.has_scores
        store.sink.append([make_span(20, trace=1)])
        summary = store.reader.get_summary(TRACE)
        assert summary is not None
        assert summary.has_scores, "and it stays so when the trace grows"


def test_a_trace_without_its_root_is_shown_by_its_earliest_part(make_store: MakeStore) -> None:
    store = make_store()
    store.sink.append([make_span(5, parent_id="f" * 16), make_span(3, parent_id="e" * 16, name="first part")])
    summary = store.reader.get_summary(TRACE)
    assert summary is not None
    assert (summary.name, summary.n_spans) == ("first part", 2)
    store.sink.append([make_span(9, name="the root")])
    summary = store.reader.get_summary(TRACE)
    assert summary is not None
    assert (summary.name, summary.n_spans) == ("the root", 3)


@pytest.mark.parametrize("parents", [{1: 1}, {1: 2, 2: 1}, {1: 2, 2: 3, 3: 1, 4: 2}])
def test_spans_in_a_circle_are_stored_and_counted_once(
    make_store: MakeStore, parents: dict[int, int]
) -> None:
    store = make_store()
    trace = [
        make_span(
            number, parent_id=f"{parent:016x}", kind="llm", cost_usd=Decimal(1), usage=Usage(input_uncached=5)
        )
        for number, parent in parents.items()
    ]
    for span in trace:
        store.sink.append([span])
    summary = store.reader.get_summary(TRACE)
    assert summary is not None
    assert summary.n_spans == len(parents)
    assert summary.n_model_calls >= 1
    assert summary.cost_usd == summary.n_model_calls
    assert stored_spans(store) == trace


@pytest.mark.parametrize("n_others", [0, 2100])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_span_of_another_project_never_takes_the_place_of_one_under_the_same_ids(
    make_store: MakeStore, n_others: int, at_once: bool
) -> None:
    store = make_store()
    theirs = make_span(1, project="a", status="unset", usage=None, attributes={FOREIGN_MARK: 2})
    taker = msgspec.structs.replace(theirs, project="b", name="taken over", status="ok", output="x")
    store.sink.append([make_span(number, parent_id=theirs.span_id) for number in range(2, 2 + n_others)])
    for batch in [[theirs, taker]] if at_once else [[theirs], [taker]]:
        store.sink.append(batch)
    assert store.reader.get_spans(TRACE, [theirs.span_id]) == [theirs]
    grown = msgspec.structs.replace(theirs, status="ok")
    store.sink.append([grown])
    assert store.reader.get_spans(TRACE, [theirs.span_id]) == [grown]


def test_a_service_of_somebodys_own_may_be_called_gateway(make_store: MakeStore) -> None:
    store = make_store()
    begun = make_span(1, service="gateway", end_ns=None, status="unset", attributes={FOREIGN_MARK: 2})
    ended = msgspec.structs.replace(begun, end_ns=begun.start_ns + 10**9, status="ok")
    store.sink.append([begun])
    store.sink.append([ended])
    summary = store.reader.get_summary(TRACE)
    assert summary is not None
    assert (summary.duration_ms, summary.status) == (1000.0, "ok")


def test_a_span_that_ended_before_it_began_took_nobody_knows_how_long(make_store: MakeStore) -> None:
    store = make_store()
    store.sink.append([make_span(1, end_ns=T0 - 10**10)])
    (span,) = stored_spans(store)
    assert (span.end_ns, span.duration_ms) == (None, None)
    assert span.attributes[ENDED_BEFORE] == T0 - 10**10
    summary = store.reader.get_summary(TRACE)
    assert summary is not None
    assert summary.duration_ms is None


def test_clocks_that_disagree_are_kept_as_they_were(make_store: MakeStore) -> None:
    store = make_store()
    trace = [make_span(1), make_span(2, parent_id=f"{1:016x}", start_ns=T0 - 10**15, end_ns=T0 - 10**15)]
    store.sink.append(trace)
    assert stored_spans(store) == [trace[1], trace[0]]
    edge = [
        make_span(1, trace=2, start_ns=0, end_ns=0),
        make_span(2, trace=2, start_ns=2**63 - 1, end_ns=2**63 - 1),
    ]
    store.sink.append(edge)
    assert stored_spans(store, f"{2:032x}") == edge


def test_a_very_large_trace_grows_in_pieces_and_says_the_same_as_when_it_came_at_once(
    make_store: MakeStore,
) -> None:
    rng = random.Random(3)
    kinds = ("llm", "tool", "embedding", "rerank", "attempt", "chain", "evaluation")
    trace = [
        make_span(
            number,
            parent_id=None if number == 1 else f"{rng.choice((number // 2, number - 1, number + 1)):016x}",
            kind=rng.choice(kinds),
            model=rng.choice(("a", "b", None)),
            user_id=rng.choice((None, None, "u", "v")),
            tags=rng.choice(([], ["x"], ["y", "x"])),
            status=rng.choice(("ok", "error")),
            cost_usd=rng.choice((None, Decimal(number).scaleb(-9))),
            usage=rng.choice((None, Usage(input_uncached=number))),
            scores=rng.choice(([], [], [SpanScore(name="s", value=1, time_ns=T0)])),
        )
        for number in range(1, 3001)
    ]
    rng.shuffle(trace)
    expected = summarise_trace([facts_of(prepare_span(span)) for span in trace])
    for n_first in (3000, 2700, 100):
        store = make_store()
        assert store.sink.append(trace[:n_first]) == n_first
        for first in range(n_first, 3000, 300):
            part = trace[first : first + 300]
            assert store.sink.append([*part, trace[0]]) == len(part)
        summary = store.reader.get_summary(TRACE)
        assert summary is not None
        for name in set(summary.__struct_fields__) & set(expected.__struct_fields__) - {
            "tags",
            "models",
            "providers",
        }:
            assert getattr(summary, name) == getattr(expected, name), name
        assert (summary.tags, summary.models) == (["x", "y"], ["a", "b"])
    skeleton = store.reader.get_skeleton(TRACE)
    assert skeleton == skeleton_of(trace)
    some = [trace[7].span_id, trace[2999].span_id, "f" * 16, "no id"]
    assert {span.span_id for span in store.reader.get_spans(TRACE, some)} == {
        trace[7].span_id,
        trace[2999].span_id,
    }


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(spans(n_traces=1, n_spans=8), min_size=1, max_size=8, unique_by=lambda span: span.span_id))
def test_any_trace_has_the_skeleton_of_its_spans(make_store: MakeStore, trace: list[Span]) -> None:
    store = make_store()
    store.sink.append(trace)
    assert store.reader.get_skeleton(TRACE) == skeleton_of(trace)


def test_a_megabyte_in_an_attribute_and_ten_thousand_attributes_are_kept(make_store: MakeStore) -> None:
    store = make_store()
    trace = [
        make_span(1, attributes={"large": "é" * 500_000}, output="x" * 1_000_000),
        make_span(2, attributes={f"attribute {number}": number for number in range(10_000)}),
        make_span(3, name="n" * 100_000, tags=[f"tag {number}" for number in range(1000)]),
    ]
    assert store.sink.append(trace) == 3
    assert stored_spans(store) == [without_payload(span) for span in trace]
    assert len(str(store.reader.get_payload(TRACE, f"{1:016x}").output)) == 1_000_000


def test_text_and_numbers_that_no_column_has_room_for_leave_something_readable(make_store: MakeStore) -> None:
    store = make_store()
    deep: Any = "bottom"
    for _ in range(3000):
        deep = [deep]
    trace = [
        make_span(
            1, name="nul \0 and 😀", attributes={"half": "a\ud800b", "huge": 2**80, "nan": float("nan")}
        ),
        make_span(2, input="half \ud800 pair", output=msgspec.Raw(b'"broken \xff utf-8"')),
        make_span(3, input=deep, output=2**100, attributes={"deep": deep, "odd": object()}),
        make_span(4, cost_usd=Decimal("NaN"), usage=Usage(input_uncached=2**52)),
        make_span(
            5,
            links=[SpanLink(trace_id="x", span_id="y", attributes={"huge": -(2**70)})],
            tags=["a\nb", "", "a b"],
        ),
    ]
    assert store.sink.append(trace) == 5
    assert store.sink.append(trace) == 0
    seen = stored_spans(store)
    assert seen[0].name == "nul \0 and 😀"
    assert "a" in seen[0].attributes["half"]
    assert int(seen[0].attributes["huge"]) == 2**80
    assert seen[3].cost_usd is None
    assert (seen[3].usage or Usage()).input_uncached == 2**52
    assert seen[4].tags == ["a b"]
    for span in trace:
        json.dumps(msgspec.to_builtins(store.reader.get_payload(TRACE, span.span_id)))


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": "xyz"},
        {"trace_id": "0" * 32},
        {"trace_id": "A" * 32},
        {"span_id": "f" * 15},
        {"span_id": "0" * 16},
        {"parent_id": "no"},
        {"start_ns": -1},
        {"start_ns": 2**63},
        {"end_ns": 2**64},
        {"attempts": 2**60},
        {"usage": Usage(input_uncached=-1)},
    ],
)
def test_a_span_that_cannot_be_stored_takes_its_batch_with_it(
    make_store: MakeStore, fields: dict[str, Any]
) -> None:
    store = make_store()
    with pytest.raises(InvalidInput):
        store.sink.append([make_span(1), msgspec.structs.replace(make_span(2), **fields)])
    assert stored_spans(store) == []
    assert store.sink.append([make_span(1)]) == 1


def test_what_is_unknown_is_empty_or_not_found(make_store: MakeStore) -> None:
    store = make_store()
    store.sink.append(make_call_trace())
    for trace_id in ("", "xyz", "0" * 32, "A" * 32, "'" * 32, "f" * 32):
        assert store.reader.get_trace(trace_id) == []
        assert store.reader.get_summary(trace_id) is None
        assert len(store.reader.get_skeleton(trace_id)) == 0
        assert store.reader.get_spans(trace_id, [f"{1:016x}"]) == []
        with pytest.raises(NotFound):
            store.reader.get_payload(trace_id, f"{1:016x}")
    with pytest.raises(NotFound):
        store.reader.get_payload(TRACE, "not hex")
    assert store.reader.get_payload(TRACE, f"{2:016x}").input is None
