"""Quantiles written out, beside SciPy and sources."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.distributions import (
    beta_cdf,
    beta_quantile,
    binomial_cdf,
    binomial_pmf,
    normal_cdf,
    normal_quantile,
    t_cdf,
    t_quantile,
)

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("df", [1, 2, 3, 7, 29, 200, 5_000])
@pytest.mark.parametrize("p", [0.5001, 0.75, 0.9, 0.975, 0.999, 0.0025, 0.2])
def test_t_is_that_of_scipy(df: int, p: float) -> None:
    assert t_quantile(p, df) == pytest.approx(scipy_stats.t.ppf(p, df), rel=1e-9, abs=1e-11)
    assert t_cdf(1.7, df) == pytest.approx(scipy_stats.t.cdf(1.7, df), rel=1e-11)


@pytest.mark.parametrize(("a", "b"), list(itertools.product([0.5, 1, 3, 80, 2_000], [0.5, 1, 8, 1_000])))
def test_beta_is_that_of_scipy(a: float, b: float) -> None:
    for p in (0.001, 0.025, 0.5, 0.975, 0.9999):
        assert beta_quantile(p, a, b) == pytest.approx(scipy_stats.beta.ppf(p, a, b), rel=1e-8)
    for x in (0.01, 0.3, 0.77, 0.99):
        assert beta_cdf(x, a, b) == pytest.approx(scipy_stats.beta.cdf(x, a, b), rel=1e-9, abs=1e-290)


@pytest.mark.parametrize("n", [1, 10, 333, 20_000])
def test_binomial_is_that_of_scipy(n: int) -> None:
    for p in (0.03, 0.5, 0.9):
        for k in {0, n // 3, n // 2, n - 1, n}:
            assert binomial_cdf(k, n, p) == pytest.approx(
                scipy_stats.binom.cdf(k, n, p), rel=1e-8, abs=1e-300
            )
            assert binomial_pmf(k, n, p) == pytest.approx(
                scipy_stats.binom.pmf(k, n, p), rel=1e-8, abs=1e-300
            )


def test_ends_are_what_they_must_be() -> None:
    assert (binomial_cdf(-1, 5, 0.3), binomial_cdf(5, 5, 0.3)) == (0.0, 1.0)
    assert (binomial_pmf(0, 5, 0.0), binomial_pmf(5, 5, 1.0), binomial_pmf(6, 5, 0.5)) == (1.0, 1.0, 0.0)
    assert (beta_quantile(0.0, 2, 3), beta_quantile(1.0, 2, 3)) == (0.0, 1.0)
    assert t_quantile(0.5, 3) == 0.0
    assert math.isinf(t_quantile(1.0, 3))
    assert normal_cdf(normal_quantile(0.975)) == pytest.approx(0.975, rel=1e-12)


@given(st.floats(0.001, 0.999), st.floats(0.3, 500), st.floats(0.3, 500))
@settings(max_examples=100, deadline=None)
def test_a_quantile_undoes_its_distribution(p: float, a: float, b: float) -> None:
    assert beta_cdf(beta_quantile(p, a, b), a, b) == pytest.approx(p, rel=1e-6)
