"""A snapshot made ready for calls: keys by digest, routes by name, request heads and reply headers as bytes.

Building a table validates the snapshot whole; a call then only looks things up. Tables are never changed.
"""

import hmac
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import msgspec

from penstock import __version__
from penstock.base.errors import InvalidInput
from penstock.providers.transport import Origin, parse_base_url
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.spec.snapshot import Limits, Snapshot

Header = tuple[bytes, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyTarget:
    """A target with all that can be computed before a call."""

    provider: Provider
    model: str
    weight: float
    origin: Origin
    heads: Mapping[str, bytes]
    """Operation path (`/chat/completions`) → request line and the headers that are always the same."""
    missing_env: str | None
    """The variable that should hold the provider's key and does not."""
    reply_headers: tuple[Header, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyRoute:
    """A route with its targets."""

    route: Route
    targets: tuple[ReadyTarget, ...]
    total_weight: float

    def order_targets(self, rng: random.Random) -> tuple[ReadyTarget, ...]:
        """Return the targets in the order to try them: a weighted choice first, the others behind it."""
        if len(self.targets) == 1:
            return self.targets
        left = list(self.targets)
        order: list[ReadyTarget] = []
        weight = self.total_weight
        while left:
            point = rng.random() * weight
            chosen = left[-1]
            for target in left:
                point -= target.weight
                if point < 0:
                    chosen = target
                    break
            left.remove(chosen)
            order.append(chosen)
            weight -= chosen.weight
        return tuple(order)


MAX_MODEL_CHARS = 256
OPERATIONS = ("/chat/completions", "/completions", "/embeddings")


class Table:
    """What calls are answered from."""

    def __init__(self, snapshot: Snapshot, *, environ: Mapping[str, str], internal_key: str | None) -> None:
        """Build from a snapshot; raise `InvalidInput` that names the row that is wrong."""
        self.digest = snapshot.digest
        self.created_s = snapshot.written_ns // 1_000_000_000
        self.limits: Limits = snapshot.limits
        self._keys: dict[str, KeyRow] = {row.secret_sha256.lower(): row for row in snapshot.keys}
        if internal_key:
            row = KeyRow(
                id="internal",
                name="internal",
                secret_sha256=sha256(internal_key.encode()).hexdigest(),
                scopes=("internal",),
            )
            self._keys[row.secret_sha256] = row
        providers = {provider.name: provider for provider in snapshot.providers}
        if len(providers) < len(snapshot.providers):
            raise InvalidInput("The snapshot names a provider twice.")
        self.routes: dict[str, ReadyRoute] = {}
        self.open_routes: dict[str, ReadyRoute] = {}
        """By provider: rows named `PROVIDER/*`, which answer under every model name of that provider."""
        names: set[str] = set()
        for route in snapshot.routes:
            if route.name in names:
                raise InvalidInput(f"The snapshot names the route {route.name!r} twice.")
            names.add(route.name)
            targets = tuple(
                _ready_target(route, target, providers, environ, internal_key) for target in route.targets
            )
            if not targets:
                raise InvalidInput(f"The route {route.name!r} has no targets.")
            total = sum(target.weight for target in targets)
            if any(target.weight < 0 for target in targets) or total <= 0:
                raise InvalidInput(f"The weights of route {route.name!r} must be positive.")
            ready = ReadyRoute(route=route, targets=targets, total_weight=total)
            if route.name.endswith("/*"):
                self.open_routes[route.name.removesuffix("/*")] = ready
            else:
                self.routes[route.name] = ready

    def find_key(self, secret: bytes) -> KeyRow | None:
        """Return the key's row, or None. The digest is compared in constant time after the lookup."""
        digest = sha256(secret).hexdigest()
        row = self._keys.get(digest)
        if row is None or not hmac.compare_digest(row.secret_sha256.lower(), digest):
            return None
        return row

    def find_route(self, model: str) -> tuple[str, ReadyRoute] | None:
        """Return the row that answers for `model`, by its own name, or None.

        Without a route of that name, `openai/*` answers for `openai/gpt-4o` with the provider's `gpt-4o`.
        """
        ready = self.routes.get(model)
        if ready is not None:
            return model, ready
        prefix, slash, rest = model.partition("/")
        opened = self.open_routes.get(prefix) if slash else None
        if opened is None or not 1 <= len(rest) <= MAX_MODEL_CHARS or not rest.isprintable():
            return None
        return opened.route.name, _narrow(opened, model, rest)

    def priced_models(self) -> list[tuple[str, str]]:
        """Return the (price id, model) pairs that calls will need prices for."""
        return [
            (target.provider.price_id, target.model)
            for route in self.routes.values()
            for target in route.targets
            if target.provider.price_id not in (None, "local") and not target.provider.local
            if target.provider.price_id is not None
        ]


def _narrow(opened: ReadyRoute, name: str, model: str) -> ReadyRoute:
    """Return an open route as the route to one model."""
    changed = {b"x-penstock-route": header_text(name), b"x-penstock-model": header_text(model)}
    targets = tuple(
        replace(
            target,
            model=model,
            reply_headers=tuple((key, changed.get(key, value)) for key, value in target.reply_headers),
        )
        for target in opened.targets
    )
    route = msgspec.structs.replace(opened.route, name=name)
    return ReadyRoute(route=route, targets=targets, total_weight=opened.total_weight)


def header_text(text: str) -> bytes:
    """Return `text` as a header value: anything but printable ASCII is written as `?`."""
    return "".join(char if " " <= char <= "~" else "?" for char in text).encode("ascii")


def _ready_target(
    route: Route,
    target: Target,
    providers: Mapping[str, Provider],
    environ: Mapping[str, str],
    internal_key: str | None,
) -> ReadyTarget:
    provider = providers.get(target.provider)
    if provider is None:
        raise InvalidInput(
            f"The route {route.name!r} points to the provider {target.provider!r}, which is not configured.",
            hint=f"Known providers: {', '.join(sorted(providers)) or 'none'}.",
        )
    origin = parse_base_url(provider.base_url)
    secret, missing = _provider_key(provider, environ, internal_key)
    auth = b""
    if secret is not None:
        auth = (
            (b"x-api-key: " if provider.auth == "x-api-key" else b"authorization: Bearer ") + secret + b"\r\n"
        )
    heads = {
        path: (
            f"POST {origin.path}{path} HTTP/1.1\r\nhost: {origin.authority}\r\n"
            f"user-agent: penstock/{__version__}\r\naccept-encoding: identity\r\ncontent-type: application/json\r\n"
        ).encode("ascii")
        + auth
        for path in OPERATIONS
    }
    reply_headers = [
        (b"x-penstock-route", header_text(route.name)),
        (b"x-penstock-provider", header_text(provider.name)),
        (b"x-penstock-model", header_text(target.model)),
    ]
    if route.version:
        reply_headers.append((b"x-penstock-version", header_text(route.version)))
    return ReadyTarget(
        provider=provider,
        model=target.model,
        weight=target.weight,
        origin=origin,
        heads=heads,
        missing_env=missing,
        reply_headers=tuple(reply_headers),
    )


def _provider_key(
    provider: Provider, environ: Mapping[str, str], internal_key: str | None
) -> tuple[bytes | None, str | None]:
    """Return the key to send and, if there should be one and is not, the variable to set."""
    if provider.local:
        return (internal_key.encode() if internal_key else None), None
    if provider.auth == "none" or provider.api_key_env is None:
        return None, None
    text = environ.get(provider.api_key_env, "").strip()
    if not text or not text.isascii() or not text.isprintable():
        return None, provider.api_key_env
    return text.encode("ascii"), None
