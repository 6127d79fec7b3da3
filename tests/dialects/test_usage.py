"""Usage: each token in exactly one class, and the classes sum to what the provider counted."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.openai.usage import CompletionDetails, PromptDetails, UsageObject, disjoint_usage

COUNTS = st.none() | st.integers(-5, 1_000_000)


@given(
    st.builds(
        UsageObject,
        prompt_tokens=st.none() | st.integers(0, 1_000_000),
        completion_tokens=st.none() | st.integers(0, 1_000_000),
        prompt_tokens_details=st.none()
        | st.builds(PromptDetails, cached_tokens=COUNTS, cache_write_tokens=COUNTS, audio_tokens=COUNTS),
        completion_tokens_details=st.none()
        | st.builds(CompletionDetails, reasoning_tokens=COUNTS, audio_tokens=COUNTS),
        prompt_cache_hit_tokens=COUNTS,
    )
)
def test_the_classes_sum_to_the_provider_s_totals(wire: UsageObject) -> None:
    usage = disjoint_usage(wire)
    if usage is None:
        assert wire.prompt_tokens is None and wire.completion_tokens is None
        return
    assert usage.input_tokens == wire.prompt_tokens
    assert usage.output_tokens == wire.completion_tokens
    assert all(count is None or count >= 0 for count in msgspec.structs.astuple(usage)[:-1])


def test_cached_and_reasoning_tokens_leave_their_totals() -> None:
    wire = msgspec.json.decode(
        b'{"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 60, '
        b'"audio_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 30, "rejected_tokens": 1}}',
        type=UsageObject,
    )
    usage = disjoint_usage(wire)
    assert usage is not None
    assert (usage.input_uncached, usage.input_cache_read, usage.input_audio) == (30, 60, 10)
    assert (usage.output_text, usage.output_reasoning) == (20, 30)
    assert usage.input_cache_write is None


def test_embeddings_say_nothing_about_output() -> None:
    usage = disjoint_usage(UsageObject(prompt_tokens=5, total_tokens=5))
    assert usage is not None
    assert usage.output_tokens is None
