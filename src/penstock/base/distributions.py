"""The few distributions that intervals and tests need: normal, t, beta, binomial. Written out, so that SciPy stays out.

The regularised incomplete beta function is evaluated by its continued fraction (Lentz's method; Numerical Recipes,
section 6.4), quantiles by Newton steps that never leave a shrinking bracket. Compared with SciPy in the tests.
"""

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300


def normal_cdf(x: float) -> float:
    """Return the chance that a standard normal value is at most `x`."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """Return the `p` quantile of the standard normal distribution, 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _continued_fraction(x, a, b) / a
    return 1.0 - front * _continued_fraction(1.0 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    result = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > _TINY else _TINY)
            c = 1.0 + numerator / c
            c = c if abs(c) > _TINY else _TINY
            result *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return result


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """Return x with I_x(a, b) = p."""
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    low, high, x = 0.0, 1.0, a / (a + b)
    log_beta = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - p
        if error > 0.0:
            high = x
        else:
            low = x
        try:
            density = math.exp(log_beta + (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x))
            step = x - error / density
        except (ValueError, ZeroDivisionError, OverflowError):
            step = math.nan
        # far out in a tail the bracket is many orders of magnitude wide: halve its exponent, not its width
        middle = math.sqrt(low * high) if low > 0.0 and high / low > 4.0 else 0.5 * (low + high)
        following = step if low < step < high else middle
        if abs(following - x) <= 1e-15 * x:
            return following
        x = following
    return x


def t_cdf(x: float, df: float) -> float:
    """Return the chance that a t value with `df` degrees of freedom is at most `x`."""
    tail = 0.5 * beta_cdf(df / (df + x * x), df / 2.0, 0.5)
    return tail if x < 0.0 else 1.0 - tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """Return the `p` quantile of the t distribution with `df` degrees of freedom."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    tail = 1.0 - p
    if tail <= 0.0:
        return math.inf
    if df > 1e6:
        return normal_quantile(p)
    # 1 − x of the beta variable of t² is the accurate side near the middle, x far out
    x = beta_quantile(2.0 * tail, df / 2.0, 0.5)
    if x > 0.5:
        y = beta_quantile(1.0 - 2.0 * tail, 0.5, df / 2.0)
        return math.sqrt(df * y / (1.0 - y))
    return math.sqrt(df * (1.0 - x) / x)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return the chance of at most `k` successes in `n` tries."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return beta_cdf(1.0 - p, n - k, k + 1)


def binomial_pmf(k: int, n: int, p: float) -> float:
    """Return the chance of exactly `k` successes in `n` tries."""
    if not 0 <= k <= n:
        return 0.0
    if p in (0.0, 1.0):
        return float(k == n * p)
    log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p))
