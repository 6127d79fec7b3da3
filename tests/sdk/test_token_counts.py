"""What `usage=` makes of the objects that clients of providers return: no token lost, none counted twice."""

from types import SimpleNamespace
from typing import Any

import pytest

import penstock
from penstock.sdk.token_counts import read_counts
from penstock.spec.usage import Usage
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.usage_rules import map_usage
from tests.sdk.conftest import Collector

ANTHROPIC = {
    "input_tokens": 10,
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
    "output_tokens": 7,
}
CHAT = {
    "prompt_tokens": 5000,
    "completion_tokens": 9,
    "total_tokens": 5009,
    "prompt_tokens_details": {"cached_tokens": 4000, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": None},
}
RESPONSES = {
    "input_tokens": 5000,
    "input_tokens_details": {"cached_tokens": 4000},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 5009,
}
GEMINI = {
    "prompt_token_count": 100,
    "cached_content_token_count": 40,
    "tool_use_prompt_token_count": 8,
    "candidates_token_count": 20,
    "thoughts_token_count": 30,
    "total_token_count": 158,
}
GEMINI_JSON = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
}
BEDROCK = {"inputTokens": 15, "outputTokens": 4, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 2}
LITELLM = {
    "prompt_tokens": 5210,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 5000},
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 200,
}
LANGCHAIN = {
    "input_tokens": 350,
    "output_tokens": 240,
    "input_token_details": {"cache_read": 100, "cache_creation": 200},
    "output_token_details": {"reasoning": 200},
}
COHERE = {"billed_units": {"input_tokens": 11.0, "output_tokens": 3.0}, "cached_tokens": 4.0}

WANTED: dict[str, tuple[Any, Usage]] = {
    "anthropic": (
        ANTHROPIC,
        Usage(
            input_uncached=10,
            input_cache_read=5000,
            input_cache_write=150,
            input_cache_write_1h=50,
            output_text=7,
        ),
    ),
    "openai chat": (
        CHAT,
        Usage(input_uncached=1000, input_cache_read=4000, input_audio=0, output_text=4, output_reasoning=5),
    ),
    "openai responses": (
        RESPONSES,
        Usage(input_uncached=1000, input_cache_read=4000, output_text=4, output_reasoning=5),
    ),
    "gemini": (
        GEMINI,
        Usage(input_uncached=68, input_cache_read=40, output_text=20, output_reasoning=30),
    ),
    "gemini json": (
        GEMINI_JSON,
        Usage(input_uncached=60, input_cache_read=40, output_text=20, output_reasoning=30),
    ),
    "bedrock": (
        BEDROCK,
        Usage(input_uncached=15, input_cache_read=5, input_cache_write=2, output_text=4),
    ),
    "litellm": (
        LITELLM,
        Usage(input_uncached=10, input_cache_read=5000, input_cache_write=200, output_text=7),
    ),
    "langchain": (
        LANGCHAIN,
        Usage(
            input_uncached=50,
            input_cache_read=100,
            input_cache_write=200,
            output_text=40,
            output_reasoning=200,
        ),
    ),
    "cohere": (COHERE, Usage(input_uncached=7, input_cache_read=4, output_text=3)),
    "our own words": (
        {"input": 3, "output": 2, "cache_read": 1},
        Usage(input_uncached=2, input_cache_read=1, output_text=2),
    ),
}


def as_object(value: Any) -> Any:
    """What a client makes of JSON."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(item) for name, item in value.items()})
    return value


def stored(attributes: dict[str, int]) -> Usage | None:
    """What the collector makes of the attributes."""
    table = load_table()
    picked: dict[str, int] = {}
    for name, value in attributes.items():
        field = table.look_up(name).field
        assert field is not None, name
        picked[field] = value
    return map_usage(table, picked, scope="penstock", provider="anthropic")


@pytest.mark.parametrize("shape", WANTED)
def test_every_providers_counts_come_to_the_same_classes_as_the_gateway_gives_them(shape: str) -> None:
    given, wanted = WANTED[shape]
    assert stored(read_counts(given)) == wanted
    assert stored(read_counts(as_object(given))) == wanted


def test_the_gateways_own_usage_keeps_its_classes() -> None:
    usage = WANTED["anthropic"][1]
    assert stored(read_counts(usage)) == usage


def test_a_span_carries_them(sdk: Collector) -> None:
    with penstock.span("ask", kind="llm", usage=as_object(ANTHROPIC)):
        pass
    penstock.flush()
    found = sdk.span("ask").attributes
    assert found["gen_ai.usage.input_tokens"] == 5210
    assert found["gen_ai.usage.cache_read.input_tokens"] == 5000
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 200


def test_what_is_no_count_is_not_one() -> None:
    class Odd:
        @property
        def input_tokens(self) -> int:
            raise RuntimeError

    for odd in (None, 5, "many", Odd(), {"input": True, "output": -1}, {"input": "3"}, {1: 2}):
        assert read_counts(odd) == {}
