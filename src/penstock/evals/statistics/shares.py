"""Shares of yes among independent cases: Wilson, Clopper and Pearson, and two shares of the same cases.

Sources: Wilson 1927; Clopper and Pearson 1934; Newcombe, Statistics in Medicine 17 (1998), method 10 for paired shares;
McNemar 1947 in its exact form, mid-p as in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013).
"""

import math

from penstock.base.distributions import (
    beta_quantile,
    binomial_cdf,
    binomial_pmf,
    normal_quantile,
)


def wilson(
    share: float, n: float, level: float = 0.95, *, quantile: float | None = None
) -> tuple[float, float]:
    """Return Wilson's score interval of a share of `n` cases; `n` may be an effective number, and `quantile` a t's."""
    z = normal_quantile(0.5 + level / 2.0) if quantile is None else quantile
    if math.isinf(z):
        return 0.0, 1.0
    centre = share + z * z / (2.0 * n)
    half = z * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    low, high = (centre - half) / (1.0 + z * z / n), (centre + half) / (1.0 + z * z / n)
    # the bound of an extreme share is that share; rounding must not move it
    return (0.0 if share == 0.0 else max(low, 0.0)), (1.0 if share == 1.0 else min(high, 1.0))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of `k` successes in `n` tries: never too short, often too long."""
    tail = (1.0 - level) / 2.0
    low = 0.0 if k == 0 else beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k == n else beta_quantile(1.0 - tail, k + 1, n - k)
    return low, high


def mcnemar(n_gained: int, n_lost: int, *, mid_p: bool = False) -> float:
    """Return the two-sided p-value of pairs that changed: `n_gained` from no to yes, `n_lost` from yes to no.

    Exact by default, so at most the stated share of false alarms; mid-p is nearer to it, and may pass it a little.
    """
    n = n_gained + n_lost
    if n == 0:
        return 1.0
    k = min(n_gained, n_lost)
    p = min(1.0, 2.0 * binomial_cdf(k, n, 0.5))
    if mid_p:
        p = 1.0 if n_gained == n_lost else p - binomial_pmf(k, n, 0.5)
    return max(0.0, min(1.0, p))


def paired_shares(
    n_both: float, n_candidate: float, n_baseline: float, n_neither: float, level: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's interval of candidate − baseline from the four counts of pairs.

    `n_both` pairs are yes on both sides, `n_candidate` only the candidate's, `n_baseline` only the baseline's.
    """
    n = n_both + n_candidate + n_baseline + n_neither
    first, second = (n_both + n_candidate) / n, (n_both + n_baseline) / n
    difference = (n_candidate - n_baseline) / n
    low_1, high_1 = wilson(first, n, level)
    low_2, high_2 = wilson(second, n, level)
    margins = (
        (n_both + n_candidate) * (n_baseline + n_neither) * (n_both + n_baseline) * (n_candidate + n_neither)
    )
    phi = 0.0
    if margins:
        determinant = n_both * n_neither - n_candidate * n_baseline
        if determinant > n / 2.0:
            phi = (determinant - n / 2.0) / math.sqrt(margins)
        elif determinant < 0:
            phi = determinant / math.sqrt(margins)
    below_1, above_1, below_2, above_2 = first - low_1, high_1 - first, second - low_2, high_2 - second
    down = math.sqrt(max(0.0, below_1**2 - 2.0 * phi * below_1 * above_2 + above_2**2))
    up = math.sqrt(max(0.0, above_1**2 - 2.0 * phi * above_1 * below_2 + below_2**2))
    return max(-1.0, difference - down), min(1.0, difference + up)
