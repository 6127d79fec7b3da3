"""How long to wait before a target is asked again: full jitter, and what the provider itself asks for."""

import random

from penstock.spec.routes import RetryPolicy

_MAX_EXPONENT = 30


def backoff_s(policy: RetryPolicy, n_waits: int, rng: random.Random) -> float:
    """Return a wait between 0 and `min(max_s, base_s × 2^n_waits)`, uniformly.

    Full jitter spreads clients that failed together better than plain backoff (AWS Architecture Blog, "Exponential
    Backoff and Jitter", 2015).
    """
    bound = min(policy.max_s, policy.base_s * 2.0 ** min(n_waits, _MAX_EXPONENT))
    return rng.uniform(0.0, max(0.0, bound))


def wait_s(policy: RetryPolicy, n_waits: int, asked_s: float, rng: random.Random) -> float:
    """Return how long to wait for a target that asked for `asked_s` more seconds (0 if it asked for nothing).

    What a provider asks for is a lower bound, and everybody who was refused heard the same number: so a jitter of at
    most `base_s` is added to it.
    """
    if asked_s > 0:
        return asked_s + rng.uniform(0.0, max(0.0, policy.base_s))
    return backoff_s(policy, n_waits, rng)
