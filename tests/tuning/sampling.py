"""Sampling for tests that want the likeliest token each time."""

from penstock.providers.engines.types import Sampling


def greedy(*, max_tokens: int) -> Sampling:
    """Return parameters under which the same prompt gives the same reply."""
    return Sampling(
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        repeat_penalty=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        max_tokens=max_tokens,
        stop=(),
        seed=None,
    )
