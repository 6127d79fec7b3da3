"""95 % intervals of shares and means. Pure; no library, for what every process may need."""

from math import sqrt

Z = 1.959963984540054
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""Student's t at 0.975 of 1 to 10 degrees of freedom; the expansion below is good to a thousandth beyond."""


def wilson_interval(hits: float, n: int) -> tuple[float, float] | None:
    """Return the interval of a share of `hits` in `n` (Wilson, 1927), None for n = 0."""
    if n <= 0:
        return None
    share, square = hits / n, Z * Z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    # the bounds of 0 and n hits are exact; rounding would put them beyond by a hair
    return (0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half))


def mean_interval(mean: float, deviation: float | None, n: int) -> tuple[float, float] | None:
    """Return the interval of a mean by Student's t, None for fewer than two values."""
    if n < 2 or deviation is None:
        return None
    half = _t_quantile(n - 1) * deviation / sqrt(n)
    return mean - half, mean + half


def _t_quantile(degrees: int) -> float:
    if degrees <= len(_T):
        return _T[degrees - 1]
    z, d = Z, float(degrees)
    # Abramowitz and Stegun 26.7.5
    return z + (z**3 + z) / (4 * d) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d * d)
