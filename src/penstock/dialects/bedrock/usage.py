"""Bedrock's token usage. `inputTokens` excludes both cache counts; thoughts are part of `outputTokens`."""

from typing import Any

from penstock.spec.usage import Usage


def read_usage(value: Any) -> Usage | None:
    """Return the usage in a `usage` object, or None if it counts nothing."""
    if not isinstance(value, dict):
        return None
    uncached, made = _count(value.get("inputTokens")), _count(value.get("outputTokens"))
    if uncached is None and made is None:
        return None
    written = _count(value.get("cacheWriteInputTokens"))
    for_an_hour = _written_for_an_hour(value.get("cacheDetails"))
    if written is not None and for_an_hour is not None:
        for_an_hour = min(for_an_hour, written)
        written -= for_an_hour
    return Usage(
        input_uncached=uncached,
        input_cache_read=_count(value.get("cacheReadInputTokens")),
        input_cache_write=written,
        input_cache_write_1h=for_an_hour if written is not None else None,
        output_text=made,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Return the object for a client."""
    written: dict[str, Any] = {}
    total_in, total_out = usage.input_tokens, usage.output_tokens
    writes = [count for count in (usage.input_cache_write, usage.input_cache_write_1h) if count is not None]
    if total_in is not None:
        written["inputTokens"] = total_in - (usage.input_cache_read or 0) - sum(writes)
    if total_out is not None:
        written["outputTokens"] = total_out
    if total_in is not None or total_out is not None:
        written["totalTokens"] = (total_in or 0) + (total_out or 0)
    if usage.input_cache_read is not None:
        written["cacheReadInputTokens"] = usage.input_cache_read
    if writes:
        written["cacheWriteInputTokens"] = sum(writes)
    if usage.input_cache_write_1h is not None:
        details = [{"ttl": "1h", "inputTokens": usage.input_cache_write_1h}]
        if usage.input_cache_write is not None:
            details.append({"ttl": "5m", "inputTokens": usage.input_cache_write})
        written["cacheDetails"] = details
    return written


def _written_for_an_hour(details: Any) -> int | None:
    counts = [
        count
        for entry in (details if isinstance(details, list) else ())
        if isinstance(entry, dict) and entry.get("ttl") == "1h"
        if (count := _count(entry.get("inputTokens"))) is not None
    ]
    return sum(counts) if counts else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
