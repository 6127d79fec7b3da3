"""The nouns of the ledger: what is asked of it, sums of a group, one billed call. No engine of a database is loaded for them."""

from decimal import Decimal
from typing import Literal

import msgspec

CostDimension = Literal[
    "day", "model", "provider", "key", "user", "project", "route", "prompt", "step", "session", "source"
]


class CostQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which billed calls: those that began in `[since_ns, until_ns)` and match every filter that is set."""

    since_ns: int = 0
    until_ns: int = 2**63 - 1
    project: str | None = None
    key: str | None = None
    user: str | None = None
    route: str | None = None
    provider: str | None = None
    model: str | None = None
    only_sent: bool = False
    """Whether calls that no provider knows of are left out: those that Penstock's cache answered and, unless their
    provider is asked for by name, those to engines and apps of this installation."""


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one group. Sums are over what is known; what they leave out is counted beside them."""

    group: dict[str, str | None]
    """Dimension → value; None where calls do not say."""
    n_calls: int
    cost_usd: Decimal | None
    n_unpriced: int
    """Calls whose cost is unknown."""
    n_estimated: int
    """Calls whose tokens were estimated, because the provider sent no usage."""
    estimated_usd: Decimal | None
    """The part of `cost_usd` that rests on estimated tokens."""
    input_tokens: int | None
    output_tokens: int | None
    classes: dict[str, int]
    """Tokens by usage class, those that occurred."""
    n_cached: int
    """Calls answered from Penstock's cache: they use no tokens, so none of theirs are in the sums."""
    saved_usd: Decimal | None
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    """The parts of both sums that come from calls whose tokens were estimated."""


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One billed call."""

    trace_id: str
    span_id: str
    start_ns: int
    kind: str
    project: str | None
    key_id: str | None
    user_id: str | None
    session_id: str | None
    route: str | None
    provider: str | None
    model: str | None
    prompt: str | None
    step: str | None
    versions: dict[str, str]
    classes: dict[str, int]
    estimated: bool
    cost_usd: Decimal | None
    cost_source: str | None
    rates: dict[str, str]
    cached: bool
    saved_usd: Decimal | None
    error_code: str | None


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What advice is computed from: one billed call that went to a provider, few columns of it."""

    start_ns: int
    project: str | None
    route: str | None
    provider: str | None
    model: str | None
    cost_usd: Decimal | None
    rates: dict[str, str]
    classes: dict[str, int]
    request_digest: str | None
    prefix_digest: str | None
    prefix_tokens: int | None
    kind: str = "llm"
