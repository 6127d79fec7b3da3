"""Intervals of what calls show: they hold what they promise, for calls that depend on each other too."""

import math

import numpy as np
import pytest

from penstock.deploy.load.gap_buckets import count_gaps, middle_of, to_matrix
from penstock.deploy.load.intervals import (
    clustered_quantile,
    effective_count,
    quantile_estimate,
    rate_estimate,
    series_mean_estimate,
    share_estimate,
)


def chained(rng: np.random.Generator, n: int, tie: float) -> list[float]:
    """Values of which each is like the one before it."""
    noise = rng.standard_normal(n) * math.sqrt(1 - tie * tie)
    values = [float(rng.standard_normal())]
    for each in noise[1:]:
        values.append(tie * values[-1] + float(each))
    return values


def holds(low: float | None, high: float | None, truth: float) -> bool:
    return (low is None or low <= truth) and (high is None or truth <= high)


@pytest.mark.parametrize(("n", "share"), [(40, 0.5), (150, 0.95)])
def test_intervals_of_quantiles_hold_the_truth_as_often_as_they_say(n: int, share: float) -> None:
    rng = np.random.default_rng(1)
    truth = -math.log(1 - share)
    found = [quantile_estimate(rng.exponential(size=n).tolist(), share) for _ in range(300)]
    kept = sum(each is not None and holds(each.low, each.high, truth) for each in found) / 300
    assert 0.93 <= kept <= 1


def test_values_like_their_neighbours_give_wider_intervals_which_hold_as_often() -> None:
    rng = np.random.default_rng(2)
    kept = 0
    for _ in range(200):
        values = chained(rng, 300, 0.8)
        estimate = quantile_estimate(values, 0.5)
        assert estimate is not None
        kept += holds(estimate.low, estimate.high, 0.0)
    assert kept / 200 >= 0.9
    assert effective_count(np.array(chained(rng, 2000, 0.8)) > 0) < 800


def test_the_mean_of_calls_like_their_neighbours_has_an_interval_that_holds_as_often() -> None:
    """Taken as independent, the interval of calls this much alike held the truth a third of the time."""
    rng = np.random.default_rng(6)
    kept = 0
    for _ in range(200):
        estimate = series_mean_estimate(chained(rng, 200, 0.9))
        assert estimate is not None
        kept += holds(estimate.low, estimate.high, 0.0)
    assert kept / 200 >= 0.85


def test_too_few_calls_have_no_upper_bound_instead_of_the_slowest_one() -> None:
    estimate = quantile_estimate([float(number) for number in np.random.default_rng(3).permutation(50)], 0.99)
    assert estimate is not None
    assert estimate.high is None
    assert estimate.low is not None


def test_a_quantile_among_failed_calls_is_unknown() -> None:
    values = [10.0] * 90 + [math.inf] * 10
    estimate = quantile_estimate(np.random.default_rng(4).permutation(values).tolist(), 0.95)
    assert estimate is not None
    assert estimate.value is None


def test_nothing_has_no_estimate() -> None:
    assert quantile_estimate([], 0.5) is None
    assert share_estimate([]) is None
    assert rate_estimate([], [], 0.0, 0.0) is None


def test_a_share_of_all_or_none_still_has_an_interval() -> None:
    estimate = share_estimate([True] * 50)
    assert estimate is not None
    assert estimate.high == 1.0
    assert estimate.low == pytest.approx(0.9287, abs=0.001)  # Wilson


def test_a_rate_is_by_time_and_its_interval_by_slices_of_it() -> None:
    at = [number / 10 for number in range(600)]
    estimate = rate_estimate(at, [2.0] * 600, 0.0, 60.0)
    assert estimate is not None
    assert estimate.value == pytest.approx(20.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= 20.0 <= estimate.high


def test_times_between_pieces_are_kept_to_two_percent() -> None:
    for gap in (0.05, 3.0, 41.7, 2500.0):
        ((bucket, count),) = count_gaps([gap])
        assert count == 1
        assert middle_of(bucket) == pytest.approx(gap, rel=0.011)


def test_quantiles_of_times_between_pieces_are_bounded_by_calls_not_by_pieces() -> None:
    """Thousands of pieces of ten calls are ten calls: one slow call moves the quantile."""
    slow = [count_gaps([20.0 + number] * 500) for number in range(10)]
    counts, middles = to_matrix(slow)
    estimate = clustered_quantile(counts, middles, 0.5, level=0.95, seed=1)
    assert estimate is not None
    assert estimate.high is not None
    assert estimate.low is not None
    assert estimate.high - estimate.low > 2
