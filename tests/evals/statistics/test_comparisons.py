"""Two evaluations case by case: tests, intervals, words, families, power."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.evals.statistics.comparisons import (
    compare,
    compare_slices,
    correct,
    difference_maker,
    threshold_p,
)
from penstock.evals.statistics.families import adjust, simultaneous_level
from penstock.evals.statistics.power import cases_needed, detectable_effect
from penstock.evals.statistics.resampling import flip_signs
from penstock.evals.statistics.shares import mcnemar, paired_shares
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from penstock.spec.evaluations import Comparison
from tests.evals.statistics.draws import BINARY, BOUNDED, LOWER, UNBOUNDED, Ratio, cases_of, ratio_cases


def pairs(n_both: int, gained: int, lost: int, neither: int) -> tuple[list[ScoredCase], list[ScoredCase]]:
    left = [1.0] * n_both + [0.0] * gained + [1.0] * lost + [0.0] * neither
    right = [1.0] * n_both + [1.0] * gained + [0.0] * lost + [0.0] * neither
    return cases_of(left), cases_of(right)


def test_mcnemar_gives_the_published_figures() -> None:
    assert mcnemar(10, 2) == pytest.approx(0.03857, abs=5e-6)
    assert mcnemar(5, 0) == pytest.approx(0.0625)
    assert mcnemar(6, 0) == pytest.approx(0.03125)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0
    assert mcnemar(6, 0, mid_p=True) == pytest.approx(0.015625)
    assert mcnemar(10, 2, mid_p=True) < mcnemar(10, 2)


def test_mcnemar_is_the_binomial_test_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for gained, lost in itertools.product((0, 3, 17, 400), (1, 5, 380)):
        assert mcnemar(gained, lost) == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-8)


def test_newcombes_interval_has_its_known_shape() -> None:
    low, high = paired_shares(36, 12, 2, 0)
    assert (low, high) == pytest.approx((0.0569, 0.3404), abs=5e-4)  # Newcombe 1998, table II, method 10
    assert paired_shares(36, 2, 12, 0) == pytest.approx((-high, -low))
    low, high = paired_shares(50, 0, 0, 50)
    assert low < 0.0 < high, "without a change there is still something to learn"


def test_a_clear_gain_is_better_and_its_mirror_worse() -> None:
    left, right = pairs(120, 30, 8, 56)
    gain, loss = compare(left, right, BINARY), compare(right, left, BINARY)
    assert (gain.word, loss.word) == ("better", "worse")
    assert gain.difference == pytest.approx(22 / 214)
    assert (gain.n_wins, gain.n_losses, gain.n_ties, gain.n_pairs) == (30, 8, 176, 214)
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))  # type: ignore[operator]
    assert gain.p_value == loss.p_value == pytest.approx(mcnemar(30, 8))
    assert compare(left, right, LOWER).word == "worse", "the same difference of a score where low is good"


def test_only_cases_with_a_score_on_both_sides_are_paired() -> None:
    left = [*cases_of([0.1, 0.2, 0.3]), ScoredCase(case_id="only-left", values=[1.0])]
    right = [*cases_of([0.2, 0.3, 0.4]), ScoredCase(case_id="c9", values=[0.0])]
    right[0] = ScoredCase(case_id="c0", n_errors=1)
    found = compare(left, right, BOUNDED)
    assert (found.n_pairs, found.n_only_baseline, found.n_only_candidate) == (2, 2, 1)
    assert (found.baseline, found.candidate, found.difference) == pytest.approx((0.25, 0.35, 0.1))


@pytest.mark.parametrize(
    ("left", "right", "word", "reason"),
    [
        ([], [], "invalid", "no case has a score on both sides"),
        (cases_of([1.0]), [ScoredCase(case_id="c0", n_undefined=1)], "invalid", "no case has a score"),
        (cases_of([0.0]), cases_of([1.0]), "undecided", "no interval: none: one case has no spread"),
        (
            cases_of([0.0, 0.1], ["d", "d"]),
            cases_of([1.0, 0.9], ["d", "d"]),
            "undecided",
            "no interval: none: all cases are in one group",
        ),
    ],
)
def test_what_cannot_be_compared_says_so(
    left: list[ScoredCase], right: list[ScoredCase], word: str, reason: str
) -> None:
    found = compare(left, right, BOUNDED)
    assert (found.word, found.p_value) == (word, None)
    assert found.reason.startswith(reason)


def test_equal_answers_are_undecided_and_bounded() -> None:
    same = cases_of(np.random.default_rng(1).random(200))
    found = compare(same, same, BOUNDED)
    assert (found.word, found.difference, found.p_value, found.n_ties) == ("undecided", 0.0, 1.0, 200)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 200))
    unbounded = compare(same, same, UNBOUNDED)
    assert (unbounded.low, unbounded.word) == (None, "undecided")


def test_rounding_is_no_difference() -> None:
    left = cases_of([0.1 + 0.2] * 30)
    right = cases_of([0.3] * 30)
    found = compare(left, right, BOUNDED)
    assert (found.n_ties, found.p_value, found.word) == (30, 1.0, "undecided")


def test_few_groups_cannot_decide_however_many_cases_they_hold() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(5), 40)
    left = cases_of(rng.uniform(0, 0.3, 200), groups)
    right = cases_of(rng.uniform(0.7, 1.0, 200), groups)
    found = compare(left, right, BOUNDED)
    assert found.p_value == pytest.approx(2 / 2**5), "five signs cannot be rarer than that"
    assert (found.word, found.n_groups) == ("undecided", 5)


def test_flipped_signs_are_exact_for_few_clusters() -> None:
    rng = np.random.default_rng(3)
    sums = np.array([3.0, -1.0, 2.0, 0.5, 4.0, 0.0])
    p, method = flip_signs(sums, rng)
    moved = sums[sums != 0]
    flips = [abs(float(np.dot(signs, moved))) for signs in itertools.product((1, -1), repeat=len(moved))]
    assert p == pytest.approx(np.mean([flip >= abs(moved.sum()) - 1e-12 for flip in flips]))
    assert method == "sign flips, exact"
    assert flip_signs(np.array([0.0, 0.3, 0.0]), rng)[0] == flip_signs(np.zeros(4), rng)[0] == 1.0
    many, method = flip_signs(rng.normal(0.05, 1, 800), rng)
    assert 0.0 < many <= 1.0
    assert method == "sign flips, 10,000"


def test_a_figure_is_compared_by_resampling_both_sides_together() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.geometric(0.1, 200)
    left = ratio_cases([(float(rng.binomial(size, 0.5)), float(size)) for size in sizes])
    right = ratio_cases([(float(rng.binomial(size, 0.6)), float(size)) for size in sizes])
    found = compare(left, right, BOUNDED, figure=Ratio())
    assert found.word == "better"
    assert found.difference == pytest.approx((found.candidate or 0) - (found.baseline or 0))
    assert found.low is not None
    assert 0.0 < found.low < 0.1 < (found.high or 0.0)
    assert compare(left, left, BOUNDED, figure=Ratio()).word == "undecided"


def test_holm_and_bh_are_those_of_the_books() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust([0.01, 0.04, 0.03, 0.005], "bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjust([0.02, None, 0.9]) == pytest.approx([0.04, None, 0.9])
    assert adjust([]) == []
    assert simultaneous_level(0.95, 5) == pytest.approx(0.99)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_correction_never_helps_and_keeps_the_order(p_values: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats")
    holm = adjust(p_values)
    bh = adjust(p_values, "bh")
    assert bh == pytest.approx(list(stats.false_discovery_control(p_values)))
    for p, h, b in zip(p_values, holm, bh, strict=True):
        assert p <= b + 1e-12  # type: ignore[operator]
        assert b <= h + 1e-12  # type: ignore[operator]
    ordered = sorted(zip(p_values, holm, strict=True))
    assert [h for _, h in ordered] == sorted(h for _, h in ordered)  # type: ignore[type-var]


def test_a_family_takes_words_back() -> None:
    left, right = pairs(50, 10, 2, 50)
    one = compare(left, right, BINARY)
    assert one.word == "better"
    family = correct([one, *[compare(left, left, BINARY)] * 3])
    assert (family[0].word, family[0].correction) == ("undecided", "holm")
    assert family[0].p_adjusted == pytest.approx(4 * (one.p_value or 0))


def test_slices_are_one_family() -> None:
    rng = np.random.default_rng(5)
    slices = [f"topic={position % 4}" for position in range(200)]
    left, right = (cases_of(rng.random(200), slices=slices) for _ in range(2))
    found = compare_slices(left, right, BOUNDED)
    assert [each.slice for each in found] == ["topic=0", "topic=1", "topic=2", "topic=3"]
    assert all((each.p_adjusted or 0) >= (each.p_value or 0) for each in found)


def test_the_p_value_of_a_threshold_is_where_the_interval_leaves_it() -> None:
    rng = np.random.default_rng(6)
    left = rng.random(100)
    right = np.clip(left + rng.normal(0.02, 0.1, 100), 0, 1)
    at = difference_maker(cases_of(left), cases_of(right), BOUNDED)
    p = threshold_p(at, -0.01)
    assert p is not None
    stats = pytest.importorskip("scipy.stats")
    assert p == pytest.approx(stats.ttest_1samp(right - left, -0.01).pvalue, rel=1e-3, abs=2e-4)
    assert threshold_p(at, 5.0) == 1e-9, "nothing is resampled, so nothing but arithmetic limits p"
    assert threshold_p(at, float(np.mean(right - left))) == pytest.approx(1.0, abs=1e-3)
    assert threshold_p(difference_maker([], [], BOUNDED), 0.0) is None


def test_a_factor_asks_whether_a_cost_grew_by_more_than_a_share() -> None:
    rng = np.random.default_rng(7)
    left = rng.uniform(1, 3, 200)
    grown = cases_of(left * 1.05 * rng.lognormal(0, 0.05, 200))
    at = difference_maker(cases_of(left), grown, UNBOUNDED, factor=1.1)
    assert (at(0.95).high or 0.0) < 0.0, "five hundredths more are surely less than a tenth more"
    assert (difference_maker(cases_of(left), grown, UNBOUNDED)(0.95).low or 0.0) > 0.0


def test_power_reproduces_the_published_table() -> None:
    shown = [
        round(100 * (detectable_effect(n, discordance=discordance) or 0), 1)
        for n in (100, 200, 500, 1_000)
        for discordance in (0.1, 0.2, 0.3)
    ]
    assert shown == [8.9, 12.5, 15.3, 6.3, 8.9, 10.9, 4.0, 5.6, 6.9, 2.8, 4.0, 4.9]
    unpaired = [round(100 * (detectable_effect(n, share=0.8) or 0), 1) for n in (100, 200, 500, 1_000)]
    assert unpaired == [15.8, 11.2, 7.1, 5.0]
    assert cases_needed(0.03, discordance=0.2) == 1_737


@given(st.integers(2, 5_000), st.floats(0.01, 2.0))
@settings(max_examples=60, deadline=None)
def test_as_many_cases_as_needed_show_the_effect(n: int, deviation: float) -> None:
    effect = detectable_effect(n, deviation=deviation)
    assert effect is not None
    assert cases_needed(effect, deviation=deviation) in {n, n + 1}


def test_power_refuses_what_makes_no_sense() -> None:
    assert detectable_effect(1, discordance=0.2) is None
    assert cases_needed(0.0, deviation=1.0) is None
    for wrong in ({}, {"discordance": 0.2, "deviation": 1.0}, {"discordance": 1.2}, {"deviation": -1.0}):
        with pytest.raises(ValueError, match=r"exactly one|between 0 and 1"):
            detectable_effect(100, **wrong)
    with pytest.raises(ValueError, match="larger than the share"):
        cases_needed(0.5, discordance=0.2)


def test_a_difference_of_the_size_it_names_is_shown_four_times_in_five() -> None:
    rng = np.random.default_rng(8)
    n, effect = 150, detectable_effect(150, deviation=0.3)
    assert effect is not None
    shown = 0
    for _ in range(100):
        left = rng.random(n)
        right = left + rng.normal(effect, 0.3, n)
        shown += _excludes_zero(compare(cases_of(left), cases_of(right), UNBOUNDED, n_resamples=200))
    assert 0.68 < shown / 100 < 0.92


def _excludes_zero(found: Comparison) -> bool:
    return found.low is not None and found.high is not None and not found.low <= 0.0 <= found.high


def test_resampled_intervals_tell_no_p_under_what_resamples_can() -> None:
    rng = np.random.default_rng(5)
    left, right = (ratio_cases([(a, 1.0) for a in rng.random(40)]) for _ in range(2))
    at = difference_maker(left, right, BOUNDED, figure=Ratio())
    assert "bootstrap BCa" in at(0.95).method
    assert threshold_p(at, 50.0) == 1e-4


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize(("ours", "theirs"), [(5.0, 1.0), (1.0, 5.0), (3.0, 3.0)])
@pytest.mark.parametrize("jitter", [0.0, 1e-4])
def test_a_share_of_the_baseline_lies_within_its_interval_for_scores_that_do_not_start_at_0(
    factor: float, ours: float, theirs: float, jitter: float
) -> None:
    stars = PlainMeasure(name="stars", low=1.0, high=5.0)
    inward = jitter if ours < 3.0 else -jitter
    left = cases_of([theirs] * 40)
    right = cases_of([ours + inward * (n % 2) for n in range(40)])
    found = difference_maker(left, right, stars, factor=factor)(0.95)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(ours - factor * theirs, abs=2e-4)
    assert 1.0 - 5.0 * factor - 1e-9 <= found.low
    assert found.high <= 5.0 - factor + 1e-9
