"""Anthropic's `usage` object, decoded into disjoint token classes and back.

`input_tokens` leaves out both cache counts, so the classes need only be named. `output_tokens` includes thinking. In
a stream the counts are cumulative: a later one replaces an earlier one and is never added to it.
"""

from typing import Any

import msgspec

from penstock.spec.usage import Usage


class CacheCreation(msgspec.Struct, frozen=True):
    """How long the written cache lives."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(msgspec.Struct, frozen=True):
    """What `output_tokens` is made of."""

    thinking_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True):
    """The wire object, as a message or the events of a stream hold it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None

    def updated(self, later: "UsageObject") -> "UsageObject":
        """Return these counts with every one that `later` tells replaced."""
        told = {
            name: value for name in later.__struct_fields__ if (value := getattr(later, name)) is not None
        }
        return msgspec.structs.replace(self, **told)


def read_usage_object(value: Any) -> UsageObject | None:
    """Return the wire object of decoded JSON, or None if it is not as documented."""
    if not isinstance(value, dict):
        return None
    try:
        return msgspec.convert(value, UsageObject)
    except msgspec.ValidationError:
        return None


def disjoint_usage(wire: UsageObject) -> Usage | None:
    """Return usage in which each token stands in exactly one class, or None if nothing was counted.

    The classes sum to the input, cache and output counts of the wire. Thinking beyond the output is cut.
    """
    if wire.input_tokens is None and wire.output_tokens is None:
        return None
    written, written_1h = _written(wire)
    text, reasoning = _count(wire.output_tokens), None
    if text is not None and wire.output_tokens_details is not None:
        thinking = _count(wire.output_tokens_details.thinking_tokens)
        if thinking is not None:
            reasoning = min(thinking, text)
            text -= reasoning
    return Usage(
        input_uncached=_count(wire.input_tokens),
        input_cache_read=_count(wire.cache_read_input_tokens),
        input_cache_write=written,
        input_cache_write_1h=written_1h,
        output_text=text,
        output_reasoning=reasoning,
    )


def _written(wire: UsageObject) -> tuple[int | None, int | None]:
    """Return the tokens written to the five-minute and the one-hour cache. The total counts where they disagree."""
    total = _count(wire.cache_creation_input_tokens)
    lives = wire.cache_creation
    if lives is None:
        return total, None
    hour = _count(lives.ephemeral_1h_input_tokens)
    if total is None:
        return _count(lives.ephemeral_5m_input_tokens), hour
    hour = None if hour is None else min(hour, total)
    return total - (hour or 0), hour


def _count(value: int | None) -> int | None:
    return None if value is None or value < 0 else value


def wire_usage(usage: Usage | None) -> dict[str, Any]:
    """Return the wire object for a client.

    Clients of this dialect need both counts, so one that is not known is written as 0: the protocol has no other word.
    """
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    fresh = (usage.input_uncached, usage.input_audio, usage.input_image)
    wire: dict[str, Any] = {"input_tokens": sum(count or 0 for count in fresh)}
    written = [count for count in (usage.input_cache_write, usage.input_cache_write_1h) if count is not None]
    if written:
        wire["cache_creation_input_tokens"] = sum(written)
    if usage.input_cache_read is not None:
        wire["cache_read_input_tokens"] = usage.input_cache_read
    if usage.input_cache_write_1h is not None:
        wire["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.input_cache_write or 0,
            "ephemeral_1h_input_tokens": usage.input_cache_write_1h,
        }
    wire["output_tokens"] = usage.output_tokens or 0
    if usage.output_reasoning is not None:
        wire["output_tokens_details"] = {"thinking_tokens": usage.output_reasoning}
    return wire
