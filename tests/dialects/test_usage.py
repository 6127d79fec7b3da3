"""Usage: each token in exactly one class, and the classes sum to what the provider counted."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.sse import find_usage
from penstock.dialects.openai.usage import (
    CompletionDetails,
    PromptDetails,
    UsageObject,
    disjoint_usage,
    write_usage,
)
from penstock.spec.usage import TOKEN_CLASSES, Usage

COUNTS = st.none() | st.integers(-5, 1_000_000)
OBJECTS = st.builds(
    UsageObject,
    prompt_tokens=st.none() | st.integers(0, 1_000_000),
    completion_tokens=st.none() | st.integers(0, 1_000_000),
    prompt_tokens_details=st.none()
    | st.builds(
        PromptDetails,
        cached_tokens=COUNTS,
        cache_write_tokens=COUNTS,
        audio_tokens=COUNTS,
        image_tokens=COUNTS,
        cache_creation_input_tokens=COUNTS,
    ),
    completion_tokens_details=st.none()
    | st.builds(CompletionDetails, reasoning_tokens=COUNTS, audio_tokens=COUNTS, image_tokens=COUNTS),
    prompt_cache_hit_tokens=COUNTS,
    cached_tokens=COUNTS,
)


def read(text: bytes) -> Usage:
    usage = disjoint_usage(msgspec.json.decode(text, type=UsageObject))
    assert usage is not None
    return usage


@given(OBJECTS)
def test_the_classes_sum_to_the_provider_s_totals(wire: UsageObject) -> None:
    usage = disjoint_usage(wire)
    if usage is None:
        assert wire.prompt_tokens is None and wire.completion_tokens is None
        return
    assert usage.input_tokens == wire.prompt_tokens
    assert usage.output_tokens == wire.completion_tokens
    assert all((count := getattr(usage, name)) is None or count >= 0 for name in TOKEN_CLASSES)


@given(OBJECTS)
def test_usage_that_is_written_is_read_again(wire: UsageObject) -> None:
    usage = disjoint_usage(wire)
    if usage is not None:
        assert disjoint_usage(msgspec.convert(write_usage(usage), UsageObject)) == usage


def test_cached_and_reasoning_tokens_leave_their_totals() -> None:
    usage = read(
        b'{"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 60, '
        b'"audio_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 30, "rejected_tokens": 1}}'
    )
    assert (usage.input_uncached, usage.input_cache_read, usage.input_audio) == (30, 60, 10)
    assert (usage.output_text, usage.output_reasoning) == (20, 30)
    assert usage.input_cache_write is None


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        pytest.param(
            b'{"prompt_tokens": 90, "completion_tokens": 4, "total_tokens": 94, "prompt_cache_hit_tokens": 64, '
            b'"prompt_cache_miss_tokens": 26}',
            {"input_uncached": 26, "input_cache_read": 64, "output_text": 4},
            id="deepseek",
        ),
        pytest.param(
            b'{"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "prompt_tokens_details": '
            b'{"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6}, '
            b'"completion_tokens_details": {"reasoning_tokens": 94}}',
            {"input_uncached": 26, "input_cache_read": 6, "output_text": 9, "output_reasoning": 94},
            id="xai counts reasoning beside completion",
        ),
        pytest.param(
            b'{"prompt_tokens": 300, "completion_tokens": 1, "prompt_tokens_details": {"text_tokens": 44, '
            b'"image_tokens": 256, "cached_tokens": 128}}',
            {"input_uncached": 0, "input_cache_read": 128, "input_image": 172, "output_text": 1},
            id="xai images overlap the cached tokens",
        ),
        pytest.param(
            b'{"prompt_tokens": 20, "completion_tokens": 2, "cached_tokens": 16}',
            {"input_uncached": 4, "input_cache_read": 16, "output_text": 2},
            id="moonshot",
        ),
        pytest.param(
            b'{"prompt_tokens": 20, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0, '
            b'"cache_creation_input_tokens": 18}}',
            {"input_uncached": 2, "input_cache_write": 18, "input_cache_read": 0, "output_text": 2},
            id="alibaba",
        ),
    ],
)
def test_providers_that_count_otherwise_are_understood(text: bytes, classes: dict[str, int]) -> None:
    usage = read(text)
    assert {name: getattr(usage, name) for name in classes} == classes


def test_embeddings_say_nothing_about_output() -> None:
    usage = disjoint_usage(UsageObject(prompt_tokens=5, total_tokens=5))
    assert usage is not None
    assert usage.output_tokens is None


def test_groq_s_usage_is_found_where_groq_puts_it() -> None:
    usage, model = find_usage(
        b'data: {"model": "llama", "choices": [{"delta": {}}], "x_groq": {"id": "r", "usage": '
        b'{"prompt_tokens": 3, "completion_tokens": 4}}}\n\ndata: [DONE]\n\n'
    )
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, model) == (3, 4, "llama")


@pytest.mark.parametrize(
    ("cost", "usd"),
    [
        (b"0.00014", "0.00014"),
        (b'{"total_cost": 0.5}', "0.5"),
        (b"0", "0"),
        (b'"x"', None),
        (b"-1", None),
        (b"null", None),
    ],
)
def test_what_a_provider_charged_is_read_exactly(cost: bytes, usd: str | None) -> None:
    wire = msgspec.json.decode(b'{"prompt_tokens": 1, "cost": ' + cost + b"}", type=UsageObject)
    found = disjoint_usage(wire)
    assert found is not None and found.reported_usd == (None if usd is None else Decimal(usd))
