"""Google's `usageMetadata`, to disjoint classes and back.

`promptTokenCount` includes cached tokens; tokens of tool-use prompts and thoughts are counted beside prompt and
candidates. Details tell how many of each were audio or image. Counts that contradict each other are cut so that the
sums stay true. A zero that protobuf leaves out stays unknown.
"""

from typing import Any

from penstock.spec.usage import Usage


def read_usage(value: Any) -> Usage | None:
    """Return the usage in a `usageMetadata` object, or None if it counts nothing."""
    if not isinstance(value, dict):
        return None
    prompt, tool_prompt = _count(value.get("promptTokenCount")), _count(value.get("toolUsePromptTokenCount"))
    made, thoughts = _count(value.get("candidatesTokenCount")), _count(value.get("thoughtsTokenCount"))
    if prompt is None and tool_prompt is None and made is None and thoughts is None:
        return None
    cached = _count(value.get("cachedContentTokenCount"))
    of_prompt, of_cache = _modalities(value, "promptTokensDetails"), _modalities(value, "cacheTokensDetails")
    of_answer = _modalities(value, "candidatesTokensDetails")
    uncached, (read, audio, image) = _split(
        prompt,
        cached,
        _less(of_prompt.get("AUDIO"), of_cache.get("AUDIO")),
        _less(of_prompt.get("IMAGE"), of_cache.get("IMAGE")),
    )
    if tool_prompt is not None:
        uncached = (uncached or 0) + tool_prompt
    text, (audio_out, image_out) = _split(made, of_answer.get("AUDIO"), of_answer.get("IMAGE"))
    return Usage(
        input_uncached=uncached,
        input_cache_read=read,
        input_audio=audio,
        input_image=image,
        output_text=text,
        output_reasoning=thoughts,
        output_audio=audio_out,
        output_image=image_out,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Return the object for a client."""
    written: dict[str, Any] = {}
    total_in, total_out = usage.input_tokens, usage.output_tokens
    made = [usage.output_text, usage.output_audio, usage.output_image]
    if total_in is not None:
        written["promptTokenCount"] = total_in
    if usage.input_cache_read is not None:
        written["cachedContentTokenCount"] = usage.input_cache_read
    if any(count is not None for count in made):
        written["candidatesTokenCount"] = sum(count or 0 for count in made)
    if usage.output_reasoning is not None:
        written["thoughtsTokenCount"] = usage.output_reasoning
    if total_in is not None or total_out is not None:
        written["totalTokenCount"] = (total_in or 0) + (total_out or 0)
    prompt = {"AUDIO": usage.input_audio, "IMAGE": usage.input_image}
    if details := _details(prompt, total_in):
        written["promptTokensDetails"] = details
    answer = {"AUDIO": usage.output_audio, "IMAGE": usage.output_image}
    if details := _details(answer, written.get("candidatesTokenCount")):
        written["candidatesTokensDetails"] = details
    return written


def _details(counts: dict[str, int | None], total: int | None) -> list[dict[str, Any]]:
    known = [{"modality": name, "tokenCount": count} for name, count in counts.items() if count is not None]
    if not known or total is None:
        return known
    rest = total - sum(count or 0 for count in counts.values())
    return [{"modality": "TEXT", "tokenCount": rest}, *known]


def _modalities(value: dict[str, Any], name: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    listed = value.get(name)
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(kind := entry.get("modality"), str):
            count = _count(entry.get("tokenCount"))
            if count is not None:
                counts[kind] = counts.get(kind, 0) + count
    return counts


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)  # protobuf writes 64-bit numbers as text
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _less(count: int | None, part: int | None) -> int | None:
    return None if count is None else count - (part or 0)


def _split(total: int | None, *parts: int | None) -> tuple[int | None, list[int | None]]:
    """Return what remains of `total` beside the parts, and the parts, none negative, none beyond the total."""
    if total is None:
        return None, [None] * len(parts)
    left = total
    kept: list[int | None] = []
    for part in parts:
        kept.append(None if part is None else min(max(part, 0), left))
        left -= kept[-1] or 0
    return left, kept
