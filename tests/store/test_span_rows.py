"""What is worked out for many spans at once is what the plain way says of each of them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.digest import digest_request
from penstock.spec.spans import Span
from penstock.spec.usage import TOKEN_CLASSES, Usage
from penstock.store.spans.append import prepare_spans
from penstock.store.spans.excerpts import (
    PREVIEW_CHARS,
    SEARCH_CHARS,
    PayloadReader,
    excerpt_of,
    preview_of,
    searched_text_of,
)
from penstock.store.spans.json_text import json_text, json_texts
from penstock.store.spans.ledger import CACHE_STATE, NO_MARKS, RATES, SAVED_USD, ledger_columns
from penstock.store.spans.rows import (
    any_told,
    are_sound,
    facts_of,
    find_fault,
    money_text,
    payload_arrays,
    prepare_span,
    span_arrays,
)
from penstock.store.spans.summaries import (
    INHERITED,
    SpanFacts,
    is_model_call,
    leaf_model_calls,
    summarise_trace,
)
from tests.fixtures.spans import json_values, make_span, spans, texts

LONG = {"messages": [{"role": "user", "content": "walk " * 900}, {"role": "user", "content": "How far?"}]}
PAYLOADS: Sequence[Any] = (
    LONG,
    None,
    "text",
    "a" + "x" * 100,
    "b" + "x" * 100,
    [1.0],
    [1],
    [True],
    {"a": 1, "b": "x"},
    {"b": "x", "a": 1},
    msgspec.Raw(b'{"a":1,"b":"x"}'),
    msgspec.Raw(b'{"a": 1, "b": "x"}'),
    msgspec.Raw(b"garbage"),
    msgspec.Raw(b"\xff"),
    {"amount": Decimal("1.50"), "at": datetime(2026, 1, 1, tzinfo=UTC)},
    {"huge": 2**70},
    "\ud800",
)
usages = st.builds(
    Usage,
    **{name: st.none() | st.integers(0, 3) for name in TOKEN_CLASSES},  # type: ignore[arg-type]
)
amounts = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("0E-30"), Decimal("-0"), Decimal("1E+2"), Decimal("1.20E-7"), Decimal("12.3400")]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PAYLOADS), st.booleans()), max_size=12))
def test_a_payload_is_read_alike_whatever_was_read_before(drawn: list[tuple[Any, bool]]) -> None:
    reader = PayloadReader()
    for payload, is_copied in drawn:
        if is_copied and isinstance(payload, dict | list):
            payload = dict(payload) if isinstance(payload, dict) else list(payload)  # noqa: PLW2901
        shared, own = reader.read(payload), PayloadReader().read(payload)
        assert repr((shared.value, shared.text, shared.excerpt)) == repr((own.value, own.text, own.excerpt))
        assert reader.preview(shared) == PayloadReader().preview(own)


messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "system"]),
        "content": st.sampled_from(["", "walk", "x" * 30, ["y"], None]),
    },
    optional={"name": st.just("z")},
)
chats = st.lists(messages | st.sampled_from([{"content": "no role", "name": "n"}, "text", 1]), max_size=10)


@settings(max_examples=200, deadline=None)
@given(
    chats
    | st.builds(
        lambda chat, more: {"model": "m", "messages": chat} | more, chats, st.sampled_from([{}, {"n": "t"}])
    ),
    st.integers(1, 80),
)
def test_the_short_way_to_the_texts_of_a_chat_leads_to_the_same(payload: Any, limit: int) -> None:
    assert excerpt_of(payload, limit=limit) == excerpt_of({"goes the long way": payload}, limit=limit)


@settings(max_examples=200, deadline=None)
@given(st.text("ab", max_size=300), st.integers(0, 60), st.text("abc", max_size=80), st.booleans())
def test_the_last_question_stands_ahead_when_it_is_not_among_the_first_texts(
    before: str, start: int, other: str, is_first: bool
) -> None:
    question = before[start : start + 90] if is_first else other
    chat = [{"role": "system", "content": before}, {"role": "tool", "content": "z" * SEARCH_CHARS}]
    excerpt = excerpt_of(chat)
    found = searched_text_of([*chat, {"role": "user", "content": question}])
    if not question or question in excerpt:
        assert found == excerpt
    else:
        assert found == f"{question}\n{excerpt[: SEARCH_CHARS - len(question) - 1]}"


def test_a_question_is_found_where_its_beginning_stood_once_before() -> None:
    question = "How far should one walk in a day? " * 2 + "Say it in steps."
    before = f"{question[:60]} and on. {question}"
    chat = [
        {"role": "system", "content": before + "z" * SEARCH_CHARS},
        {"role": "user", "content": question},
    ]
    assert searched_text_of(chat) == excerpt_of(chat)


@given(st.text(st.sampled_from("ab  \n\t\u00a0\u2003\u200b\x1cé😀"), max_size=300))
def test_a_preview_has_single_blanks_whatever_white_space_there_was(text: str) -> None:
    assert preview_of({"messages": [{"role": "user", "content": text}]}) == (
        " ".join(text[: PREVIEW_CHARS + 50].split())[:PREVIEW_CHARS] or None
    )


def test_payloads_that_say_the_same_share_one_text() -> None:
    copy = msgspec.json.decode(msgspec.json.encode(LONG))
    first, *others = prepare_spans(
        [make_span(each, input=(LONG, LONG, copy)[each - 1]) for each in (1, 2, 3)]
    )
    assert all(other.input is first.input for other in others)


def test_a_payload_is_not_taken_for_one_that_lay_in_its_place_before() -> None:
    reader = PayloadReader()
    for number in range(100):
        assert reader.read(msgspec.Raw(b"%d" % number)).text == str(number)
        assert reader.read([number % 3]).text == f"[{number % 3}]"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(texts, json_values, max_size=2)))
def test_many_values_become_the_text_that_each_becomes(values: list[dict[str, Any]]) -> None:
    assert json_texts(values) == [json_text(value) if value else None for value in values]


@pytest.mark.parametrize("strange", [{"n": 2**70}, {"half": "\ud800"}, {"raw": msgspec.Raw(b"[1,\n2]")}])
def test_one_value_that_is_no_plain_json_changes_no_other(strange: dict[str, Any]) -> None:
    assert json_texts([{"a": 1}, {}, strange, {"b": 2}]) == ['{"a":1}', None, json_text(strange), '{"b":2}']


@given(amounts)
def test_an_amount_is_written_without_exponent(amount: Decimal) -> None:
    written = money_text(amount)
    assert written == (f"{amount:f}" if amount else "0")


@pytest.mark.parametrize(
    ("amount", "is_kept"),
    [
        ("999999999999999999.9", True),
        ("1E+18", False),
        ("-1E+18", False),
        ("1E-18", True),
        ("9E-19", False),
        ("0E-400", True),
        ("0E+400", True),
        ("NaN", False),
        ("Infinity", False),
    ],
)
def test_amounts_are_kept_that_their_column_can_hold(amount: str, is_kept: bool) -> None:
    prepared = prepare_span(make_span(1, cost_usd=Decimal(amount)))
    assert (prepared.cost_usd is not None) == is_kept


@settings(max_examples=100, deadline=None)
@given(usages)
def test_facts_have_the_sums_of_the_usage(usage: Usage) -> None:
    facts = facts_of(prepare_span(make_span(1, usage=usage)))
    assert (facts.input_tokens, facts.output_tokens) == (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"trace_id": "A" * 32},
        {"trace_id": "a" * 31},
        {"trace_id": "0" * 32},
        {"trace_id": "é" * 32},
        {"trace_id": "a" * 31 + "\n"},
        {"trace_id": "\ud800" * 32},
        {"span_id": "a" * 17},
        {"span_id": "0" * 16},
        {"span_id": "g" * 16},
        {"parent_id": ""},
        {"parent_id": "0" * 16},
        {"start_ns": -1},
        {"start_ns": 2**63},
        {"end_ns": -1},
        {"end_ns": 2**63},
        {"attempts": -1},
        {"attempts": 0},
        {"http_status": 2**53},
        {"usage": Usage(output_image=-1)},
        {"usage": Usage(input_uncached=0, output_text=2**53 - 1)},
        {"usage": Usage(input_uncached=2**53)},
    ],
)
def test_many_spans_are_sound_when_none_has_a_fault(fields: dict[str, Any]) -> None:
    span = msgspec.structs.replace(make_span(1, parent_id="b" * 16), **fields)
    assert are_sound([make_span(2), span, make_span(3)]) == (find_fault(span) is None)


def test_ids_of_wrong_lengths_do_not_make_up_for_each_other() -> None:
    short, long = make_span(1), make_span(2)
    assert not are_sound(
        [
            msgspec.structs.replace(short, span_id="a" * 15),
            msgspec.structs.replace(long, span_id="a" * 17),
        ]
    )


@pytest.mark.parametrize(
    "values", [[], [None], [None, None, 0], (None, ""), (None, None), [1, None], [None] * 3]
)
def test_a_column_is_told_when_any_value_is_known(values: Sequence[Any]) -> None:
    assert any_told(values) == any(value is not None for value in values)


@settings(max_examples=10, deadline=None)
@given(st.lists(spans(n_spans=4000), min_size=1, max_size=6, unique_by=lambda span: span.span_id))
def test_columns_of_many_spans_are_those_of_each(drawn: list[Span]) -> None:
    """Far more than are looked at in one go."""
    many = [
        msgspec.structs.replace(span, span_id=f"{number * 4096 + int(span.span_id, 16):016x}")
        for number in range(700 // len(drawn))
        for span in drawn
    ]
    rows = [prepare_span(span) for span in many]
    for arrays_of in (span_arrays, payload_arrays):
        arrays = arrays_of(rows)
        for index in (0, 255, 256, 511, 512, len(rows) - 1):
            alone = arrays_of([rows[index]])
            for name, array in arrays.items():
                expected = alone[name].tolist() if name in alone else [None]
                found = array[index : index + 1].tolist()
                assert repr(found) == repr(expected) or (expected == [None] and repr(found) == "[nan]")


def test_the_ledger_has_of_each_call_what_its_span_says() -> None:
    call = make_span(
        1,
        kind="llm",
        service="gateway",
        route="r",
        provider="p",
        model="m",
        cost_source="list",
        error_code="late",
        versions={"model": "2", "prompt:triage": "3"},
        attributes={CACHE_STATE: "hit", SAVED_USD: "1E-5", RATES: {"input": Decimal("0.15")}},
        input={"model": "m"},
    )
    free = make_span(2, kind="embedding", service="gateway", cost_source="list", project="other")
    rows = [prepare_span(span) for span in (call, free)]
    assert all(row.marks is not None for row in rows)
    columns = ledger_columns([row.span for row in rows], [row.marks or NO_MARKS for row in rows])
    first, second = ({name: values[index] for name, values in columns.items()} for index in (0, 1))
    nothing = dict.fromkeys(("key_id", "user_id", "session_id", "prefix_digest", "prefix_tokens"))
    assert first == nothing | {
        "trace_id": call.trace_id,
        "start_ns": call.start_ns,
        "kind": "llm",
        "project": "default",
        "route": "r",
        "provider": "p",
        "model": "m",
        "cost_source": "list",
        "error_code": "late",
        "prompt": "prompt:triage@3",
        "versions": '{"model":"2","prompt:triage":"3"}',
        "rates": '{"input":"0.15"}',
        "cached": True,
        "saved_usd": "0.00001",
        "request_digest": digest_request({"model": "m"}),
    }
    assert (second["project"], second["cached"]) == ("other", False)
    assert {name for name, value in second.items() if value is not None} == {
        "trace_id",
        "start_ns",
        "kind",
        "project",
        "cost_source",
        "cached",
    }


def plain_summary(facts: Sequence[SpanFacts]) -> dict[str, Any]:
    """Return some of the summary in the most obvious way."""
    happened = [span for span in facts if not span.is_judgement] or list(facts)
    leaves = leaf_model_calls(happened)
    calls = {span.span_id for span in happened if is_model_call(span)}
    by_age = sorted(happened, key=lambda span: (span.start_ns, span.span_id))

    def lines(values: set[str | None]) -> str:
        known = sorted(value for value in values if value)
        return "".join(f"\n{value}" for value in known) + "\n" if known else ""

    costs = [span.cost_usd for span in leaves if span.cost_usd is not None]
    given_tokens = [span.input_tokens for span in leaves if span.input_tokens is not None]
    return {
        "first_ns": min(span.start_ns for span in facts),
        "last_ns": max(span.start_ns for span in facts),
        "n_spans": len(facts),
        "n_errors": sum(span.status == "error" for span in happened),
        "n_model_calls": len(leaves),
        "n_unpriced": len(leaves) - len(costs),
        "cost_usd": sum(costs) if costs else None,
        "input_tokens": sum(given_tokens) if given_tokens else None,
        "models": lines({span.model for span in happened}),
        "tags": lines({tag for span in happened for tag in (span.tags or "").split("\n")}),
        "has_scores": any(span.has_scores for span in facts),
        "covered": ",".join(str(call) for call in sorted(calls - {span.span_id for span in leaves})),
        "told_first": {
            name: [value for span in by_age if (value := getattr(span, name)) is not None][:1]
            for name in INHERITED
        },
    }


@settings(max_examples=100, deadline=None)
@given(
    st.lists(spans(n_traces=1), min_size=1, max_size=1)
    | st.lists(spans(n_traces=1), min_size=1, max_size=8, unique_by=lambda span: span.span_id)
)
def test_a_summary_is_what_the_obvious_way_says(trace: list[Span]) -> None:
    facts = [facts_of(prepare_span(span)) for span in trace]
    summary = summarise_trace(facts)
    expected = plain_summary(facts)
    first = expected.pop("told_first")
    root = next(span for span in facts if span.span_id == summary.root_id)
    for name in INHERITED:
        own = getattr(root, name)
        assert getattr(summary, name) == (own if own is not None else next(iter(first[name]), None))
    assert {name: getattr(summary, name) for name in expected} == expected
