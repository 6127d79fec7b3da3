"""Token usage in disjoint classes, and money as exact decimals."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import attrgetter

import msgspec

INPUT_CLASSES = (
    "input_uncached",
    "input_cache_read",
    "input_cache_write",
    "input_cache_write_1h",
    "input_audio",
    "input_image",
)
OUTPUT_CLASSES = ("output_text", "output_reasoning", "output_audio", "output_image")
TOKEN_CLASSES = INPUT_CLASSES + OUTPUT_CLASSES
LEAST_COST_EXPONENT = -18
"""Amounts below 10^-18 dollars are nobody's price; written out, one of 10^-3000000000 would take gigabytes."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens of one call, each token in exactly one class, so that price × tokens can be summed.

    `None` means the provider did not say; it is never counted as zero. Providers disagree on overlap
    (OpenAI's `prompt_tokens` includes cached ones, Anthropic's `input_tokens` excludes them); dialects
    decode into these classes.
    """

    input_uncached: int | None = None
    input_cache_read: int | None = None
    input_cache_write: int | None = None
    """Written to the provider's cache for the usual time (Anthropic: five minutes)."""
    input_cache_write_1h: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    output_text: int | None = None
    output_reasoning: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    estimated: bool = False
    """True when the provider sent no usage and the counts are our own."""
    reported_usd: Decimal | None = None
    """What the provider itself says this call costs (OpenRouter: `usage.cost`). Never part of a sum of tokens."""

    @property
    def input_tokens(self) -> int | None:
        """Sum of the known input classes, or None if none is known."""
        return _sum(_input_counts(self))

    @property
    def output_tokens(self) -> int | None:
        """Sum of the known output classes, or None if none is known."""
        return _sum(_output_counts(self))


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Exact price of one call in US dollars; `None` when no price is known, 0 when the model is free."""

    usd: Decimal | None
    source: str
    """Where the price came from: `genai-prices <version>`, `settings`, `provider` (it said so itself), `local`, `cache`,
    `not sent`, or why it is unknown."""
    rates: Mapping[str, Decimal] = {}
    """US dollars per million tokens of the classes that were used: classes × rates (and `usd_per_request`) is `usd`."""
    usd_per_request: Decimal | None = None
    tier_over: int | None = None
    """The rates are those of calls with more input tokens than this."""


# Each call is summed several times: one getter for all attributes and a filter in C are four times as fast as a loop.
_input_counts: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*INPUT_CLASSES)
_output_counts: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*OUTPUT_CLASSES)


def _sum(counts: tuple[int | None, ...]) -> int | None:
    total = sum(filter(None, counts))
    return total if total or any(count is not None for count in counts) else None
