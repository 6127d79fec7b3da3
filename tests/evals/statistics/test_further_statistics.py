"""Quantiles, sequential looks, agreement, and estimates corrected by labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.evals.statistics.agreement import agreement, krippendorff_alpha
from penstock.evals.statistics.correction import ppi_mean, rogan_gladen
from penstock.evals.statistics.quantiles import (
    quantile,
    quantile_difference_maker,
    quantile_ranks,
    values_needed,
)
from penstock.evals.statistics.sequential import ConfidenceSequence, StoppingRule, group_means
from tests.evals.statistics.draws import cases_of

# quantiles


def test_a_quantile_is_bounded_by_two_of_its_values() -> None:
    values = list(range(1, 101))
    found = quantile(cases_of(values), 0.5)
    assert (found.value, found.low, found.high) == (50, 40, 61)  # the ranks of the books for n = 100
    tail = quantile(cases_of(values), 0.95)
    assert (tail.value, tail.low, tail.high) == (95, 90, 100)


def test_too_few_values_do_not_bound_a_tail() -> None:
    assert values_needed(0.95) == 72
    few = quantile(cases_of(range(71)), 0.95)
    assert (few.low, few.method) == (None, "none: 71 values are too few for p95")
    assert quantile(cases_of(range(72)), 0.95).high == 71
    assert quantile([], 0.95).value is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(cases_of([1.0]), 95)


def test_ranks_hold_the_stated_chance() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n, share in ((30, 0.5), (200, 0.95), (1_000, 0.99), (72, 0.95)):
        ranks = quantile_ranks(n, share, 0.95)
        assert ranks is not None
        low, high = ranks
        chance = stats.binom.cdf(high - 1, n, share) - stats.binom.cdf(low - 1, n, share)
        assert chance >= 0.95
        assert stats.binom.cdf(low, n, share) > 0.025, "a higher rank would not hold"


def test_clusters_widen_the_interval_of_a_quantile() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.lognormal(6, 1, 60), 10) * rng.lognormal(0, 0.01, 600)
    alone = quantile(cases_of(values), 0.8)
    grouped = quantile(cases_of(values, np.repeat(np.arange(60), 10)), 0.8)
    assert alone.value == grouped.value
    assert (grouped.high or 0) - (grouped.low or 0) > 2 * ((alone.high or 0) - (alone.low or 0))


def test_quantiles_of_two_sides_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(2)
    base = rng.lognormal(6, 0.6, 300)
    slower = cases_of(base * 1.5)
    at = quantile_difference_maker(cases_of(base), slower, 0.9, rng=rng)
    assert (at(0.95).low or 0) > 0
    same = quantile_difference_maker(cases_of(base), cases_of(base), 0.9, rng=rng)
    assert (same(0.95).value, same(0.95).low, same(0.95).high) == (0, 0, 0)
    margin = quantile_difference_maker(cases_of(base), slower, 0.9, factor=1.6, rng=rng)
    assert (margin(0.95).high or 0) < 0
    few = quantile_difference_maker(cases_of(base[:20]), cases_of(base[:20]), 0.95, rng=rng)
    assert few(0.95).low is None


# looking as often as one likes


def test_an_interval_only_narrows_and_holds_the_mean() -> None:
    values = np.random.default_rng(3).beta(2, 1, 600)
    sequence = ConfidenceSequence()
    assert sequence.interval().value is None
    widths = []
    for start in range(0, 600, 100):
        sequence.update(values[start : start + 100])
        found = sequence.interval()
        assert found.low is not None
        assert found.high is not None
        assert found.low <= 2 / 3 <= found.high
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.12


def test_scores_of_another_range_are_scaled() -> None:
    plain, scaled = ConfidenceSequence(), ConfidenceSequence(low=1.0, high=5.0)
    values = np.random.default_rng(4).random(80)
    plain.update(values)
    scaled.update(1 + 4 * values)
    assert scaled.interval().low == pytest.approx(1 + 4 * (plain.interval().low or 0))
    with pytest.raises(ValueError, match="out of the bounds"):
        scaled.update([5.5])
    with pytest.raises(ValueError, match="two bounds"):
        ConfidenceSequence(low=0.0, high=float("inf"))


def test_a_run_stops_when_it_is_decided_and_not_before() -> None:
    rng = np.random.default_rng(5)
    rule = StoppingRule(threshold=0.0, low=-1.0, high=1.0)
    gains = rng.choice([0.0, 1.0], 400, p=(0.7, 0.3))
    assert rule.update(gains[:5]) is None
    assert rule.update(gains[5:]) == "above"
    assert rule.update([-1.0] * 50) == "above", "what is decided stays decided"
    losing = StoppingRule(threshold=-0.01, low=-1.0, high=1.0)
    assert losing.update(-gains) == "below"
    level = StoppingRule(threshold=0.5, low=0.0, high=1.0)
    assert level.update(rng.binomial(1, 0.5, 500)) is None
    assert StoppingRule(threshold=-2.0, low=-1.0, high=1.0).update([]) == "above"


def test_a_group_is_one_value() -> None:
    cases = cases_of([0.0, 1.0, [1.0, 0.5]], ["d", "d", None])
    assert group_means(cases) == [0.5, 0.75]


# agreement


def judged(prevalence: float, n: int = 100_000) -> tuple[list[int], list[int]]:
    """A judge with sensitivity and specificity of 0.9."""
    yes = round(n * prevalence)
    no = n - yes
    hits, alarms = round(0.9 * yes), round(0.1 * no)
    return [1] * yes + [0] * no, [1] * hits + [0] * (yes - hits) + [1] * alarms + [0] * (no - alarms)


@pytest.mark.parametrize(
    ("prevalence", "kappa"), [(0.5, 0.80), (0.7, 0.77), (0.9, 0.59), (0.95, 0.43), (0.98, 0.24)]
)
def test_kappa_moves_with_prevalence_alone(prevalence: float, kappa: float) -> None:
    found = agreement(*judged(prevalence, 5_000), positive=1, n_resamples=50)
    assert found.kappa.value == pytest.approx(kappa, abs=0.006)
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert (found.sensitivity.value, found.specificity.value) == pytest.approx((0.9, 0.9))


def test_kappa_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(6)
    left = rng.integers(1, 6, 300)
    right = np.clip(left + rng.integers(-1, 2, 300), 1, 5)
    for weights in ("none", "linear", "quadratic"):
        found = agreement(list(left), list(right), weights=weights, n_resamples=200)  # type: ignore[arg-type]
        proven = metrics.cohen_kappa_score(left, right, weights=None if weights == "none" else weights)
        assert found.kappa.value == pytest.approx(proven, abs=1e-12)
        assert (found.kappa.low or 1) < proven < (found.kappa.high or 0)
    assert found.confusion == metrics.confusion_matrix(left, right).tolist()
    assert found.labels == ["1", "2", "3", "4", "5"]


def test_krippendorffs_alpha_gives_the_published_figures() -> None:
    # Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011: four observers, twelve units
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = list(zip(*observers, strict=True))
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, metric="ordinal") == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(units, metric="interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a", None]]) is None


def test_alpha_of_two_raters_is_the_general_one() -> None:
    left, right = ["a", "b", "b", "c", "a", "a"], ["a", "b", "c", "c", "a", "b"]
    found = agreement(left, right)
    assert found.alpha.value == pytest.approx(krippendorff_alpha(list(zip(left, right, strict=True))) or 0)


def test_agreement_without_difference_is_undefined_not_perfect() -> None:
    for left in (["yes"] * 5, []):
        found = agreement(left, left, positive="yes")
        assert (found.kappa.value, found.alpha.value) == (None, None)
        assert found.kappa.method.startswith("undefined")
    with pytest.raises(ValueError, match="same things"):
        agreement(["a"], [])


def test_groups_widen_the_interval_of_an_agreement() -> None:
    rng = np.random.default_rng(7)
    left = list(np.repeat(rng.integers(0, 2, 40), 10))
    right = [int(a) if rng.random() < 0.85 else 1 - int(a) for a in np.repeat(left[::10], 1)]
    right = list(np.repeat(right, 10))
    alone = agreement(left, right, positive=1)
    grouped = agreement(left, right, positive=1, groups=[str(i // 10) for i in range(400)])
    assert alone.kappa.value == grouped.kappa.value
    assert (grouped.kappa.high or 0) - (grouped.kappa.low or 0) > 2 * (
        (alone.kappa.high or 0) - (alone.kappa.low or 0)
    )


# corrected


def test_rogan_gladen_gives_the_published_figures() -> None:
    found = rogan_gladen(
        n_judged=1000,
        n_judged_positive=750,
        n_positive=100,
        n_true_positive=90,
        n_negative=100,
        n_true_negative=85,
    )
    assert found.value == pytest.approx(0.80)
    assert (found.high or 0) - (found.low or 0) == pytest.approx(2 * 1.96 * 0.038, rel=0.1)


@pytest.mark.parametrize(
    ("n_positive", "n_true_positive", "n_negative", "n_true_negative"),
    [(100, 50, 100, 50), (100, 20, 100, 60), (0, 0, 100, 90), (10, 6, 10, 6)],
)
def test_a_judge_that_tells_nothing_corrects_nothing(
    n_positive: int, n_true_positive: int, n_negative: int, n_true_negative: int
) -> None:
    found = rogan_gladen(
        n_judged=100,
        n_judged_positive=60,
        n_positive=n_positive,
        n_true_positive=n_true_positive,
        n_negative=n_negative,
        n_true_negative=n_true_negative,
    )
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.method.startswith("undefined")


def test_a_bias_of_the_judge_is_taken_off() -> None:
    rng = np.random.default_rng(8)
    truth = rng.normal(0, 1, 300)
    found = ppi_mean(list(truth), list(truth + 2), [2.0] * 50, tuning=1.0)
    assert found.value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("correlation", "worth"), [(0.5, 1.33), (0.7, 1.96), (0.8, 2.78), (0.9, 5.26)])
def test_labels_are_worth_more_beside_a_judge_that_is_like_people(correlation: float, worth: float) -> None:
    rng = np.random.default_rng(9)
    truth = rng.normal(0, 1, 400)
    noise = rng.normal(0, 1, 400)
    judge = correlation * truth + np.sqrt(1 - correlation**2) * noise
    many = rng.normal(0, 1, 15_000)
    alone = ppi_mean(list(truth), list(judge), list(many), tuning=0.0)
    both = ppi_mean(list(truth), list(judge), list(many))
    ratio = ((alone.high or 0) - (alone.low or 0)) / ((both.high or 1) - (both.low or 0))
    assert ratio**2 == pytest.approx(worth, rel=0.25)


def test_few_labels_have_no_estimate() -> None:
    assert ppi_mean([1.0], [1.0], [1.0, 0.0]).value is None
    assert ppi_mean([1.0, 1.0], [1.0, 1.0], []).method == "none: labels do not vary"
    alone = ppi_mean([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [])
    assert alone.method == "3 labels alone"
    with pytest.raises(ValueError, match="each label"):
        ppi_mean([1.0], [], [])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=30), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_no_nan_leaves_an_estimate(labels: list[float], n_more: int) -> None:
    found = ppi_mean(labels, labels[::-1], [0.5] * n_more)
    for value in (found.value, found.low, found.high):
        assert value is None or np.isfinite(value)
