"""OpenAI's `usage` object, decoded into disjoint token classes.

OpenAI counts overlap: `prompt_tokens` includes cached and audio tokens, `completion_tokens` includes reasoning
and audio tokens. Providers that copy the format differ in names for cached tokens; the known ones are read.
Counts that contradict each other (more cached than prompt tokens) are cut so that the sums stay true.
"""

import msgspec

from penstock.spec.usage import Usage


class PromptDetails(msgspec.Struct, frozen=True):
    """What `prompt_tokens` is made of."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True):
    """What `completion_tokens` is made of."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True):
    """The wire object. DeepSeek says `prompt_cache_hit_tokens` where OpenAI has details."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None


def disjoint_usage(wire: UsageObject) -> Usage | None:
    """Return usage in which each token stands in exactly one class, or None if nothing was counted.

    The known input classes sum to `prompt_tokens` and the known output classes to `completion_tokens`.
    """
    if wire.prompt_tokens is None and wire.completion_tokens is None:
        return None
    prompt = wire.prompt_tokens
    details = wire.prompt_tokens_details
    cached = details.cached_tokens if details else None
    if cached is None:
        cached = wire.prompt_cache_hit_tokens
    uncached, (read, written, audio_in) = _split(
        prompt,
        cached,
        details.cache_write_tokens if details else None,
        details.audio_tokens if details else None,
    )
    made = wire.completion_tokens_details
    text, (reasoning, audio_out) = _split(
        wire.completion_tokens, made.reasoning_tokens if made else None, made.audio_tokens if made else None
    )
    return Usage(
        input_uncached=uncached,
        input_cache_read=read,
        input_cache_write=written,
        input_audio=audio_in,
        output_text=text,
        output_reasoning=reasoning,
        output_audio=audio_out,
    )


def _split(total: int | None, *parts: int | None) -> tuple[int | None, list[int | None]]:
    """Return what remains of `total` beside the parts, and the parts, none negative, none beyond the total."""
    if total is None:
        return None, [None] * len(parts)
    left = max(total, 0)
    kept: list[int | None] = []
    for part in parts:
        if part is None:
            kept.append(None)
            continue
        part_kept = min(max(part, 0), left)
        left -= part_kept
        kept.append(part_kept)
    return left, kept
