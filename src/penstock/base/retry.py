"""The retry schedule: capped exponential backoff with full jitter. Sleeping is the caller's."""

import random
from collections.abc import Iterator


def backoff_delays(
    *,
    attempts: int,
    first_s: float = 0.1,
    factor: float = 2.0,
    cap_s: float = 10.0,
    rng: random.Random | None = None,
) -> Iterator[float]:
    """Yield `attempts - 1` delays in seconds, each uniform between 0 and the capped exponential bound.

    Full jitter spreads clients that failed together better than plain backoff (AWS Architecture Blog,
    "Exponential Backoff and Jitter", 2015).
    """
    source = rng or random.Random()
    bound = first_s
    for _ in range(attempts - 1):
        yield source.uniform(0.0, min(bound, cap_s))
        bound *= factor
