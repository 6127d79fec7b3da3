"""Filters read as they are written, point at what is wrong, and hold as their words say."""

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.knowledge.index.types import IndexDocument
from penstock.knowledge.retrieval.conditions import meets, read_period
from penstock.knowledge.retrieval.errors import BadFilter
from penstock.knowledge.retrieval.filter_text import negate
from penstock.knowledge.retrieval.filters import read_filter
from penstock.spec.knowledge import ChosenScope, Condition, Properties
from tests.knowledge.retrieval.shelves import make_shelf


def nanoseconds(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp()) * 10**9


DOCUMENT = IndexDocument(
    id="d1",
    path="guides/setup.md",
    title="Setting up",
    media_type="text/markdown",
    source="wiki",
    added_ns=nanoseconds("2026-03-05T12:00"),
    properties=Properties(
        values={
            "author": "Ada Lovelace",
            "tag": ["Draft", "howto"],
            "year": 2024,
            "score": 0.5,
            "version": "10",
            "released": "2026-02-10",
            "public": True,
            "empty": "",
            "none": [],
        },
        language="de",
        modified_ns=nanoseconds("2026-01-31T23:59:59"),
    ),
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("language:de", True),
        ("language:DE", True),
        ("language:en", False),
        ("language:en,de", True),
        ('author:"ada lovelace"', True),
        ("author:Ada", False),
        ("author:Ada*", True),
        ('author:"Ada*"', False),
        ("author:*", True),
        ("editor:*", False),
        ("-editor:*", True),
        ("empty:*", False),
        ("none:*", False),
        ("tag:draft", True),
        ("tag:draft tag:howto", True),
        ("-tag:draft", False),
        ("NOT tag:final", True),
        ("-editor:bob", True),
        ("editor:bob", False),
        ("path:guides/*", True),
        ("-path:guides/*", False),
        ("-path:drafts/*", True),
        ("title:Setting*", True),
        ("source:wiki media_type:text/markdown", True),
        ("year:2024", True),
        ("year:2024.0", True),
        ("year:>2023", True),
        ("year:>2024", False),
        ("year:>=2024", True),
        ("year:2020..2024", True),
        ("year:2025..", False),
        ("year:..2024", True),
        ("version:>9", True),
        ("score:<0.51", True),
        ("-score:>0.51", True),
        ("-editor:>3", True),
        ("editor:>3", False),
        ("editor:<3", False),
        ("public:true", True),
        ("public:no", False),
        ("public:1", False),
        ("released:2026-02", True),
        ("released:>2026-01", True),
        ("released:>2026-02", False),
        ("released:2026-02-01..2026-02-10", True),
        ("modified:2026-01-31", True),
        ("modified:2026-01", True),
        ("modified:2026", True),
        ("modified:>2026-01-31", False),
        ("modified:>=2026-01-31", True),
        ("modified:<=2026-01-31", True),
        ("modified:<2026-01-31", False),
        ("modified:>2026-01-31T23:59", False),
        ("modified:>=2026-01-31T23:59:59Z", True),
        ("modified:>=2026-02-01T00:59:59+01:00", True),
        ("added:2026-01..2026-03", True),
        ("language:en OR year:2024", True),
        ("language:en year:2024 OR language:de", True),
        ("(language:en OR language:de) -tag:final", True),
        ("-(language:de year:2024)", False),
        ("-(language:de year:2025)", True),
        ("NOT NOT language:de", True),
        ("language : de AND year : >2000", True),
        ('author:"say \\"hi\\""', False),
        ("path:../guides", False),
        ('"author":x', None),
    ],
)
def test_text_filters(text: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(BadFilter):
            read_filter(text)
        return
    assert meets(DOCUMENT, read_filter(text)) is holds


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("language:de author", 12, "field:value"),
        ("how do I sleep", 0, "belong in the question"),
        ("modified:>soon", 10, "no date"),
        ("modified:2026-13", 9, "no date"),
        ('author:"Ada', 7, "never closed"),
        ("(a:b", 4, "`)` is missing"),
        ("a:b)", 3, "closes nothing"),
        ("a:*b", 2, "at the end alone"),
        ("a:b AND", 7, "behind AND"),
        ("a:b OR ", 7, "a term is missing"),
        ("a:", 2, "a value is missing"),
        ("a:b,,c", 4, "a value is missing"),
        ('a:b"c"', 3, "Quote the whole value"),
        ("-", 1, "a term is missing"),
        ("(" * 30 + "a:b" + ")" * 30, 16, "nested"),
        (" ".join(f"a:{n}" for n in range(300)), 1090, "more than 200 terms"),
    ],
)
def test_errors_point_at_the_character(text: str, position: int, says: str) -> None:
    with pytest.raises(BadFilter) as caught:
        read_filter(text)
    assert says in str(caught.value)
    assert caught.value.fields["position"] == position
    shown, pointer = caught.value.message.splitlines()[1:3]
    if position < len(text):
        assert shown[len(pointer) - 1] == text[position]


