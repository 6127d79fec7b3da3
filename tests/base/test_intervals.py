"""Intervals against figures from tables and references."""

import pytest

from penstock.base.intervals import mean_interval, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (1, 10, 0.0178762, 0.4041500),
        (81, 263, 0.2552939, 0.3662101),  # Newcombe, 1998, table I
        (15, 148, 0.0624050, 0.1604995),
        (0, 20, 0.0, 0.1611246),
        (29, 29, 0.8830327, 1.0),
    ],
)
def test_shares_have_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(
    ("n", "quantile"), [(2, 12.7062), (6, 2.5706), (11, 2.2281), (13, 2.1788), (31, 2.0423), (1001, 1.9623)]
)
def test_means_have_students_interval(n: int, quantile: float) -> None:
    low, high = mean_interval(5.0, 2.0, n) or (0.0, 0.0)
    assert high - 5.0 == pytest.approx(quantile * 2.0 / n**0.5, rel=1e-3)
    assert high + low == pytest.approx(10.0)


def test_what_cannot_have_an_interval_has_none() -> None:
    assert wilson_interval(0, 0) is None
    assert mean_interval(1.0, None, 1) is None
    assert mean_interval(1.0, 0.5, 1) is None
