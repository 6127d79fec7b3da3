"""Providers, routes and keys as gateways see them: frozen rows of data, no behaviour."""

from decimal import Decimal
from typing import Literal

import msgspec

DialectName = Literal["openai", "responses", "anthropic", "gemini", "bedrock", "cohere"]
AuthKind = Literal["bearer", "none", "x-api-key", "api-key", "x-goog-api-key", "sigv4", "gcp"]
RouteKind = Literal["chat", "embedding", "rerank", "search", "any"]
"""`search` routes are knowledge bases: they answer `/v1/vector_stores/NAME/search` and stand in no list of models."""
Balance = Literal["weighted", "random", "least-busy", "latency", "cost"]
Sticky = Literal["none", "user", "session"]
FaultKind = Literal["connect", "timeout", "rate-limit", "server-error", "context-length", "content-filter"]
CacheMode = Literal["off", "exact", "semantic"]
CacheScope = Literal["project", "key", "user"]
OnLoss = Literal["warn", "refuse", "drop"]


class Provider(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where calls can be sent. `base_url` ends before the dialect's own path (`/chat/completions`)."""

    name: str
    dialect: DialectName = "openai"
    also: tuple[DialectName, ...] = ()
    """Other dialects the server speaks at the same base URL: calls in these pass untouched instead of being
    translated (OpenAI's `responses`)."""
    base_url: str
    """May hold `{VARIABLE}` parts (`{AWS_REGION}`) that are filled from the environment when rows are planned."""
    auth: AuthKind = "bearer"
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never enters the snapshot in clear."""
    secret: str | None = None
    """Name of a sealed secret of the snapshot, used instead of `api_key_env` when set."""
    price_id: str | None = None
    """Provider id in genai-prices; None means prices are unknown. `local` means free of charge."""
    local: bool = False
    """True for engines and apps that this Penstock runs: loopback, internal key, no charge."""
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 120.0
    idle_timeout_s: float = 120.0
    """Longest silence between two pieces of a reply."""
    stream_usage: bool = True
    """Whether the server understands `stream_options.include_usage`; some old ones refuse the member."""
    quirks: tuple[str, ...] = ()
    """Known departures from the dialect, see `dialects/quirks.py`."""
    query: dict[str, str] = {}
    """Sent with every request, such as `api-version`."""
    headers: dict[str, str] = {}
    """Constant headers of every request, such as `anthropic-version`. Never a secret."""
    region: str | None = None
    """For `sigv4`."""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place a route can send a call to."""

    provider: str
    model: str
    weight: float = 1.0
    """Share within its tier, relative to the other targets."""
    tier: int = 0
    """Targets of the lowest tier are tried first; the next tier serves when none of them can."""
    timeout_s: float | None = None
    """Bound of one attempt, less than the provider's own."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often and when a call is sent again before its first content byte has reached the client."""

    max_attempts: int = 3
    """Requests sent for one call at most, over all targets."""
    on: tuple[FaultKind, ...] = ("connect", "timeout", "rate-limit", "server-error")
    same_target: bool = True
    """Whether a target that failed may be asked again once the others of its tier have been tried."""
    base_s: float = 0.2
    max_s: float = 5.0
    """Waits are exponential with full jitter between 0 and min(max_s, base_s × 2^n); `Retry-After` is obeyed up to
    `max_retry_after_s`, and a target that asks for more is left alone."""
    max_retry_after_s: float = 10.0
    budget_ratio: float = 0.1
    """Retries may be at most this share of the route's recent calls (and at least 10 in 10 s), so that an outage is
    not multiplied."""


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a target is left alone for a while."""

    failure_ratio: float = 0.5
    min_calls: int = 5
    window_s: float = 30.0
    open_s: float = 10.0
    """After that one call at a time is let through until one succeeds."""


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Ask a second target when the first is silent for long; whichever begins to answer first serves the call."""

    after_s: float
    max_ratio: float = 0.05
    """Share of the route's calls that may be hedged."""


class Fallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another route that takes over when this one cannot answer."""

    route: str
    on: tuple[FaultKind, ...] = ("connect", "timeout", "rate-limit", "server-error")


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether and for whom replies are kept and given again."""

    mode: CacheMode = "off"
    ttl_s: int = 3600
    scope: CacheScope = "project"
    """Who shares replies. Never wider than a project."""
    share_in_flight: bool = False
    """Two equal requests in flight share one upstream call."""
    max_entry_bytes: int = 1024 * 1024
    embedding_route: str = "minilm"
    """For `semantic`: the route that embeds prompts."""
    threshold: float = 0.95
    """For `semantic`: least cosine similarity of the last user messages."""
    max_messages: int = 3
    """For `semantic`: longer conversations are not looked up."""
    with_tools: bool = False
    check_ratio: float = 0.02
    """For `semantic`: share of hits that is also sent upstream, to estimate false hits."""


class Deprecation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What clients of a route or of one pinned version are told. Dates are `YYYY-MM-DD`, UTC."""

    since: str | None = None
    """From then on replies carry `deprecation` and, if set, `sunset` (RFC 9745, RFC 8594)."""
    sunset: str | None = None
    """From then on calls are refused (retired)."""
    replacement: str | None = None


class PinnedVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API version of a route that clients pin as `ROUTE@NAME`."""

    name: str
    targets: tuple[Target, ...]
    version: str | None = None
    versions: dict[str, str] = {}
    """Copied into the span's `versions`; empty: the route's."""
    deprecation: Deprecation | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name clients put into `model`."""

    name: str
    targets: tuple[Target, ...]
    kind: RouteKind = "any"
    owned_by: str = "penstock"
    version: str | None = None
    """What `x-penstock-version` says, such as `model:pocket@1 sha256:0123…`."""
    versions: dict[str, str] = {}
    """Copied into the span's `versions`."""
    holds: str | None = None
    """Of a `search` route: the stamp of the version that its base holds. Answers of apps are kept no longer than it."""
    balance: Balance = "weighted"
    sticky: Sticky = "none"
    deadline_s: float | None = None
    """Bound of the whole call with all its attempts, its stream included."""
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy | None = BreakerPolicy()
    hedge: HedgePolicy | None = None
    fallbacks: tuple[Fallback, ...] = ()
    cache: CachePolicy = CachePolicy()
    on_loss: OnLoss = "warn"
    """When a request says something the target's dialect cannot: `warn` serves it and names what was left out in
    `x-penstock-dropped`, `refuse` answers 400, `drop` serves it without a word."""
    deprecation: Deprecation | None = None
    pins: tuple[PinnedVersion, ...] = ()
    cancel_upstream: bool = True
    """Whether the provider is left when the client leaves; False lets the reply be read to its end."""


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A price the operator set: US dollars per million tokens, by usage class; classes left out are unknown."""

    provider: str
    model: str
    """Exact name, or a prefix that ends in `*`."""
    usd_per_million: dict[str, Decimal] = {}
    usd_per_request: Decimal | None = None


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as gateways know it: the id to look it up by, and the digest to compare."""

    id: str
    name: str
    secret_sha256: str
    """Hex SHA-256 of the whole key. Keys carry 256 random bits, so a slow hash would add nothing."""
    project: str = "default"
    scopes: tuple[str, ...] = ("call",)
    """`call` may use the gateway, `owner` may do everything, `internal` is this installation's own."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    routes: tuple[str, ...] | None = None
    """Routes this key may call; None means all."""
    user: str | None = None
    """Whose key it is: what its calls count under, whomever they name."""
    expires_ns: int | None = None
    previous_sha256: str | None = None
    """Digest of the text before the last rotation, valid until `previous_until_ns`."""
    previous_until_ns: int | None = None
