"""Text scorers: what each says of good, bad, empty and foreign answers, and when it says nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.evals.scorers.catalogue import KINDS, list_scorers
from penstock.evals.scorers.errors import BadScorerParameters, UnknownScorer
from penstock.evals.scorers.matching import find_numbers
from penstock.evals.scorers.words import split_words
from penstock.spec.cases import Case, Output, OutputError, Passage
from tests.evals.scorers.judging import ask, figure_of, judge, make

COMPARING = (
    "exact",
    "contains",
    "levenshtein",
    "token_f1",
    "rouge_1",
    "rouge_l",
    "rouge_lsum",
    "bleu",
    "chrf",
)
TEXTS = (
    "The cat sat on the mat.",
    "बिल्ली चटाई पर बैठी थी।",
    "猫坐在垫子上。",
    "แมวนั่งบนเสื่อ",
    "Кот сидел на коврике.",
    "القطة جلست على السجادة",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", COMPARING)
def test_a_text_beside_itself_is_best_in_every_script(name: str, text: str) -> None:
    info = make(name).info
    assert judge(name, text, text).value == pytest.approx(info.high)


@pytest.mark.parametrize("name", COMPARING)
def test_an_empty_answer_is_worst_and_no_reference_is_undefined(name: str) -> None:
    assert judge(name, "", "cat").value == 0.0
    unknown = judge(name, "cat", None)
    assert (unknown.status, unknown.value) == ("undefined", None)
    assert "no expected answer" in str(unknown.reason)
    assert judge(name, "cat", []).status == "undefined"
    assert judge(name, "cat", {"a": 1}).status == "undefined"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_values_stay_within_their_bounds_whatever_the_texts(text: str, expected: str) -> None:
    for name in COMPARING:
        score = judge(name, text, expected)
        info = KINDS[name].describe(KINDS[name].parameters())
        assert score.status in {"scored", "undefined"}
        if score.value is not None:
            assert info.low - 1e-9 <= score.value <= info.high + 1e-9, name


@pytest.mark.parametrize("name", ["exact", "token_f1", "rouge_l", "bleu", "levenshtein"])
def test_the_best_of_several_acceptable_answers_counts(name: str) -> None:
    best = judge(name, "a warm grey cat", "a warm grey cat").value
    assert judge(name, "a warm grey cat", ["a cold dog", "a warm grey cat"]).value == best


def test_order_matters_to_sequences_and_not_to_bags_of_words() -> None:
    text, mixed = "one two three four", "four three two one"
    assert judge("rouge_1", mixed, text).value == judge("token_f1", mixed, text).value == 1.0
    assert judge("rouge_l", mixed, text).value == 0.25


def test_words_are_found_in_scripts_with_marks_and_without_spaces() -> None:
    assert split_words("बिल्ली चटाई") == ["बिल्ली", "चटाई"]
    assert split_words("猫坐。") == ["猫", "坐"]
    assert split_words("Straße ﬁne CAFÉ cafe\u0301") == ["strasse", "fine", "café", "café"]
    assert judge("rouge_1", "हिन्दी पाठ", "हिन्दी पाठ", tokenizer="rouge_score").status == "undefined"


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert judge("exact", "cafe\u0301", "café").value == 1.0
    assert judge("contains", "un cafe\u0301 noir", "café").value == 1.0


@pytest.mark.parametrize(
    ("text", "expected", "parameters", "value"),
    [
        ("Paris", "paris", {}, 0.0),
        ("  Paris\n", "Paris", {}, 1.0),
        (
            "The Paris!",
            "paris",
            {"ignore_case": True, "ignore_punctuation": True, "ignore_articles": True},
            1.0,
        ),
        ("So it is.\nAnswer: B", "B", {"extract": r"Answer: (\w)"}, 1.0),
        ("Nothing of the kind", "B", {"extract": r"Answer: (\w)"}, 0.0),
        ('{"answer": {"city": ["Rome", "Paris"]}}', "Paris", {"pointer": "/answer/city/1"}, 1.0),
        ('```json\n{"a": 3}\n```', 3, {"pointer": "/a"}, 1.0),
    ],
)
def test_exact_reads_the_part_that_is_asked_for(
    text: str, expected: Any, parameters: dict[str, Any], value: float
) -> None:
    assert judge("exact", text, expected, **parameters).value == value


@pytest.mark.parametrize(
    ("text", "expected", "parameters", "value"),
    [
        ("The sum is 1,234.50 euros.", 1234.5, {}, 1.0),
        ("3 apples and 4 pears make 7", "7", {}, 1.0),
        ("3 apples and 4 pears make 7", 3, {"pick": "first"}, 1.0),
        ("3 or 4", 4, {"pick": "only"}, 0.0),
        ("1.234,5", 1234.5, {"decimal_mark": ","}, 1.0),
        ("about 3.2", 3.14159, {"absolute": 0.1}, 1.0),
        ("about 3.3", 3.14159, {"absolute": 0.1}, 0.0),
        ("102", 100, {"relative": 0.03}, 1.0),
        ("−5", -5, {}, 1.0),
        ("6.02e23", 6.02e23, {}, 1.0),
        ("no idea", 4, {}, 0.0),
        ("1e999", 4, {}, 0.0),
    ],
)
def test_numeric_finds_the_number_and_holds_it_to_the_tolerance(
    text: str, expected: Any, parameters: dict[str, Any], value: float
) -> None:
    assert judge("numeric", text, expected, **parameters).value == value


def test_numbers_are_read_as_people_write_them() -> None:
    assert find_numbers("x = -1.5, y=.25; v1.2.3, 1.2.4, 10\u00a0000 km, 50%, 7-3") == [
        -1.5,
        0.25,
        10000.0,
        50.0,
        7.0,
        3.0,
    ]
    assert judge("numeric", "4", "four").status == "undefined"
    assert judge("numeric", "1", True).status == "undefined"


def test_patterns_run_on_re2_and_what_it_cannot_do_is_told() -> None:
    assert judge("regex", "Order 66-A", pattern=r"\d{2}-[A-Z]").evidence["match"] == "66-A"
    assert judge("regex", "order", pattern="ORDER", ignore_case=True).value == 1.0
    assert judge("regex", "an order", pattern="order", match="full").value == 0.0
    assert judge("regex", "a" * 50_000 + "!", pattern="(a+)+$").value == 0.0
    with pytest.raises(BadScorerParameters, match="look-around"):
        make("regex", pattern="(?=x)")


def test_contains_knows_any_all_share_and_whole_words() -> None:
    values = ["cat", "dog"]
    assert judge("contains", "a cat", values=values).value == 1.0
    assert judge("contains", "a cat", values=values, mode="all").value == 0.0
    assert judge("contains", "a cat", values=values, mode="share").value == 0.5
    assert judge("contains", "concatenate", values=["cat"]).value == 1.0
    assert judge("contains", "concatenate", values=["cat"], whole_words=True).value == 0.0
    assert judge("starts_with", "Dear reader", values=["Dear"]).value == 1.0
    assert judge("ends_with", "Dear reader", values=["Dear"]).value == 0.0


def test_not_and_threshold_turn_any_scorer() -> None:
    assert judge("contains", "a dog", values=["cat"], **{"not": True}).value == 1.0
    assert judge("token_f1", "a b c", "a b d", threshold=0.6).value == 1.0
    assert judge("token_f1", "a b c", "a b d", threshold=0.7).value == 0.0
    assert judge("exact", "x", None, **{"not": True}).status == "undefined"
    turned = make("bleu", threshold=40)
    assert (turned.info.scale, turned.info.high, turned.figure) == ("binary", 1.0, None)
    assert turned.info.stamp != make("bleu").info.stamp
    with pytest.raises(BadScorerParameters, match="threshold"):
        make("bleu", **{"not": True})
    fast = make("latency", threshold=500)
    assert fast.info.direction == "higher"
    assert ask(fast, Case(id="1"), Output(case_id="1", text="", latency_ms=400)).value == 1.0


def test_the_stamp_tells_parameters_apart_and_nothing_else() -> None:
    assert make("token_f1").info.stamp == make("token_f1", tokenizer="unicode").info.stamp
    assert make("token_f1").info.stamp != make("token_f1", tokenizer="squad").info.stamp
    assert len({info.stamp for info in list_scorers()}) == len(list_scorers())


def test_wrong_names_and_parameters_say_what_is_right() -> None:
    with pytest.raises(UnknownScorer, match="Did you mean 'token_f1'"):
        make("tokenf1")
    with pytest.raises(BadScorerParameters, match="unknown field"):
        make("exact", ignorecase=True)
    with pytest.raises(BadScorerParameters, match="at least 1"):
        make("retrieval_recall", k=0)


def test_a_failed_output_is_an_error_of_the_target_and_a_skipped_one_is_skipped() -> None:
    failed = Output(case_id="1", status="error", error=OutputError(code="429", message="slow down"))
    score = ask(make("exact"), Case(id="1", expected="x"), failed)
    assert (score.status, score.fault, score.value) == ("error", "target", None)
    assert "slow down" in str(score.reason)
    assert (
        ask(make("exact"), Case(id="1", expected="x"), Output(case_id="1", status="skipped")).status
        == "skipped"
    )
    assert ask(make("error_rate"), Case(id="1"), failed).value == 1.0


def test_every_scorer_says_what_it_measures_and_when_it_is_undefined() -> None:
    for info in list_scorers():
        assert info.summary.endswith("."), info.name
        assert info.scale != "bounded" or (info.low is not None and info.high is not None), info.name
        assert (info.scale == "binary") <= ((info.low, info.high) == (0.0, 1.0)), info.name
        if "expected" in info.needs:
            assert info.undefined_when, info.name


def test_no_scorer_raises_for_strange_content() -> None:
    deep = "[" * 5_000
    outputs = [
        Output(case_id="1", text=text)
        for text in (None, "", "\x00", "\ud800", deep, "1" * 5000, "٣٫١٤", "{}", '{"a": NaN}')
    ] + [
        Output(case_id="1", data={"a": object()}),
        Output(case_id="1", passages=[Passage(text="")], citations=[{}]),
    ]
    for kind in KINDS.values():
        if kind.name == "leak":
            continue
        for expected in (None, "", [], ["a", None], {"a": 1}, 3, True, float("inf")):
            scorer = kind.create({})
            for output in outputs:
                score = ask(scorer, Case(id="1", expected=expected), output)
                assert (score.value is not None) == (score.status == "scored"), kind.name
                assert score.status == "scored" or score.reason, kind.name


def test_labels_are_found_in_sentences_and_what_is_none_is_wrong_and_not_left_out() -> None:
    labels = ["positive", "very positive", "negative"]
    assert judge("accuracy", " Positive. ", "positive").value == 1.0
    assert judge("accuracy", "It is positive", "positive").value == 0.0
    assert judge("accuracy", "It is very positive", "very positive", labels=labels, find="only").value == 1.0
    assert judge("accuracy", "negative, no, positive", "positive", labels=labels, find="last").value == 1.0
    assert judge("accuracy", "negative or positive", "positive", labels=labels, find="only").label == "(none)"
    assert judge("f1", "negative", "neutral", labels=labels).status == "undefined"


def test_a_measure_without_denominator_is_undefined_and_never_zero() -> None:
    assert figure_of("precision", [("nonsense", "a"), ("nonsense", "b")]) is None
    assert figure_of("recall", [("nonsense", "a"), ("nonsense", "b")]) == 0.0
    assert figure_of("kappa", [("a", "a"), ("a", "a")]) is None
    assert figure_of("mcc", [("a", "a"), ("a", "b")]) is None
    assert figure_of("bleu", [("a", "a b c d e")]) is None
    assert (
        figure_of("precision", [("a", "a"), ("b", "a")], average="binary", positive="a", labels=["a", "b"])
        == 1.0
    )
    with pytest.raises(BadScorerParameters, match="positive"):
        make("f1", average="binary")


LOOSE = {"ignore_case": True, "ignore_punctuation": True, "ignore_articles": True}


@pytest.mark.parametrize(
    ("name", "expected", "right", "wrong"),
    [
        ("exact", "A", ("A", "a.", " A "), ("the", "", "B")),
        ("exact", "!!!", ("!!!",), ("???", "")),
        ("contains", "A", ("A", "Answer: A.", "It is (a)"), ("B is right", "Bananas", "")),
        ("contains", "!!!", ("so!!!",), ("nothing", "so!")),
        ("starts_with", "A", ("A. Paris", "a"), ("B. Paris", "Apple", "")),
        ("ends_with", "A", ("It is A.", "a"), ("It is B", "Ana", "")),
        ("starts_with", "the cat", ("A cat sat",), ("dog",)),
    ],
)
def test_what_normalises_to_nothing_is_still_looked_for(
    name: str, expected: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    for text in right:
        assert judge(name, text, expected, **LOOSE).value == 1.0, text
    for text in wrong:
        assert judge(name, text, expected, **LOOSE).value == 0.0, text


@pytest.mark.parametrize("name", ["contains", "starts_with", "ends_with"])
def test_an_empty_text_is_not_looked_for(name: str) -> None:
    assert judge(name, "cat", "").status == "undefined"
    assert judge(name, "cat", ["", "dog"]).value == 0.0
    with pytest.raises(BadScorerParameters, match="empty"):
        make(name, values=["cat", " "])


@pytest.mark.parametrize("tokenizer", ["unicode", "squad"])
def test_signs_are_no_words_and_yet_not_all_the_same(tokenizer: str) -> None:
    for expected, text in (
        ("+", "-"),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"),
        ("!!!", "???"),
        ("", "?"),
    ):
        if tokenizer == "squad" and "\N{THUMBS UP SIGN}" in expected:
            continue  # a word to that script
        assert judge("token_f1", text, expected, tokenizer=tokenizer).value == 0.0
        assert judge("token_f1", expected, expected, tokenizer=tokenizer).value == 1.0


def test_edits_are_counted_where_nothing_would_remain_of_a_text() -> None:
    assert judge("levenshtein", "the", "A", **LOOSE).value == 0.0
    assert judge("levenshtein", "a", "A", **LOOSE).value == 1.0
    assert judge("levenshtein", "-", "+", unit="words").value == 0.0
    assert judge("levenshtein", "", "", unit="words").value == 1.0


def test_numbers_beside_each_other_are_joined_only_where_that_is_asked_for() -> None:
    assert judge("numeric", "In chapter 5 100 people", 100).value == 1.0
    assert judge("numeric", "In chapter 5 100 people", 5100).value == 0.0
    assert judge("numeric", "10 000 km", "10 000", spaced=True).value == 1.0
    assert judge("numeric", "10\u202f000 km", 10_000).value == 1.0
    assert judge("numeric", "5 or 1e999", 5).value == 0.0
    assert judge("numeric", "5 or 1e999", 5, pick="first").value == 1.0
    assert judge("numeric", "5 or 1e999", 5, pick="only").evidence == {"found": [5.0]}


def test_summaries_of_very_many_lines_are_not_compared_line_by_line() -> None:
    text = "one\n" * 1500
    assert judge("rouge_lsum", text, text).status == "undefined"
    assert judge("rouge_lsum", "one\n" * 100, "one\n" * 100).value == 1.0
