"""What a person can say of a provider or a route: one form for `penstock.toml`, the command line and REST.

Each section leaves out what has a default, so that a default that changes reaches everybody who did not choose.
"""

from typing import Annotated

from pydantic import Field

from penstock.deploy.section_types import (
    BaseUrl,
    Date,
    ModelName,
    RouteName,
    Seconds,
    SecretName,
    Section,
    Share,
    VariableName,
    Weight,
)
from penstock.spec.routes import (
    AuthKind,
    Balance,
    CacheMode,
    CacheScope,
    DialectName,
    FaultKind,
    OnLoss,
    RouteKind,
    Sticky,
)

FAULTS: list[FaultKind] = ["connect", "timeout", "rate-limit", "server-error"]


class ProviderSettings(Section):
    """`[providers.NAME]`: where calls can be sent. For a provider of the catalogue, every key is optional."""

    dialect: DialectName | None = None
    """The wire protocol the provider speaks. Unset: the catalogue's, else `openai`."""
    also: list[DialectName] | None = None
    """Other dialects the server speaks at the same address, so that calls in these pass untouched."""
    base_url: BaseUrl | None = None
    """Ends before the dialect's own path (`/chat/completions`). Optional for providers of the catalogue."""
    api_key_env: VariableName | None = None
    """Name of the environment variable that holds the key."""
    secret: SecretName | None = None
    """Name of a sealed secret (`penstock secret set`) that holds the key, instead of `api_key_env`."""
    auth: AuthKind | None = None
    """How the key is sent. Unset: the catalogue's, else as servers of the dialect expect it, when there is a key."""
    price_id: str | None = None
    """Provider id in genai-prices. Unset: the catalogue's; unknown providers have no price."""
    timeout_s: Seconds = 600.0
    """Seconds a whole call may take, its stream included."""
    connect_timeout_s: Seconds = 5.0
    """Seconds until a connection must stand."""
    first_byte_timeout_s: Seconds = 120.0
    """Seconds until the first byte of the reply must come."""
    idle_timeout_s: Seconds = 120.0
    """Longest silence between two pieces of a reply, in seconds."""
    stream_usage: bool | None = None
    """Whether the server understands `stream_options.include_usage`. Unset: the catalogue's, else true."""
    quirks: list[str] | None = None
    """Known departures from the dialect, such as `max_tokens` for servers that know only the old name."""
    query: dict[str, str] | None = None
    """Sent with every request, such as `api-version`."""
    headers: dict[str, str] | None = None
    """Constant headers of every request, such as `anthropic-version`. Never a secret."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    """Region that requests are signed for, with `auth = "sigv4"`."""


class TargetSettings(Section):
    """One place a route can send a call to."""

    provider: str
    """A name under `[providers]`, or one of the catalogue."""
    model: ModelName
    """What the provider calls the model."""
    weight: Weight = 1.0
    """Share of the calls, relative to the other targets of its tier."""
    tier: Annotated[int, Field(ge=0, le=15)] = 0
    """The lowest tier is tried first; the next serves when none of its targets can."""
    timeout_s: Seconds | None = None
    """Seconds one attempt may take; unset: the provider's own bounds."""


class RetrySettings(Section):
    """How often and when a call is sent again before its first content byte has reached the client."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Requests sent for one call at most, over all targets; 1 turns retries off."""
    on: list[FaultKind] = FAULTS
    """Faults that are worth another attempt."""
    same_target: bool = True
    """Whether a target that failed may be asked again once the others of its tier have been tried."""
    base_s: Seconds = 0.2
    """Waits are random between 0 and this, doubled with each attempt."""
    max_s: Seconds = 5.0
    """Longest wait between two attempts."""
    max_retry_after_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Longest `Retry-After` that is waited for; a target that asks for more is left alone."""
    budget_ratio: Share = 0.1
    """Largest share of the route's recent calls that may be retries, so that an outage is not multiplied."""


