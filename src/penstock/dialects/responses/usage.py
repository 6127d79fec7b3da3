"""The `usage` object of the responses API: as in chat completions, totals include their details."""

from typing import Any

import msgspec

from penstock.dialects.openai.usage import split_total
from penstock.spec.usage import Usage


class InputDetails(msgspec.Struct, frozen=True):
    """What `input_tokens` is made of."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct, frozen=True):
    """What `output_tokens` is made of."""

    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True):
    """The wire object."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


def read_usage(value: object) -> Usage | None:
    """Return the usage an object tells in disjoint classes; one that is not as documented counts as not given."""
    try:
        wire = msgspec.convert(value, UsageObject | None)
    except msgspec.ValidationError:
        return None
    if wire is None or (wire.input_tokens is None and wire.output_tokens is None):
        return None
    had = wire.input_tokens_details or InputDetails()
    made = wire.output_tokens_details or OutputDetails()
    uncached, (read, written) = split_total(wire.input_tokens, had.cached_tokens, had.cache_write_tokens)
    text, (reasoning,) = split_total(wire.output_tokens, made.reasoning_tokens)
    return Usage(
        input_uncached=uncached,
        input_cache_read=read,
        input_cache_write=written,
        output_text=text,
        output_reasoning=reasoning,
    )


def write_usage(usage: Usage) -> dict[str, Any] | None:
    """Return the wire object of `usage`, None if nothing is known.

    Clients take the counts and their details for given, as they are documented, so what is not known is 0 here.
    """
    had, made = usage.input_tokens, usage.output_tokens
    if had is None and made is None:
        return None
    return {
        "input_tokens": had or 0,
        "input_tokens_details": {
            "cached_tokens": usage.input_cache_read or 0,
            "cache_write_tokens": (usage.input_cache_write or 0) + (usage.input_cache_write_1h or 0),
        },
        "output_tokens": made or 0,
        "output_tokens_details": {"reasoning_tokens": usage.output_reasoning or 0},
        "total_tokens": (had or 0) + (made or 0),
    }
