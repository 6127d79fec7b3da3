"""Before money is spent: which difference so many cases can show, and how many cases a difference needs."""


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
    """
    raise NotImplementedError


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
    raise NotImplementedError
