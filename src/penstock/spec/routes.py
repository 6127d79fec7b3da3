"""Providers, routes and keys as gateways see them: frozen rows of data, no behaviour."""

from typing import Literal

import msgspec

DialectName = Literal["openai"]
AuthKind = Literal["bearer", "none", "x-api-key"]
RouteKind = Literal["chat", "embedding", "any"]


class Provider(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where calls can be sent. `base_url` ends before `/chat/completions`."""

    name: str
    dialect: DialectName = "openai"
    base_url: str
    auth: AuthKind = "bearer"
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never enters the snapshot."""
    price_id: str | None = None
    """Provider id in genai-prices; None means prices are unknown. `local` means free of charge."""
    local: bool = False
    """True for engines and apps that this Penstock runs: loopback, internal key, no charge."""
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 120.0
    stream_usage: bool = True
    """Whether the server understands `stream_options.include_usage`; some old ones refuse the member."""


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place a route can send a call to."""

    provider: str
    model: str
    weight: float = 1.0


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