class BreakerSettings(Section):
    """When a target is left alone for a while."""

    enabled: bool = True
    """false: every target is always tried."""
    failure_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failed calls within the window that opens the breaker."""
    min_calls: Annotated[int, Field(ge=1, le=100_000)] = 5
    """With fewer calls in the window it stays closed."""
    window_s: Seconds = 30.0
    """Seconds that are looked back."""
    open_s: Seconds = 10.0
    """Seconds a target is left alone; then one call at a time is let through until one succeeds."""


class HedgeSettings(Section):
    """Ask a second target when the first is silent for long; whichever begins to answer first serves."""

    after_s: Seconds
    """Seconds of silence after which the second target is asked."""
    max_ratio: Share = 0.05
    """Largest share of the route's calls that may be hedged."""


class FallbackSettings(Section):
    """Another route that takes over when this one cannot answer."""

    route: RouteName
    """Its name."""
    on: list[FaultKind] = FAULTS
    """Faults it takes over for; `context-length` and `content-filter` only when named."""


class CacheSettings(Section):
    """Whether and for whom replies are kept and given again."""

    mode: CacheMode = "off"
    """`exact` gives equal requests equal replies; `semantic` also those that mean the same."""
    ttl_s: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    """Seconds a reply is kept."""
    scope: CacheScope = "project"
    """Who shares replies."""
    share_in_flight: bool = False
    """Two equal requests in flight share one upstream call."""
    max_entry_bytes: Annotated[int, Field(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    """Larger replies are not kept."""
    embedding_route: RouteName = "minilm"
    """For `semantic`: the route that embeds prompts."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """For `semantic`: least cosine similarity of the last user messages."""
    max_messages: Annotated[int, Field(ge=1, le=1000)] = 3
    """For `semantic`: longer conversations are not looked up."""
    with_tools: bool = False
    """For `semantic`: whether requests with tools are looked up."""
    check_ratio: Share = 0.02
    """For `semantic`: share of hits that is also sent upstream, to estimate false hits."""


class DeprecationSettings(Section):
    """What clients of a route or of one pinned version are told. Dates are `YYYY-MM-DD`, UTC."""

    since: Date | None = None
    """From then on replies carry `deprecation` and, if set, `sunset`."""
    sunset: Date | None = None
    """From then on calls are refused."""
    replacement: RouteName | None = None
    """The name that refusals and headers point to."""


class PinSettings(Section):
    """An API version of a route that clients pin as `ROUTE@NAME`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """What stands behind the `@`."""
    targets: Annotated[list[TargetSettings], Field(min_length=1, max_length=64)]
    """Where calls to this version go."""
    version: str | None = None
    """What `x-penstock-version` says."""
    deprecation: DeprecationSettings | None = None
    """What its clients are told."""


class RouteSettings(Section):
    """`[routes."NAME"]`: a name clients put into `model`."""

    targets: Annotated[list[TargetSettings], Field(min_length=1, max_length=64)]
    """Where calls go: by tier, then as `balance` says."""
    kind: RouteKind = "any"
    """What the route answers: chats, embeddings, rankings, or any of them."""
    owned_by: str | None = None
    """What `GET /v1/models` says of it; unset: the provider of the first target."""
    version: str | None = None
    """What `x-penstock-version` says."""
    balance: Balance = "weighted"
    """How one target of a tier is chosen."""
    sticky: Sticky = "none"
    """Whether calls of one user or session keep their target."""
    deadline_s: Seconds | None = None
    """Seconds the whole call may take with all its attempts, its stream included."""
    retry: RetrySettings = RetrySettings()
    """When a call is sent again."""
    breaker: BreakerSettings = BreakerSettings()
    """When a target is left alone."""
    hedge: HedgeSettings | None = None
    """When a second target is asked at the same time."""
    fallbacks: list[FallbackSettings] = Field(default_factory=list, max_length=16)
    """Routes that take over, in this order."""
    cache: CacheSettings = CacheSettings()
    """Whether replies are kept."""
    on_loss: OnLoss = "warn"
    """When a target cannot be told all that a request says: `warn` serves and names it, `refuse` answers 400."""
    deprecation: DeprecationSettings | None = None
    """What clients of the route are told."""
    pins: list[PinSettings] = Field(default_factory=list, max_length=64)
    """Versions that clients can pin."""
    cancel_upstream: bool = True
    """Whether the provider is left when the client leaves."""