def test_a_filter_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadFilter, match="limit"):
        read_filter("a:b " * 2000)


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ({"type": "eq", "key": "language", "value": "de"}, True),
        ({"type": "ne", "key": "language", "value": "de"}, False),
        ({"type": "gt", "key": "year", "value": 2023}, True),
        ({"type": "lte", "key": "year", "value": 2023}, False),
        ({"type": "in", "key": "tag", "value": ["x", "howto"]}, True),
        ({"type": "nin", "key": "tag", "value": ["x", "howto"]}, False),
        ({"type": "eq", "key": "public", "value": True}, True),
        ({"type": "eq", "key": "year", "value": True}, False),
        ({"type": "gte", "key": "modified", "value": nanoseconds("2026-01-01T00:00") // 10**9}, True),
        ({"type": "lt", "key": "modified", "value": nanoseconds("2026-01-01T00:00") // 10**6}, False),
        ({"type": "exists", "key": "editor", "value": False}, True),
        ({"type": "exists", "key": "author"}, True),
        ({"type": "prefix", "key": "path", "value": "guides/"}, True),
        ({"type": "and", "filters": [{"type": "eq", "key": "language", "value": "de"}, {"type": "eq", "key": "year", "value": 1}]}, False),
        ({"type": "or", "filters": [{"type": "eq", "key": "language", "value": "de"}, {"type": "eq", "key": "year", "value": 1}]}, True),
        ({"op": "is", "field": "language", "value": "de"}, True),
        ({"op": "none_of", "parts": [{"op": "is", "field": "language", "value": "de"}]}, False),
    ],
)  # fmt: skip
def test_json_filters(value: dict[str, Any], holds: bool) -> None:
    assert meets(DOCUMENT, read_filter(value)) is holds
    assert meets(DOCUMENT, read_filter(json.dumps(value))) is holds


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({}, "`filter.type` is None"),
        ({"type": "equal", "key": "a", "value": 1}, "known: eq, ne"),
        ({"type": "eq", "key": "", "value": 1}, "`filter.key`"),
        ({"type": "eq", "key": "a"}, "`filter.value` is missing"),
        ({"type": "eq", "key": "a", "value": [1]}, "neither text nor number"),
        ({"type": "eq", "key": "a", "value": None}, "neither text nor number"),
        ({"type": "eq", "key": "a", "value": float("inf")}, "neither text nor number"),
        ({"type": "gt", "key": "a", "value": True}, "neither text nor number"),
        ({"type": "in", "key": "a", "value": "x"}, "no list"),
        ({"type": "in", "key": "a", "value": [{}]}, "no list"),
        ({"type": "eq", "key": "a", "value": 1, "and": []}, "has 'and'"),
        ({"type": "and", "filters": []}, "`filter.filters`"),
        ({"type": "and", "filters": [{"type": "or", "filters": ["x"]}]}, "`filter.filters[0].filters[0]` is no object"),
        ({"op": "is", "value": 1}, "names no property"),
        ({"op": "like", "field": "a"}, "`filter`"),
        ('{"type": ', "no JSON"),
    ],
)  # fmt: skip
def test_json_errors_name_the_member(value: Any, says: str) -> None:
    with pytest.raises(BadFilter) as caught:
        read_filter(value)
    assert says in str(caught.value)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    value: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
    for _ in range(40):
        value = {"type": "and", "filters": [value]}
    with pytest.raises(BadFilter, match="deep"):
        read_filter(value)
    with pytest.raises(BadFilter):
        read_filter('{"type":"and","filters":[' * 20_000)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_bad_filter(text: str) -> None:
    try:
        condition = read_filter(text)
    except BadFilter as error:
        position = error.fields.get("position", 0)
        if not 0 <= position <= len(text):
            pytest.fail(f"{position} is no place in {text!r}")
    else:
        meets(DOCUMENT, condition)


