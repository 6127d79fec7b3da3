"""What a person can say of limits and prices: one form for `penstock.toml`, the command line and REST."""

from typing import Annotated

from pydantic import Field

from penstock.deploy.section_types import Amount, ModelName, Section
from penstock.spec.limits import LimitAction, LimitScope, LimitUnit, LimitWindow

LimitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class LimitRuleSettings(Section):
    """At most `amount` of `unit` in each `window`, for what `scope` and `match` name."""

    scope: LimitScope
    """Whose calls are counted together; `all` has one counter."""
    match: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Which key id, user, project, route or model; unset: each of them has its own counter."""
    unit: LimitUnit
    """What is counted."""
    amount: Amount
    """How much: over 0, and whole for requests and tokens."""
    window: LimitWindow
    """Windows are those of the clock in UTC; weeks begin on Monday."""
    action: LimitAction = "refuse"
    """`refuse` answers 429; `warn` serves the call with `x-penstock-limit-warning`."""


class NamedLimitRuleSettings(LimitRuleSettings):
    """`[[limits.rules]]`: at most `amount` of `unit` in each `window`, for what `scope` and `match` name."""

    name: LimitName
    """Unique; stands in refusals, so that a person knows which rule to look up."""


class PriceSettings(Section):
    """US dollars per million tokens, by usage class; classes left out are unknown."""

    input_uncached: Amount | None = None
    """Input tokens that no cache served."""
    input_cache_read: Amount | None = None
    """Input tokens read from the provider's cache."""
    input_cache_write: Amount | None = None
    """Input tokens written to the provider's cache."""
    input_cache_write_1h: Amount | None = None
    """Input tokens written to the provider's cache for an hour."""
    input_audio: Amount | None = None
    """Audio in."""
    input_image: Amount | None = None
    """Images in."""
    output_text: Amount | None = None
    """Text out."""
    output_reasoning: Amount | None = None
    """Reasoning out."""
    output_audio: Amount | None = None
    """Audio out."""
    output_image: Amount | None = None
    """Images out."""
    usd_per_request: Amount | None = None
    """US dollars for each request, beside its tokens."""


class NamedPriceSettings(PriceSettings):
    """`[[prices]]`: US dollars per million tokens, by usage class; classes left out are unknown."""

    provider: str
    """The provider's name here."""
    model: ModelName
    """Exact name of the model there, or a prefix that ends in `*`."""
