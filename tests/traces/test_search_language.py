"""What people write into the search bar, what it means, and where an error points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec.search import All, Compare, Condition, Either, Negated, Related, Words
from penstock.spec.search_fields import BY_NAME, FIELDS, PREFIXES
from penstock.traces.search import SearchInvalid, parse, render
from penstock.traces.search.parser import MAX_CHARS, MAX_DEPTH, MAX_PARTS

DAY = 86_400_000_000_000
NOV_20_2026 = 1_795_132_800_000_000_000


def eq(field: str, value: str | float) -> Compare:
    return Compare(field, "=", value)


MEANINGS: list[tuple[str, Condition]] = [
    ("", All()),
    ("  ", All()),
    ("kind:llm", eq("kind", "llm")),
    ("kind=LLM", eq("kind", "llm")),
    ("latency>2s", Compare("duration", ">", 2000)),
    ("duration > 1.5m", Compare("duration", ">", 90_000)),
    ("ttft<300ms", Compare("ttft", "<", 300)),
    ("duration:>=0", Compare("duration", ">=", 0)),
    ("cost>=$0.01", Compare("cost", ">=", 0.01)),
    ("tokens>10k", Compare("tokens", ">", 10_000)),
    ("http_status:429,503", Either((eq("http_status", 429), eq("http_status", 503)))),
    ("duration:1s..5s", All((Compare("duration", ">=", 1000), Compare("duration", "<=", 5000)))),
    ("tokens:..100", Compare("tokens", "<=", 100)),
    ("age<2h", Compare("age", "<", 7_200_000)),
    ("start>=2026-11-20", Compare("start", ">=", NOV_20_2026)),
    ("start>2026-11-20", Compare("start", ">=", NOV_20_2026 + DAY)),
    ("start<=2026-11-20", Compare("start", "<", NOV_20_2026 + DAY)),
    ("start>=2026-11-20T02:00+02:00", Compare("start", ">=", NOV_20_2026)),
    (
        "start:2026-11-20",
        All((Compare("start", ">=", NOV_20_2026), Compare("start", "<", NOV_20_2026 + DAY))),
    ),
    ("model:gpt-4*", Compare("model", "starts", "gpt-4")),
    ("model:*mini*", Compare("model", "contains", "mini")),
    ("model:*mini", Compare("model", "matches", "(?is)^.*mini$")),
    ('name:"a * b"', eq("name", "a * b")),
    ('name:*"two words"*', Compare("name", "contains", "two words")),
    ("name~^chat", Compare("name", "matches", "^chat")),
    ("any(name~(foo|bar))", Related("any", Compare("name", "matches", "(foo|bar)"))),
    ("name!~^chat", Negated(Compare("name", "matches", "^chat"))),
    ("user:none", Negated(Compare("user", "exists"))),
    ("user:*", Compare("user", "exists")),
    ("-has:user", Negated(Compare("user", "exists"))),
    ('user:"none"', eq("user", "none")),
    ("user!=bob", Compare("user", "!=", "bob")),
    ("-user:bob", Compare("user", "!=", "bob")),
    ("user!=a,b", Negated(Either((eq("user", "a"), eq("user", "b"))))),
    ("streamed:yes", eq("streamed", True)),
    ("refund", Words("refund")),
    ('"two words"', Words("two words")),
    ("*refund*", Words("refund")),
    ("10:30", Words("10:30")),
    ('input:"refund, please"', Words("refund, please", "input")),
    ("output:sorry", Words("sorry", "output")),
    ("has:input", Compare("input", "exists")),
    ("text:kind", Words("kind")),
    ("attr.gen_ai.request.temperature>0.5", Compare("attr.gen_ai.request.temperature", ">", 0.5)),
    ('attr."two words":x', eq("attr.two words", "x")),
    ("attr.n:5", eq("attr.n", 5)),
    ('attr.n:"5"', eq("attr.n", "5")),
    ("score.helpful<0.5", Compare("score.helpful", "<", 0.5)),
    ("score.verdict:bad", eq("score.verdict", "bad")),
    ("has:score", Compare("score.", "exists")),
    ("version.prompt:triage:3", eq("version.prompt:triage", "3")),
    ("has:version.prompt:triage", Compare("version.prompt:triage", "exists")),
    ("trace:4BF9*", Compare("trace", "starts", "4bf9")),
    ("span:00f067aa0ba902b7", eq("span", "00f067aa0ba902b7")),
    ("a b", All((Words("a"), Words("b")))),
    ("a AND b", All((Words("a"), Words("b")))),
    ("a OR b c", Either((Words("a"), All((Words("b"), Words("c")))))),
    ("(a OR b) c", All((Either((Words("a"), Words("b"))), Words("c")))),
    ("NOT (a b)", Negated(All((Words("a"), Words("b"))))),
    ("--a", Words("a")),
    (
        "any(kind:retrieval passages=0)",
        Related("any", All((eq("kind", "retrieval"), eq("passages", 0)))),
    ),
    ("status:ok child(status:error)", All((eq("status", "ok"), Related("child", eq("status", "error"))))),
    ("count(kind:tool) > 3", Related("any", eq("kind", "tool"), ">", 3)),
    ("count(child(kind:tool))>=2", Related("child", eq("kind", "tool"), ">=", 2)),
    ("child(kind:tool)=0", Related("child", eq("kind", "tool"), "=", 0)),
    ("count()>100", Related("any", All(), ">", 100)),
    ("any(parent(kind:agent))", Related("any", Related("parent", eq("kind", "agent")))),
    ("count(kind:tool parent(kind:agent))>1", Related("any", All((eq("kind", "tool"), Related("parent", eq("kind", "agent")))), ">", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), MEANINGS, ids=[text or "nothing" for text, _ in MEANINGS])
def test_a_search_means_what_it_reads_like_and_is_written_back_as_itself(
    text: str, meaning: Condition
) -> None:
    assert parse(text) == meaning
    assert parse(render(meaning)) == meaning


@pytest.mark.parametrize(
    ("text", "marked", "told"),
    [
        ("kidn:llm", "kidn", "Did you mean 'kind'?"),
        ("status:ok kind:lm", "lm", "Did you mean 'llm'?"),
        ("has:usr", "usr", "Did you mean 'user'?"),
        ("chlid(status:error)", "chlid", "Did you mean 'child'?"),
        ("duration>2", "2", "with its unit"),
        ("duration>soon", "soon", "with its unit"),
        ("cost:cheap", "cheap", "dollars"),
        ("tokens:many", "many", "a number"),
        ("start>yesterday", "yesterday", "2026-11-20"),
        ("start>2026-13-01", "2026-13-01", "a date or a time"),
        ("age:2h", "2h", "age<2h"),
        ("streamed:maybe", "maybe", "yes or no"),
        ("kind>llm", ">", "no order"),
        ("trace:xyz", "xyz", "0 to f"),
        ("kind:l*m", "l*m", "takes no *"),
        ("re*fund", "re*fund", "within words"),
        ("duration~2", "~", "regular expression"),
        ("name~(", "(", "cannot be read"),
        (r"name~(a)\1", r"(a)\1", "not possible"),
        ("name~(a{1000}){1000}", "(a{1000}){1000}", "repetition"),
        ("name~(?=a)", "(?=a)", "not possible"),
        ("name:", " ", "must follow"),
        ("name:a,", " ", "must follow"),
        ('"open', '"open', "not closed"),
        ("(a", "(", "not closed"),
        ("a)", ")", "closes nothing"),
        ("a OR", " ", "must stand here"),
        ("OR a", "OR", "must stand here"),
        ("a AND", " ", "must stand here"),
        ("- a", "-", "at once"),
        ("a or b", "or", 'Write OR, or "or" in quotes'),
        (">5", ">", "name of a field"),
        ("parent(kind:llm)", "parent", "any(parent("),
        ("count(kind:tool)", ")", "count(kind:tool)>3"),
        ("count(kind:tool)>x", "x", "whole number"),
        ("any (kind:tool)", "any", "at once"),
        ("version.prompt:3", "version.prompt:3", "Add a value"),
        ("version.prompt>3", "version.prompt", "version.KIND:NAME"),
        ("attr.:3", "attr.", "must follow"),
        ("has:kind:llm", ":", "no value"),
        ("input:~x", "~", "regular expression"),
    ],
)
def test_an_error_points_at_the_characters_and_says_what_to_do(text: str, marked: str, told: str) -> None:
    with pytest.raises(SearchInvalid) as caught:
        parse(text)
    error = caught.value
    start, length = error.fields["position"], error.fields["length"]
    assert (text + " ")[start : start + length].startswith(marked.strip() or " ")
    assert told in f"{error.message} {error.hint}"
    assert error.code == "PS-1961"


def test_what_would_cost_without_bound_is_refused() -> None:
    for text in (
        "a" * (MAX_CHARS + 1),
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "-" * (MAX_DEPTH + 2) + "a",
        "NOT " * (MAX_DEPTH + 2) + "a",
        " ".join(["a"] * (MAX_PARTS + 1)),
        "model:" + ",".join(["a"] * (MAX_PARTS + 2)) + " b",
        "name:" + "a" * 501,
        "name~" + "a" * 201,
        "any(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1),
        "a\0b",
    ):
        with pytest.raises(SearchInvalid):
            parse(text)
    with pytest.raises(SearchInvalid):
        parse("descendant(kind:llm) ancestor(kind:llm) descendant(kind:tool)", subject="span")


def test_the_parent_of_a_span_can_be_asked_for_in_a_list_of_spans() -> None:
    assert parse("parent(kind:agent)", subject="span") == Related("parent", eq("kind", "agent"))


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_each_example_of_the_field_table_can_be_read_and_asks_for_its_field(field: object) -> None:
    assert field.name in BY_NAME  # type: ignore[attr-defined]
    found = parse(field.example)  # type: ignore[attr-defined]
    assert field.name in repr(found)  # type: ignore[attr-defined]


def test_each_example_of_a_prefix_can_be_read() -> None:
    for start, _, example in PREFIXES:
        assert start in repr(parse(example))


@given(st.text(alphabet=st.sampled_from("abk:i n\"d()-*~<>=,.OR!\\0%'€"), max_size=40))
def test_any_text_is_read_or_refused_with_a_place_within_it(text: str) -> None:
    found, refused = read_or_refused(text)
    if refused is not None:
        assert 0 <= refused.fields["position"] <= len(text)
        assert refused.fields["query"] == text
    else:
        assert parse(render(found)) == found


def read_or_refused(text: str) -> tuple[Condition, SearchInvalid | None]:
    try:
        return parse(text), None
    except SearchInvalid as error:
        return All(), error


scalars = st.one_of(
    st.builds(eq, st.sampled_from(["name", "model", "user", "tag"]), st.text(min_size=1, max_size=8)),
    st.builds(
        Compare,
        st.sampled_from(["name", "service", "attr.a b", "version.prompt:x"]),
        st.sampled_from(["contains", "starts"]),
        st.text(min_size=1, max_size=8),
    ),
    st.builds(
        Compare,
        st.sampled_from(["duration", "tokens", "cost", "attr.x", "score.é", "age"]),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.integers(0, 10**9) | st.floats(0, 1e9).map(lambda number: round(number, 6)),
    ),
    st.builds(eq, st.sampled_from(["attr.x", "score.y"]), st.text(min_size=1, max_size=8)),
    st.builds(Compare, st.sampled_from(["user", "attr.x", "score.y", "input"]), st.just("exists")),
    st.builds(
        Words, st.text(min_size=1, max_size=8).filter(str.strip), st.sampled_from(["anywhere", "input"])
    ),
)
trees = st.recursive(
    scalars.filter(lambda leaf: "\0" not in repr(leaf) and "\\x00" not in repr(leaf)),
    lambda inner: st.one_of(
        st.builds(lambda parts: All(tuple(parts)), st.lists(inner, max_size=3)),
        st.builds(lambda parts: Either(tuple(parts)), st.lists(inner, max_size=3)),
        st.builds(Negated, inner),
        st.builds(
            Related,
            st.sampled_from(["any", "child", "root"]),
            inner,
            st.sampled_from(["=", "!=", "<", ">=", ">"]),
            st.integers(0, 5),
        ),
    ),
    max_leaves=8,
)


@given(trees)
def test_any_condition_is_written_so_that_it_reads_back_to_the_same_text(tree: Condition) -> None:
    text = render(tree)
    assert render(parse(text)) == render(parse(render(parse(text))))


@pytest.mark.parametrize(
    "text", ["metadata.plan:pro", 'metadata."my plan":pro', "metadata.turn>2", "has:metadata.plan"]
)
def test_metadata_is_asked_by_name_and_written_back_as_it_was(text: str) -> None:
    assert render(parse(text)) == text
