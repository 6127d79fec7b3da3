"""Token counts as clients' own objects hold them, to the attributes of the conventions.

There the input contains what was read from and written to the cache, and the output contains reasoning. OpenAI counts
so; Anthropic and Bedrock count cached tokens beside the input, Gemini thoughts beside the answer. Which it is, the names
of the members tell.
"""

from collections.abc import Mapping
from typing import Any, Final

from penstock.spec.usage import Usage

PREFIX: Final = "gen_ai.usage."
ATTRIBUTES: Final[Mapping[str, str]] = {
    "input": f"{PREFIX}input_tokens",
    "output": f"{PREFIX}output_tokens",
    "cache_read": f"{PREFIX}cache_read.input_tokens",
    "cache_write": f"{PREFIX}cache_creation.input_tokens",
    "cache_write_1h": f"{PREFIX}cache_creation.ephemeral_1h.input_tokens",
    "input_audio": f"{PREFIX}audio.input_tokens",
    "input_image": f"{PREFIX}image.input_tokens",
    "reasoning": f"{PREFIX}reasoning.output_tokens",
    "output_audio": f"{PREFIX}audio.output_tokens",
    "output_image": f"{PREFIX}image.output_tokens",
}
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": (
        "input",
        "input_tokens",
        "prompt_tokens",
        "inputTokens",
        "prompt_token_count",
        "promptTokenCount",
        "billed_units.input_tokens",
        "tokens.input_tokens",
        "prompt_eval_count",
    ),
    "output": (
        "output",
        "output_tokens",
        "completion_tokens",
        "outputTokens",
        "candidates_token_count",
        "candidatesTokenCount",
        "response_token_count",
        "billed_units.output_tokens",
        "tokens.output_tokens",
        "eval_count",
    ),
    "cache_read": (
        "cache_read",
        "cache_read_input_tokens",
        "cache_read_tokens",
        "cacheReadInputTokens",
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "input_token_details.cache_read",
        "prompt_cache_hit_tokens",
        "cached_content_token_count",
        "cachedContentTokenCount",
        "cached_tokens",
    ),
    "cache_write": (
        "cache_write",
        "cache_creation_input_tokens",
        "cache_write_tokens",
        "cacheWriteInputTokens",
        "prompt_tokens_details.cache_write_tokens",
        "prompt_tokens_details.cache_creation_input_tokens",
        "input_token_details.cache_creation",
    ),
    "cache_write_1h": ("cache_write_1h", "cache_creation.ephemeral_1h_input_tokens"),
    "input_audio": (
        "input_audio",
        "prompt_tokens_details.audio_tokens",
        "input_tokens_details.audio_tokens",
        "input_token_details.audio",
        "input_audio_tokens",
    ),
    "input_image": (
        "input_image",
        "prompt_tokens_details.image_tokens",
        "input_tokens_details.image_tokens",
    ),
    "reasoning": (
        "reasoning",
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "output_tokens_details.thinking_tokens",
        "output_token_details.reasoning",
        "thoughts_token_count",
        "thoughtsTokenCount",
    ),
    "output_audio": (
        "output_audio",
        "completion_tokens_details.audio_tokens",
        "output_tokens_details.audio_tokens",
        "output_token_details.audio",
        "output_audio_tokens",
    ),
    "output_image": (
        "output_image",
        "completion_tokens_details.image_tokens",
        "output_tokens_details.image_tokens",
    ),
}
"""Where a count may stand, the first that is there holds."""
_BESIDE_INPUT = frozenset(
    {
        ("input_tokens", "cache_read_input_tokens"),
        ("input_tokens", "cache_creation_input_tokens"),
        ("inputTokens", "cacheReadInputTokens"),
        ("inputTokens", "cacheWriteInputTokens"),
    }
)
"""(name of the input, name of the cached): Anthropic's and Bedrock's pairs. LiteLLM has the same names beside
`prompt_tokens`, which contains them."""
_BESIDE_OUTPUT = frozenset({"thoughts_token_count", "thoughtsTokenCount"})
_MORE_INPUT = ("tool_use_prompt_token_count", "toolUsePromptTokenCount")
_MAX_COUNT = 2**53


def read_counts(usage: object) -> dict[str, int]:
    """Return the attributes that say what `usage` counts: a mapping, a client's object, or `Usage`. Never raises."""
    counts = _of_classes(usage) if isinstance(usage, Usage) else _of_shape(usage)
    return {ATTRIBUTES[name]: count for name, count in counts.items()}


def _of_classes(usage: Usage) -> dict[str, int]:
    written = [usage.input_cache_write, usage.input_cache_write_1h]
    counts = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.input_cache_read,
        "cache_write": None if written == [None, None] else sum(filter(None, written)),
        "cache_write_1h": usage.input_cache_write_1h,
        "input_audio": usage.input_audio,
        "input_image": usage.input_image,
        "reasoning": usage.output_reasoning,
        "output_audio": usage.output_audio,
        "output_image": usage.output_image,
    }
    return {name: count for name, count in counts.items() if count is not None}


def _of_shape(usage: object) -> dict[str, int]:
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    for name, words in _WORDS.items():
        for word in words:
            count = _read(usage, word)
            if count is not None:
                counts[name], places[name] = count, word
                break
    if "cache_write" not in counts and (longer := counts.get("cache_write_1h")) is not None:
        counts["cache_write"] = longer + (_read(usage, "cache_creation.ephemeral_5m_input_tokens") or 0)
        places["cache_write"] = "cache_creation_input_tokens"
    if "input" in counts:
        beside = [
            name
            for name in ("cache_read", "cache_write")
            if (places["input"], places.get(name)) in _BESIDE_INPUT
        ]
        counts["input"] += sum(counts[name] for name in beside)
        counts["input"] += sum(_read(usage, word) or 0 for word in _MORE_INPUT)
    if places.get("reasoning") in _BESIDE_OUTPUT:
        counts["output"] = counts.get("output", 0) + counts["reasoning"]
    return counts


def _read(usage: object, path: str) -> int | None:
    value: Any = usage
    for name in path.split("."):
        value = _member(value, name)
        if value is None:
            return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < _MAX_COUNT else None


def _member(value: Any, name: str) -> Any:
    try:
        return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    except Exception:  # the edge to the program's own object: it may do anything when looked at
        return None
