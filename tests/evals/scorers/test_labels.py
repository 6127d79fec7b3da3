"""Labels of classes: what belongs to a label tells it apart, what stands around an answer does not."""

import pytest

from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.types import Preparable
from penstock.spec.cases import Case, Output
from tests.evals.scorers.judging import ask, figure_of, judge, make


@pytest.mark.parametrize(
    ("expected", "answer"),
    [("-1", "1"), ("1", "-1"), ("C#", "C"), ("C", "C#"), ("#a", "a"), ("A+", "A"), ("50%", "50"), ("", "a")],
)
def test_labels_that_differ_by_a_sign_are_two_labels(expected: str, answer: str) -> None:
    assert judge("accuracy", answer, expected).value == 0.0
    assert judge("accuracy", answer, expected, labels=[expected, answer]).value == 0.0
    assert judge("accuracy", f" {expected} ", expected, labels=[expected, answer]).value == 1.0


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("1", "1"),
        ("-1", "-1"),
        ("\u22121.", "-1"),
        ("**-1**", "-1"),
        ("- -1", "-1"),
        ("'1'", "1"),
        ("`0`!", "0"),
        ("(0)", "0"),
        ("2", "(none)"),
        ("--1", "(none)"),
    ],
)
def test_marks_around_an_answer_do_not_count_and_signs_do(answer: str, label: str) -> None:
    assert judge("accuracy", answer, "-1", labels=["-1", "0", "1"]).label == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("the sentiment is -1", "-1"),
        ("the sentiment is 1.", "1"),
        ("1.5 of 0", "0"),
        ("written in C#, mostly", "C#"),
        ("written in C++", "(none)"),
        ("written in C.", "C"),
    ],
)
def test_mentions_do_not_lose_their_signs(answer: str, label: str) -> None:
    labels = ["-1", "0", "1"] if any(char.isdigit() for char in answer) else ["C", "C#"]
    assert judge("accuracy", answer, labels[0], labels=labels, find="last").label == label


def test_marks_of_labels_may_be_left_out_where_one_label_remains() -> None:
    assert judge("accuracy", "a", "(a)", labels=["(a)", "(b)"]).value == 1.0
    assert judge("accuracy", "(a)", "a", labels=["a", "b"]).value == 1.0
    assert judge("accuracy", "'a'", "a.", labels=["a.", "a!"]).label == "(none)"


def test_labels_that_are_one_are_refused_when_named_and_joined_when_found_in_cases() -> None:
    with pytest.raises(BadScorerParameters, match="two spellings"):
        make("f1", labels=["Yes", "yes", "no"])
    make("f1", labels=["Yes", "yes", "no"], ignore_case=False)
    assert figure_of("kappa", [("yes", "Yes"), ("yes", "yes"), ("No", "no"), ("no", "yes")]) == 0.5
    scorer = make("f1")
    assert isinstance(scorer, Preparable)
    cases = [Case(id="1", expected="Yes"), Case(id="2", expected="yes")]
    prepared = scorer.prepare(cases)
    assert prepared.info.parameters["labels"] == ["Yes"] or prepared.info.parameters["labels"] == ("Yes",)
    assert ask(prepared, cases[1], Output(case_id="2", text="YES")).value == 1.0
