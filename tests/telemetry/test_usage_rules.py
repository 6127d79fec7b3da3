"""Token counts of every provider's shape, each token in one class: the golden set, and what must hold for any counts."""

import dataclasses
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, Usage
from penstock.telemetry.mapping_table import OverlapRule, load_table
from penstock.telemetry.usage_rules import map_usage

TABLE = load_table()

GOLDEN = [
    # provider, scope, counts as sent, classes
    (
        "openai: cached within the prompt, reasoning within the completion",
        ("", "openai"),
        {"input": 2006, "cache_read": 1920, "output": 300, "reasoning": 128, "total": 2306},
        Usage(input_uncached=86, input_cache_read=1920, output_text=172, output_reasoning=128),
    ),
    (
        "openai: audio within both",
        ("", "openai"),
        {"input": 100, "input_audio": 40, "output": 60, "output_audio": 50, "total": 160},
        Usage(input_uncached=60, input_audio=40, output_text=10, output_audio=50),
    ),
    (
        "anthropic by the conventions: all within the input",
        ("opentelemetry.instrumentation.anthropic 0.50", "anthropic"),
        {"input": 1110, "cache_read": 1000, "cache_write": 100, "output": 12, "total": 1122},
        Usage(input_uncached=10, input_cache_read=1000, input_cache_write=100, output_text=12),
    ),
    (
        "anthropic's own figures: cached beside the input, more than it",
        ("", "anthropic"),
        {"input": 10, "cache_read": 1000, "cache_write": 100, "output": 12},
        Usage(input_uncached=10, input_cache_read=1000, input_cache_write=100, output_text=12),
    ),
    (
        "anthropic's own figures, less cached than not: the total tells",
        ("", "anthropic"),
        {"input": 500, "cache_read": 100, "output": 20, "total": 620},
        Usage(input_uncached=500, input_cache_read=100, output_text=20),
    ),
    (
        "anthropic with hour-long writes, which the writes contain",
        ("", "anthropic"),
        {"input": 350, "cache_write": 300, "cache_write_1h": 200, "output": 5},
        Usage(input_uncached=50, input_cache_write=100, input_cache_write_1h=200, output_text=5),
    ),
    (
        "bedrock's converse: cached beside the input, and a total without them",
        ("opentelemetry.instrumentation.bedrock 0.62", "aws.bedrock"),
        {"input": 15, "cache_read": 5, "output": 4, "total": 19},
        Usage(input_uncached=15, input_cache_read=5, output_text=4),
    ),
    (
        "gemini: thoughts beside the candidates, by the total",
        ("", "gcp.gemini"),
        {"input": 30, "cache_read": 20, "output": 5, "reasoning": 40, "total": 75},
        Usage(input_uncached=10, input_cache_read=20, output_text=5, output_reasoning=40),
    ),
    (
        "gemini through its own instrumentation: thoughts beside, fewer than the answer",
        ("opentelemetry.instrumentation.google_genai 0.4", "gcp.gen_ai"),
        {"input": 30, "output": 50, "reasoning": 40},
        Usage(input_uncached=30, output_text=50, output_reasoning=40),
    ),
    (
        "grok: reasoning beside the completion",
        ("", "x_ai"),
        {"input": 9, "output": 50, "reasoning": 40},
        Usage(input_uncached=9, output_text=50, output_reasoning=40),
    ),
    (
        "deepseek: hits within the prompt",
        ("", "deepseek"),
        {"input": 100, "cache_read": 64, "output": 7, "total": 107},
        Usage(input_uncached=36, input_cache_read=64, output_text=7),
    ),
    (
        "mistral: nothing cached",
        ("", "mistral_ai"),
        {"input": 12, "output": 3},
        Usage(input_uncached=12, output_text=3),
    ),
    ("cohere embeddings: input alone", ("", "cohere"), {"input": 8}, Usage(input_uncached=8)),
]


@pytest.mark.parametrize(
    ("scope_provider", "sent", "classes"), [case[1:] for case in GOLDEN], ids=[c[0] for c in GOLDEN]
)
def test_each_shape_is_split_into_its_classes(
    scope_provider: tuple[str, str], sent: dict[str, int], classes: Usage
) -> None:
    scope, provider = scope_provider
    assert map_usage(TABLE, sent, scope=scope, provider=provider) == classes


counts = st.dictionaries(
    st.sampled_from(sorted(TABLE.usage_fields)),
    st.integers(0, 10_000) | st.sampled_from([-5, None, "x", 2**60]),
    max_size=10,
)
rules = st.sampled_from(
    [
        ("", ""),
        ("opentelemetry.instrumentation.bedrock", "aws.bedrock"),
        ("gcp.vertex.agent", ""),
        ("", "x_ai"),
    ]
)


@given(counts, rules)
def test_no_class_is_negative_and_no_part_is_lost(
    sent: dict[str, Any], scope_provider: tuple[str, str]
) -> None:
    scope, provider = scope_provider
    usage = map_usage(TABLE, sent, scope=scope, provider=provider)
    if usage is None:
        return
    for name in (*INPUT_CLASSES, *OUTPUT_CLASSES):
        count = getattr(usage, name)
        assert count is None or count >= 0
    valid = {name: count for name, count in sent.items() if isinstance(count, int) and 0 <= count < 2**53}
    for field, name in (("cache_read", "input_cache_read"), ("reasoning", "output_reasoning")):
        assert getattr(usage, name) == valid.get(field)
    if "input" in valid:
        assert (usage.input_tokens or 0) >= valid["input"]


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000))
def test_a_convention_keeping_sender_is_never_charged_twice(plain: int, cached: int, written: int) -> None:
    whole = plain + cached + written
    usage = map_usage(TABLE, {"input": whole, "cache_read": cached, "cache_write": written, "output": 1})
    assert usage is not None
    assert usage.input_tokens == whole
    assert usage.input_uncached == plain
    assert usage.input_uncached * Decimal(1) >= 0


def test_rules_are_met_by_scope_and_what_is_below_it_only() -> None:
    sent = {"input": 15, "cache_read": 5, "output": 4}
    for scope, uncached in (
        ("opentelemetry.instrumentation.bedrock", 15),
        ("opentelemetry.instrumentation.bedrock 0.1", 15),
        ("opentelemetry.instrumentation.bedrocks", 10),
        ("my.opentelemetry.instrumentation.bedrock", 10),
    ):
        usage = map_usage(TABLE, sent, scope=scope)
        assert usage is not None
        assert usage.input_uncached == uncached


def test_the_first_rule_that_says_something_holds() -> None:
    table = dataclasses.replace(
        TABLE,
        rules=[
            OverlapRule(output="exclusive"),
            OverlapRule(input="exclusive"),
            OverlapRule(input="inclusive"),
        ],
    )
    usage = map_usage(table, {"input": 15, "cache_read": 5, "output": 4})
    assert usage is not None
    assert usage.input_uncached == 15
