"""Cohere's `usage` object, decoded into disjoint token classes and back.

It counts twice: `tokens` is what the model read and wrote, `billed_units` what is charged, which leaves out the
provider's own preamble. What is charged counts, so that tokens and prices add up to the bill; `tokens` counts where
nothing was billed. `cached_tokens` is part of the input.
"""

from typing import Any

import msgspec

from penstock.spec.usage import Usage


class Counts(msgspec.Struct, frozen=True):
    """Tokens in and out. The wire writes whole numbers as `12.0`."""

    input_tokens: float | None = None
    output_tokens: float | None = None


class UsageObject(msgspec.Struct, frozen=True):
    """The wire object."""

    billed_units: Counts | None = None
    tokens: Counts | None = None
    cached_tokens: float | None = None


def read_usage_object(value: Any) -> Usage | None:
    """Return the usage of decoded JSON, or None if it tells no count or is not as documented."""
    if not isinstance(value, dict):
        return None
    try:
        wire = msgspec.convert(value, UsageObject)
    except msgspec.ValidationError:
        return None
    billed, counted = wire.billed_units or Counts(), wire.tokens or Counts()
    told = billed if billed.input_tokens is not None or billed.output_tokens is not None else counted
    total, written = _whole(told.input_tokens), _whole(told.output_tokens)
    if total is None and written is None:
        return None
    cached = _whole(wire.cached_tokens)
    if cached is not None and total is not None:
        cached = min(cached, total)
        total -= cached
    else:
        cached = None
    return Usage(input_uncached=total, input_cache_read=cached, output_text=written)


def _whole(value: float | None) -> int | None:
    return None if value is None or value < 0 else int(value)


def wire_usage(usage: Usage) -> dict[str, Any]:
    """Return the wire object for a client; what is not known is left out."""
    told = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    counts = {name: count for name, count in told.items() if count is not None}
    wire: dict[str, Any] = {"billed_units": counts, "tokens": counts}
    if usage.input_cache_read is not None:
        wire["cached_tokens"] = usage.input_cache_read
    return wire
