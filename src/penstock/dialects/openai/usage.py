"""OpenAI's `usage` object, decoded into disjoint token classes and written from them.

OpenAI counts overlap: `prompt_tokens` includes cached, audio and image tokens, `completion_tokens` includes reasoning
and audio tokens. Providers that copy the format differ in names for cached tokens, and xAI leaves reasoning out of
`completion_tokens`; the known ones are read. Counts that contradict each other (more cached than prompt tokens) are
cut so that the sums stay true.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from penstock.spec.usage import LEAST_COST_EXPONENT, Usage


class PromptDetails(msgspec.Struct, frozen=True):
    """What `prompt_tokens` is made of."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    """Alibaba's name for `cache_write_tokens`."""


class CompletionDetails(msgspec.Struct, frozen=True):
    """What `completion_tokens` is made of."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True):
    """The wire object. DeepSeek says `prompt_cache_hit_tokens`, Moonshot and Together `cached_tokens` where OpenAI has
    details; OpenRouter and Perplexity tell what they charged in `cost`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cost: Any = None


_NO_PROMPT_DETAILS, _NO_COMPLETION_DETAILS = PromptDetails(), CompletionDetails()


def disjoint_usage(wire: UsageObject) -> Usage | None:
    """Return usage in which each token stands in exactly one class, or None if nothing was counted.

    The known input classes sum to `prompt_tokens` and the known output classes to `completion_tokens` (with the
    reasoning tokens added where `total_tokens` shows that they are not in it).
    """
    prompt, completion = wire.prompt_tokens, wire.completion_tokens
    if prompt is not None and prompt < 0:
        prompt = None  # nobody has used less than nothing: such a count says as much as none
    if completion is not None and completion < 0:
        completion = None
    if prompt is None and completion is None:
        return None
    if (
        wire.prompt_tokens_details is None
        and wire.completion_tokens_details is None
        and wire.cost is None
        and wire.prompt_cache_hit_tokens is None
        and wire.cached_tokens is None
    ):
        return Usage(input_uncached=prompt, output_text=completion)
    details = wire.prompt_tokens_details or _NO_PROMPT_DETAILS
    cached = _first(details.cached_tokens, wire.prompt_cache_hit_tokens, wire.cached_tokens)
    uncached, (read, written, audio_in, image_in) = split_total(
        prompt,
        cached,
        _first(details.cache_write_tokens, details.cache_creation_input_tokens),
        details.audio_tokens,
        details.image_tokens,
    )
    made = wire.completion_tokens_details or _NO_COMPLETION_DETAILS
    text, (reasoning, audio_out, image_out) = split_total(
        _completion_total(wire, made.reasoning_tokens),
        made.reasoning_tokens,
        made.audio_tokens,
        made.image_tokens,
    )
    return Usage(
        input_uncached=uncached,
        input_cache_read=read,
        input_cache_write=written,
        input_audio=audio_in,
        input_image=image_in,
        output_text=text,
        output_reasoning=reasoning,
        output_audio=audio_out,
        output_image=image_out,
        reported_usd=None if wire.cost is None else told_usd(wire),
    )


def told_usd(wire: UsageObject) -> Decimal | None:
    """Return what the provider says it charged, in US dollars, or None if it does not say."""
    cost = wire.cost.get("total_cost") if isinstance(wire.cost, dict) else wire.cost
    if cost is None or isinstance(cost, bool):
        return None
    try:
        usd = Decimal(str(cost))
    except InvalidOperation:
        return None
    if not usd.is_finite() or not 0 <= usd < 10**12:
        return None
    if not usd:
        return Decimal(0)  # whatever its exponent: written out, 0e-3000000000 has as many digits
    return usd if usd.adjusted() >= LEAST_COST_EXPONENT else None


def write_usage(usage: Usage) -> dict[str, Any]:
    """Return the wire object of `usage`; counts that are not known are left out."""
    wire: dict[str, Any] = {}
    prompt, completion = usage.input_tokens, usage.output_tokens
    if prompt is not None:
        wire["prompt_tokens"] = prompt
    if completion is not None:
        wire["completion_tokens"] = completion
    if prompt is not None or completion is not None:
        wire["total_tokens"] = (prompt or 0) + (completion or 0)
    written = _sum(usage.input_cache_write, usage.input_cache_write_1h)
    details = {
        "cached_tokens": usage.input_cache_read,
        "cache_write_tokens": written,
        "audio_tokens": usage.input_audio,
        "image_tokens": usage.input_image,
    }
    made = {
        "reasoning_tokens": usage.output_reasoning,
        "audio_tokens": usage.output_audio,
        "image_tokens": usage.output_image,
    }
    for name, parts in (("prompt_tokens_details", details), ("completion_tokens_details", made)):
        if known := {part: count for part, count in parts.items() if count is not None}:
            wire[name] = known
    return wire


def split_total(total: int | None, *parts: int | None) -> tuple[int | None, list[int | None]]:
    """Return what remains of `total` beside the parts, and the parts: none beyond the total, None for negative ones."""
    if total is None or total < 0:
        return None, [None] * len(parts)
    left = total
    kept: list[int | None] = []
    for part in parts:
        if part is None or part < 0:
            kept.append(None)
        elif part > left:
            kept.append(left)
            left = 0
        else:
            left -= part
            kept.append(part)
    return left, kept


def _completion_total(wire: UsageObject, reasoning: int | None) -> int | None:
    total, prompt, completion = wire.total_tokens, wire.prompt_tokens, wire.completion_tokens
    if not reasoning or reasoning < 0 or total is None or prompt is None or completion is None:
        return completion
    return completion + reasoning if prompt + completion + reasoning == total else completion


def _first(*counts: int | None) -> int | None:
    for count in counts:
        if count is not None:
            return count
    return None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
