"""Before money is spent: which difference so many cases can show, and how many cases a difference needs.

Normal approximation with the two quantiles added: (z for the level + z for the power) × standard error. For pairs of yes-or-no
scores the standard error is √(discordance / n). A difference known beforehand takes its own square off that
variance: `cases_needed` does, so that it may ask for a few cases less than `detectable_effect` would.
"""

import math

from penstock.base.distributions import normal_quantile


def detectable_effect(
    n: int,
    *,
    discordance: float | None = None,
    deviation: float | None = None,
    share: float | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> float | None:
    """Return the smallest true difference that `n` cases show with `power`; None when `n` is under 2.

    Say one of: `discordance`, the share of pairs of yes-or-no scores that differ (paired); `deviation`, the
    standard deviation of the paired differences; `share`, the rate of two separate samples of `n` each (unpaired).
    With groups, `n` is the number of groups and `deviation` that of their means.
    """
    variance = _variance(discordance, deviation, share)
    if n < 2 or variance <= 0.0:
        return None
    return _reach(level, power) * math.sqrt(variance / n)


def cases_needed(
    effect: float,
    *,
    discordance: float | None = None,
    deviation: float | None = None,
    share: float | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> int | None:
    """Return how many cases show a true difference of `effect` with `power`; None when no number does (`effect` 0)."""
    variance = _variance(discordance, deviation, share)
    if effect == 0.0 or not math.isfinite(effect) or variance <= 0.0:
        return None
    if discordance is not None:
        if abs(effect) > discordance:
            raise ValueError("a difference of shares cannot be larger than the share of pairs that differ")
        variance = max(variance - effect * effect, 0.0)
    return max(2, math.ceil(variance * (_reach(level, power) / effect) ** 2 - 1e-9))


def _reach(level: float, power: float) -> float:
    if not (0.0 < level < 1.0 and 0.0 < power < 1.0):
        raise ValueError("level and power lie between 0 and 1")
    return normal_quantile(0.5 + level / 2.0) + normal_quantile(power)


def _variance(discordance: float | None, deviation: float | None, share: float | None) -> float:
    given = [value for value in (discordance, deviation, share) if value is not None]
    if len(given) != 1:
        raise ValueError("say exactly one of discordance, deviation and share")
    if discordance is not None and 0.0 <= discordance <= 1.0:
        return discordance
    if deviation is not None and deviation >= 0.0:
        return deviation * deviation
    if share is not None and 0.0 <= share <= 1.0:
        return 2.0 * share * (1.0 - share)
    raise ValueError("discordance and share lie between 0 and 1, and no deviation is negative")
