"""One figure: value, interval, coverage, and what is said where there is none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.evals.statistics.estimates import estimate, estimate_slices, interval_maker
from penstock.evals.statistics.means import unseen_share, worth
from penstock.evals.statistics.repeats import pass_at_k, pass_hat_k
from penstock.evals.statistics.samples import make_sample
from penstock.evals.statistics.shares import clopper_pearson, wilson
from penstock.evals.statistics.types import PlainMeasure, ScoredCase
from tests.evals.statistics.draws import BINARY, BOUNDED, LOWER, UNBOUNDED, Ratio, cases_of, ratio_cases

SERVICE = PlainMeasure(name="errors", direction="lower", scale="binary", counted_by="case")


def test_wilson_gives_the_published_figures() -> None:
    assert wilson(0.81, 100) == pytest.approx((0.7222, 0.8749), abs=5e-5)
    assert wilson(0.0, 10)[1] == pytest.approx(0.2775, abs=5e-5)
    found = estimate(cases_of([1.0] * 81 + [0.0] * 19), BINARY)
    assert (found.value, found.low, found.high) == pytest.approx((0.81, 0.7222, 0.8749), abs=5e-5)
    assert (found.method, found.n, found.coverage) == ("wilson", 100, 1.0)


def test_intervals_of_shares_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for k, n in ((0, 7), (3, 10), (97, 100), (100, 100)):
        proven = stats.binomtest(k, n)
        assert wilson(k / n, n) == pytest.approx(tuple(proven.proportion_ci(0.95, "wilson")), abs=1e-12)
        assert clopper_pearson(k, n) == pytest.approx(tuple(proven.proportion_ci(0.95, "exact")), abs=1e-10)


def test_a_mean_without_bounds_has_the_t_interval() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).lognormal(6, 0.5, 40)
    found = estimate(cases_of(values), UNBOUNDED)
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert (found.method, found.deviation) == ("t", pytest.approx(values.std(ddof=1)))


def test_copies_of_a_case_in_a_group_teach_nothing() -> None:
    values = np.random.default_rng(4).normal(5, 1, 12)
    alone = estimate(cases_of(values), UNBOUNDED)
    copied = estimate(cases_of(np.repeat(values, 7), np.repeat(np.arange(12), 7)), UNBOUNDED)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), rel=1e-9)
    assert (copied.n, copied.n_groups, alone.n_groups) == (84, 12, None)
    pretended = estimate(cases_of(np.repeat(values, 7)), UNBOUNDED)
    assert pretended.high - pretended.low < 0.5 * (copied.high - copied.low)


def test_more_repeats_make_no_more_cases() -> None:
    values = np.random.default_rng(5).random(30)
    once, thrice = estimate(cases_of(values), BOUNDED), estimate(cases_of(np.stack([values] * 3, 1)), BOUNDED)
    assert (once.value, once.low, once.high) == pytest.approx((thrice.value, thrice.low, thrice.high))
    assert (once.n, thrice.n, once.deviation_within, thrice.deviation_within) == (
        30,
        30,
        None,
        pytest.approx(0.0),
    )


def test_the_spread_of_repeats_is_told_apart() -> None:
    found = estimate(cases_of([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), BOUNDED)
    assert found.deviation_within == pytest.approx(np.sqrt((0.5 + 0.5 + 0.0) / 3))


@pytest.mark.parametrize(
    ("cases", "measure", "value", "method"),
    [
        ([], BOUNDED, None, "no case has a score"),
        ([ScoredCase(case_id="a", n_undefined=1)], BOUNDED, None, "no case has a score"),
        ([ScoredCase(case_id="a", values=[float("nan")])], BOUNDED, None, "no case has a score"),
        (cases_of([0.4]), BOUNDED, 0.4, "none: one case has no spread"),
        (cases_of([1.0]), BINARY, 1.0, "none: one case has no spread"),
        (cases_of([0.4, 0.6], ["d", "d"]), BOUNDED, 0.5, "none: all cases are in one group"),
        (cases_of([7.0, 7.0, 7.0]), UNBOUNDED, 7.0, "none: all values are the same"),
    ],
)
def test_what_has_no_interval_says_why(
    cases: list[ScoredCase], measure: PlainMeasure, value: float | None, method: str
) -> None:
    found = estimate(cases, measure)
    assert (found.value, found.low, found.high, found.method) == (value, None, None, method)


def test_five_perfect_answers_are_no_proof_of_perfection() -> None:
    for measure in (BINARY, BOUNDED):
        found = estimate(cases_of([1.0] * 5), measure)
        assert found.value == found.high == 1.0
        assert found.low is not None
        assert found.low < 0.6


def test_missing_scores_lower_coverage_and_bound_the_figure() -> None:
    cases = [
        *cases_of([1.0, 0.5]),
        ScoredCase(case_id="u", n_undefined=1),
        ScoredCase(case_id="e", n_errors=2, n_undefined=1),
        ScoredCase(case_id="s", n_skipped=1),
        ScoredCase(case_id="p", values=[1.0], n_errors=1),
    ]
    found = estimate(cases, BOUNDED)
    assert (found.n, found.n_cases, found.n_undefined, found.n_errors, found.n_skipped) == (3, 6, 1, 1, 1)
    assert (found.n_partial, found.coverage) == (1, pytest.approx(2.5 / 6)), (
        "one of two repeats is half a case"
    )
    assert found.value == pytest.approx(2.5 / 3)
    assert (found.worst, found.best) == pytest.approx((2.0 / 6, 5.5 / 6))
    lower = estimate(cases, LOWER)
    assert (lower.worst, lower.best) == pytest.approx((5.5 / 6, 2.0 / 6))


def test_a_score_beyond_its_own_bounds_is_not_cut() -> None:
    found = estimate(cases_of([0.5, 1.8, 0.9]), BOUNDED)
    assert found.method == "t"
    assert found.high is not None
    assert found.high > 1.0


def test_slices_are_estimated_each_for_itself() -> None:
    cases = cases_of([1.0, 1.0, 0.0, 0.0], slices=["lang=de", "lang=de", "lang=fr", "lang=fr"])
    found = estimate_slices(cases, BINARY)
    assert [(each.slice, each.value, each.n_cases) for each in found] == [
        ("lang=de", 1, 2),
        ("lang=fr", 0, 2),
    ]
    assert estimate(cases, BINARY, part="lang=es").value is None


def test_a_figure_is_resampled_from_its_sums_not_averaged() -> None:
    rng = np.random.default_rng(6)
    parts = [(float(rng.binomial(size, 0.6)), float(size)) for size in rng.geometric(0.1, 300)]
    found = estimate(ratio_cases(parts), BOUNDED, figure=Ratio())
    assert found.value == pytest.approx(sum(a for a, _ in parts) / sum(b for _, b in parts))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.method == "bootstrap BCa by case, 10,000"
    assert estimate(ratio_cases(parts), BOUNDED, figure=Ratio()) == found, (
        "the same scores, the same interval"
    )


def test_the_bootstrap_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(7).gamma(2, 1, 200)
    found = estimate(ratio_cases([(value, 1.0) for value in values]), UNBOUNDED, figure=Ratio())
    proven = stats.bootstrap((values,), np.mean, n_resamples=9_999, rng=np.random.default_rng(1))
    low, high = proven.confidence_interval
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_figures_that_resampling_loses_have_no_interval() -> None:
    rare = [(1.0, 1.0), *[(0.0, 0.0)] * 9]
    found = estimate(ratio_cases(rare), BOUNDED, figure=Ratio())
    assert (found.value, found.low) == (1.0, None)
    assert "undefined in too many resamples" in found.method
    nothing = estimate(ratio_cases([(0.0, 0.0)] * 3), BOUNDED, figure=Ratio())
    assert (nothing.value, nothing.method) == (None, "the figure is undefined for these cases")


def test_very_many_cases_are_estimated_from_blocks_of_them() -> None:
    rng = np.random.default_rng(8)
    parts = [(float(hit), 1.0) for hit in rng.binomial(1, 0.3, 20_000)]
    found = estimate(ratio_cases(parts), BOUNDED, figure=Ratio(), n_resamples=2_000)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 2e4), rel=0.1)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=40),
    st.floats(0.5, 0.999),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_an_interval_holds_its_value_within_the_bounds(
    values: list[float], level: float, n_groups: int
) -> None:
    groups = [position % (n_groups + 1) for position in range(len(values))]
    for given_groups in (None, groups):
        found = estimate(cases_of(values, given_groups), BOUNDED, level=level)
        if found.low is not None:
            assert found.high is not None
            assert 0.0 <= found.low <= found.value <= found.high <= 1.0  # type: ignore[operator]
            wider = interval_maker(cases_of(values, given_groups), BOUNDED)(level + (1 - level) / 2)
            assert wider.low is not None
            assert wider.low <= found.low + 1e-12


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -1.0])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        estimate(cases_of([1.0, 0.0]), BINARY, level=level)


def test_tries_succeed_once_or_all() -> None:
    assert pass_at_k(10, 9, 1) == pytest.approx(0.9)
    assert pass_at_k(5, 1, 5) == 1.0
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    assert pass_hat_k(4, 2, 2) == pytest.approx(1 / 6)
    assert pass_hat_k(10, 9, 10) == 0.0
    assert pass_hat_k(1_000, 900, 10) == pytest.approx(0.9**10, abs=0.003)
    assert pass_at_k(3, 1, 4) is None
    assert pass_hat_k(3, 1, 4) is None
    with pytest.raises(ValueError, match="k is at least 1"):
        pass_at_k(3, 1, 0)


def test_what_describes_the_service_has_every_case_alone() -> None:
    groups = [position % 16 for position in range(96)]
    found = estimate(cases_of([0.0] * 96, groups), SERVICE)
    alone = estimate(cases_of([0.0] * 96), SERVICE)
    assert (found.low, found.high, found.n_groups) == (alone.low, alone.high, None)
    assert found.high == pytest.approx(0.0385, abs=1e-4)
    assert (found.method, alone.method) == ("wilson, by case", "wilson")
    content = estimate(cases_of([0.0] * 96, groups), PlainMeasure(name="pii", scale="binary"))
    assert content.high is not None
    assert content.high > 2 * 0.0385, "what is said of content is counted by group"
    at = interval_maker(cases_of([0.0] * 96, groups), SERVICE)(0.95)
    assert (at.high, at.n_groups) == (alone.high, None)


@pytest.mark.parametrize(("size", "low", "high"), [(1, 8, 8), (2, 8, 16), (6, 8, 48), (40, 8, 320)])
def test_scores_that_do_not_vary_are_worth_more_than_their_groups_and_less_than_their_cases(
    size: int, low: int, high: int
) -> None:
    sample = make_sample(cases_of([1.0] * (8 * size), [n % 8 for n in range(8 * size)]))
    assert low <= worth(sample) <= high
    assert worth(sample) == pytest.approx(8 * sum(1 / (place + 1) for place in range(size)))
    unseen = unseen_share(sample, 0.95)
    alone = [1.0 - 0.025 ** (1.0 / n) for n in (low, high)]
    assert alone[1] - 1e-9 <= unseen <= alone[0] + 1e-9
    # the chance that all groups show nothing is the tail, by the beta-binomial distribution itself
    a, b = unseen, 1.0 - unseen
    nothing = math.lgamma(b + size) - math.lgamma(b) - math.lgamma(a + b + size) + math.lgamma(a + b)
    assert 8 * nothing == pytest.approx(math.log(0.025), rel=1e-6)
    told = estimate(cases_of([1.0] * (8 * size), [n % 8 for n in range(8 * size)]), BOUNDED).method
    assert ("correlation 0.5 within groups assumed" in told) == (size > 1)
