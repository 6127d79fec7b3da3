"""How long to wait before a target is asked again: full jitter, and what the provider itself asks for."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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


def read_retry_after(headers: Iterable[tuple[bytes, bytes]], now_s: float) -> float | None:
    """Return the seconds that a provider asks to be left alone, from `retry-after-ms` or `retry-after`.

    The latter is seconds or an HTTP date (RFC 9110 §10.2.3); a moment that has passed is 0. None if there is neither,
    or what there is cannot be read. Names are in lower case.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"retry-after-ms":
            milliseconds = _number(value)
            if milliseconds is not None:
                return milliseconds / 1000.0
        elif name == b"retry-after":
            found = value
    if found is None:
        return None
    seconds = _number(found)
    return seconds if seconds is not None else _seconds_until(found, now_s)


def _number(value: bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _seconds_until(value: bytes, now_s: float) -> float | None:
    try:
        moment: datetime = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now_s)