FIELDS = ["language", "year", "tag", "editor", "modified", "released"]
VALUES = st.sampled_from(["de", "2024", "draft", "2026-01-31", 2024, 0.5, True, ""])
leaves = st.builds(
    Condition,
    op=st.sampled_from(["is", "not", "lt", "lte", "gt", "gte", "prefix"]),
    field=st.sampled_from(FIELDS),
    value=VALUES,
) | st.builds(
    Condition, op=st.sampled_from(["any", "none"]), field=st.sampled_from(FIELDS), value=st.lists(VALUES)
)
trees = st.recursive(
    leaves | st.builds(Condition, op=st.just("exists"), field=st.sampled_from(FIELDS), value=st.booleans()),
    lambda inner: st.builds(
        Condition, op=st.sampled_from(["all_of", "any_of", "none_of"]), parts=st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_a_negation_holds_exactly_when_the_condition_does_not(condition: Condition) -> None:
    assert meets(DOCUMENT, negate(condition)) is not meets(DOCUMENT, condition)


@pytest.mark.parametrize(
    "value", ["", "x", "2026-02-30", "2026-1-1", "20260101", None, True, [], "9999-12-31T25:00"]
)
def test_what_is_no_date_has_no_period(value: Any) -> None:
    assert read_period(value) is None


def test_the_last_month_and_the_last_year_have_ends() -> None:
    period = read_period("2026-12")
    assert period is not None
    assert period[1] == nanoseconds("2027-01-01T00:00")
    assert read_period("9999") is None  # a year after it cannot be told


def test_a_property_that_no_document_has_is_noted_with_the_nearest_name() -> None:
    shelf = make_shelf(
        {"a.md": ["tea"], "b.md": ["tea"]},
        {
            "a.md": Properties(values={"author": "Ada"}),
            "b.md": Properties(values={"codename": "x"}, readers=["user:x"]),
        },
    )
    asked = ChosenScope(conditions=[read_filter("auther:Ada")], principals=[])
    ranked = shelf.search("tea", scope=asked)
    assert ranked.passages == ()
    assert ranked.notes == ("no document has a property 'auther' (Did you mean 'author'?)",)


def test_a_note_does_not_tell_of_properties_that_only_others_may_see() -> None:
    shelf = make_shelf(
        {"a.md": ["tea"], "b.md": ["tea"]}, {"b.md": Properties(values={"codename": "x"}, readers=["user:x"])}
    )
    for field in ("codename", "codenames"):
        asked = ChosenScope(conditions=[read_filter(f"{field}:x")], principals=["user:y"])
        assert shelf.search("tea", scope=asked).notes == (f"no document has a property {field!r}",)


def test_narrow_filters_bring_k_all_the_same() -> None:
    """Filters choose before the search, so few candidates of each kind are no reason for fewer than k (pgvector's
    index scans filter afterwards and come back short)."""
    from penstock.spec.knowledge import SearchRecipe  # keeps the table above short

    shelf = make_shelf(
        {f"{n:03}.md": ["tea " * (1 + n % 3)] for n in range(300)},
        {f"{n:03}.md": Properties(values={"rare": n % 60 == 0}) for n in range(300)},
    )
    scope = ChosenScope(conditions=[read_filter("rare:true")])
    ranked = shelf.search("tea", 5, scope=scope, recipe=SearchRecipe(n_candidates=5))
    assert len(ranked.passages) == 5
    assert ranked.shortfall is None


@pytest.mark.parametrize(
    "told",
    [
        {"op": "any_of", "parts": [{"op": "is", "field": "path", "value": str(n)} for n in range(300)]},
        {
            "type": "or",
            "filters": [{"op": "all_of", "parts": [{"op": "is", "field": "a", "value": 1}] * 90}] * 3,
        },
        {"type": "in", "key": "path", "value": [str(n) for n in range(2000)]},
    ],
)
def test_a_filter_has_bounds_in_each_of_its_forms(told: dict[str, Any]) -> None:
    with pytest.raises(BadFilter, match="at most"):
        read_filter(told)


@pytest.mark.parametrize("kind", ["gt", "ne", "eq"])
def test_a_moment_that_is_no_date_is_refused_in_json_too(kind: str) -> None:
    with pytest.raises(BadFilter, match="no date"):
        read_filter({"type": kind, "key": "modified", "value": "yesterday"})
