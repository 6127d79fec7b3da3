"""How figures of evaluations read and where their marks are drawn."""

import pytest

from penstock.console.interval_marks import (
    count_bins,
    mark_difference,
    mark_estimate,
    reaches,
    scale_of_estimates,
)
from penstock.console.score_words import (
    explain_missing,
    format_difference,
    format_interval,
    format_score,
    format_share_of,
    say_comparison,
    say_method,
)
from penstock.spec.evaluations import Comparison, Estimate

F1 = Estimate(name="token_f1", value=0.714, low=0.661, high=0.762, n=96, n_cases=100, n_errors=4)
BETTER = Comparison(
    name="token_f1",
    baseline=0.66,
    candidate=0.701,
    difference=0.041,
    low=0.012,
    high=0.07,
    n_pairs=214,
    word="better",
)


@pytest.mark.parametrize(
    ("value", "scale", "unit", "text"),
    [
        (None, "binary", None, "–"),
        (0.714, "binary", None, "71.4 %"),
        (0.714, "bounded", None, "0.714"),
        (0.05, "bounded", "share", "5.0 %"),
        (-0.0001, "bounded", None, "0.000"),
        (-0.25, "bounded", None, "−0.250"),
        (412.0, "unbounded", "ms", "412 ms"),
        (0.0021, "unbounded", "usd", "$0.0021"),
        (-0.0021, "unbounded", "usd", "−$0.0021"),
        (38.25, "unbounded", "words", "38.25 words"),
        (1200.0, "unbounded", "tokens", "1,200 tokens"),
        (3.5, "bounded", None, "3.5"),
    ],
)
def test_a_value_reads_with_its_unit(value: float | None, scale: str, unit: str | None, text: str) -> None:
    assert format_score(value, scale=scale, unit=unit) == text


def test_an_interval_reads_in_the_unit_of_its_value() -> None:
    assert format_interval(F1) == "0.661 to 0.762"
    assert (
        format_interval(Estimate(name="exact", value=0.5, low=0.4, high=0.6, scale="binary"))
        == "40.0 to 60.0 %"
    )
    assert format_interval(Estimate(name="exact", value=0.5, scale="binary")) == ""
    assert format_interval(BETTER) == "1.2 to 7.0"


def test_a_comparison_reads_as_a_sentence_and_never_says_more_than_it_knows() -> None:
    assert (
        say_comparison(BETTER, "v6", "v7")
        == "v7 beats v6 in token_f1 by 4.1 points (95 % interval 1.2 to 7.0, 214 paired cases)."
    )
    undecided = Comparison(
        name="exact",
        baseline=0.5,
        candidate=0.51,
        difference=0.01,
        low=-0.018,
        high=0.028,
        n_pairs=200,
        detectable=0.039,
        scale="binary",
    )
    assert say_comparison(undecided, "v6", "v7") == (
        "exact: undecided. v7 − v6 is +1.0 point (95 % interval −1.8 to 2.8, 200 paired cases); "
        "so many cases show a difference from about 3.9 points on."
    )
    invalid = Comparison(
        name="exact", baseline=None, candidate=None, difference=None, word="invalid", reason="no pairs"
    )
    assert say_comparison(invalid, "v6", "v7") == "exact: no verdict. no pairs."
    alike = Comparison(name="exact", baseline=1.0, candidate=1.0, difference=0.0, n_pairs=7, n_ties=7)
    assert say_comparison(alike, "v6", "v7") == "exact: undecided. v7 and v6 are alike in all 7 paired cases."


def test_a_difference_of_what_has_a_unit_is_told_in_it_and_one_of_a_wide_scale_not_in_points() -> None:
    slower = Comparison(
        name="latency_ms", baseline=400.0, candidate=520.0, difference=120.0, scale="unbounded", unit="ms"
    )
    assert format_difference(slower) == "+120 ms"
    rubric = Comparison(name="rubric", baseline=3.5, candidate=4.0, difference=0.5)
    assert format_difference(rubric) == "+0.500"


def test_what_is_missing_is_explained() -> None:
    empty = Estimate(name="exact", value=None, n_cases=10, n_undefined=6, n_errors=4)
    assert explain_missing(empty) == "None of 10 cases has a score: 6 undefined, 4 failed."
    assert explain_missing(Estimate(name="exact", value=1.0, n=1, n_cases=1)) == "No interval from 1 case."
    assert explain_missing(F1) == ""
    assert "96 of 100 cases" in say_method(F1)
    assert [format_share_of(*each) for each in ((0, 0), (10, 10), (999, 1000), (1, 1000), (0, 5))] == [
        "–",
        "100 %",
        "99 %",
        "1 %",
        "0 %",
    ]


def test_shares_are_drawn_on_the_whole_range_and_differences_around_zero() -> None:
    scale = scale_of_estimates([F1])
    mark = mark_estimate(F1, scale, "")
    assert mark is not None
    assert (scale, mark.low, mark.at, mark.high) == ((0.0, 1.0), 66.1, 71.4, 76.2)
    assert mark_estimate(Estimate(name="x", value=None), scale, "") is None
    reach = reaches([BETTER])["points"]
    gap = mark_difference(BETTER, reach, "")
    assert gap is not None
    assert gap.low is not None
    assert gap.zero == 50.0
    assert gap.low > 50.0
    assert gap.tone == "better"


def test_one_wild_interval_does_not_flatten_the_others() -> None:
    wild = Comparison(name="rare", baseline=0.5, candidate=0.5, difference=0.0, low=-0.9, high=0.9)
    usual = [BETTER, BETTER, BETTER]
    assert reaches([*usual, wild])["points"] < 0.3


def test_bins_hold_every_value_both_ends_included() -> None:
    assert count_bins([0.0, 0.5, 1.0, 1.0], (0.0, 1.0), n_bins=4) == [1, 0, 1, 2]
    assert sum(count_bins([3.0, 3.0], (3.0, 3.0), n_bins=4)) == 2
