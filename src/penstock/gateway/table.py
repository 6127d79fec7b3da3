"""A snapshot made ready for calls: keys by digest, routes by name, request heads and reply headers as bytes.

Building a table validates the snapshot whole; a call then only looks things up. Tables are never changed.
"""

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from urllib.parse import urlencode

import msgspec

from penstock import __version__
from penstock.base.errors import InvalidInput, suggest
from penstock.gateway.credentials import Credentials, NoSigner
from penstock.gateway.endpoints import CALLS
from penstock.gateway.health import name_target
from penstock.gateway.routing.errors import WrongFallbacks
from penstock.gateway.routing.fallbacks import order_by_fallbacks, rows_behind
from penstock.gateway.routing.versions import sum_holdings
from penstock.providers.auth.port import Signer, TokenFetch
from penstock.providers.transport import Origin, parse_base_url
from penstock.spec.callers import APPS
from penstock.spec.routes import (
    Deprecation,
    DialectName,
    Fallback,
    FaultKind,
    KeyRow,
    PinnedVersion,
    Provider,
    Route,
    Target,
)
from penstock.spec.snapshot import Limits, Snapshot

Header = tuple[bytes, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyTarget:
    """A target with all that can be computed before a call."""

    provider: Provider
    model: str
    weight: float
    tier: int
    origin: Origin
    speaks: frozenset[DialectName]
    """Dialects whose calls pass untouched."""
    quirks: frozenset[str]
    """For the writer of requests in the provider's own dialect."""
    heads: Mapping[str, bytes]
    """Path below the base URL (`/chat/completions`) → request line and the headers that are always the same."""
    head_rest: bytes
    """Those headers alone, for paths that vary."""
    signer: Signer | None
    """Set where each request needs headers of its own to prove who calls."""
    missing: NoSigner | None
    """Set where the provider cannot be called, its key not being there."""
    reply_headers: tuple[Header, ...]
    timeout_s: float | None = None
    """Bound of one attempt, less than the provider's own."""
    health_id: str = ""
    """The place that it is, by which its health is known: the same in all routes, and for all models of an open one,
    which have a health of their own besides."""

    is_open: bool = False
    """Whether it stands in an open route, where callers choose the model."""
    secret: bytes | None = None
    """The key it is sent, where that is always the same."""
    is_app: bool = False
    """Whether it is an app or a prompt of this installation, which calls back: tokens and money are those of its calls."""

    def mask(self, data: bytes) -> bytes:
        """Return what the provider sent; stars for the key that it was sent, should it have put that in (an error may)."""
        secret = self.secret
        if secret is None or data.find(secret) < 0:
            return data
        return data.replace(secret, b"*" * len(secret))

    def request_target(self, path: str) -> bytes:
        """Return what stands in the request line for `path` below the base URL, the provider's own query added."""
        query = urlencode(self.provider.query)
        mark = "&" if "?" in path else "?"
        return f"{self.origin.path}{path}{mark + query if query else ''}".encode("ascii")

    def head(self, path: str) -> bytes:
        """Return request line and constant headers for `path` below the base URL."""
        known = self.heads.get(path)
        return known or b"POST %b HTTP/1.1\r\n%b" % (self.request_target(path), self.head_rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyRoute:
    """A route with its targets."""

    route: Route
    targets: tuple[ReadyTarget, ...]
    tiers: tuple[tuple[ReadyTarget, ...], ...]
    """The same by tier, the one to try first in front."""
    row: str
    """Name of the row it comes from, which is another one than the route's for pins and open routes."""
    fallbacks: "tuple[tuple[Fallback, ReadyRoute], ...]" = ()
    """Routes that take over, and when."""
    watched_faults: frozenset[FaultKind] = frozenset()
    """What another target or route would be asked for."""
    asks_prompt: bool = False
    """Whether a target is a prompt, which asks another model in its turn."""
    passes_on: bool = False
    """Whether all targets are apps or prompts, so that the calls they make reserve what is used."""
    reaches_apps: bool = False
    """Whether an app may answer, be it as one of several targets or in place of a route that failed."""
    deprecation: Deprecation | None = None
    """Of the pinned version, else of the route."""

    @property
    def longest_s(self) -> float:
        """What bounds a call where the route sets no deadline: the longest that any of its providers is given."""
        return max(target.provider.timeout_s for target in self.targets)


MAX_MODEL_CHARS = 256
PROMPT = "prompt:"
"""How names begin that prompts answer under."""
_MAX_NARROWED = 512
_MIN_SECRET_BYTES = 12
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


_NO_SECRETS: Mapping[str, str] = {}


class Table:
    """What calls are answered from."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        environ: Mapping[str, str],
        internal_key: str | None,
        secrets: Mapping[str, str] = _NO_SECRETS,
        fetch: TokenFetch | None = None,
    ) -> None:
        """Build from a snapshot; raise `InvalidInput` that names the row that is wrong.

        `secrets` are the snapshot's own, opened, by the provider that may be sent them. `fetch` gets tokens for providers that want these.
        """
        self.digest = snapshot.digest
        self.created_s = snapshot.written_ns // 1_000_000_000
        self.written_ns = snapshot.written_ns
        self.n_calls = 0
        """Calls under way that are served by this table."""
        self.limits: Limits = snapshot.limits
        self.limit_rules = snapshot.limit_rules
        self.prices = snapshot.prices
        self.redis_url = environ.get(snapshot.redis_url_env) if snapshot.redis_url_env else None
        self._keys: dict[str, KeyRow] = {row.secret_sha256.lower(): row for row in snapshot.keys}
        self._previous_keys = {row.previous_sha256: row for row in snapshot.keys if row.previous_sha256}
        self.internal_row: KeyRow | None = None
        """Of this installation's own key."""
        if internal_key:
            row = self.internal_row = KeyRow(
                id="internal",
                name="internal",
                secret_sha256=sha256(internal_key.encode()).hexdigest(),
                scopes=("internal",),
            )
            self._keys[row.secret_sha256] = row
        self._keys_by_id = {row.id: row for row in self._keys.values()}
        providers = {provider.name: provider for provider in snapshot.providers}
        if len(providers) < len(snapshot.providers):
            raise InvalidInput("The snapshot names a provider twice.")
        self.apps: ReadyTarget | None = None
        """The apps process, for what is asked of it besides models; None where the snapshot has none."""
        self.routes: dict[str, ReadyRoute] = {}
        self.open_routes: dict[str, ReadyRoute] = {}
        """By provider: rows named `PROVIDER/*`, which answer under every model name of that provider."""
        self._narrowed: dict[str, ReadyRoute] = {}
        """Open routes as the routes to the models that were asked for lately."""
        self._pins: dict[str, tuple[str, ReadyRoute]] = {}
        """`ROUTE@PIN` → the route's name and the pinned version as a route."""
        names: set[str] = set()
        credentials = Credentials(environ, secrets, fetch)
        make = partial(_ready_target, providers, credentials, internal_key=internal_key)
        if APPS in providers and providers[APPS].local:
            self.apps = make(Route(name=APPS, targets=()), Target(provider=APPS, model=APPS))
        for route in snapshot.routes:
            if route.name in names:
                raise InvalidInput(f"The snapshot names the route {route.name!r} twice.")
            names.add(route.name)
            if route.name.endswith("/*"):
                self.open_routes[route.name.removesuffix("/*")] = _ready_route(route, make)
            else:
                self.routes[route.name] = _ready_route(route, make)
            for pin in route.pins:
                pinned = _ready_route(_pinned_route(route, pin), make, row=route.name)
                self._pins[pinned.route.name] = route.name, pinned
        self._link_fallbacks(snapshot.routes)
        self.holdings = sum_holdings(snapshot.routes)
        """What all knowledge bases hold, as one short text that changes with any of them; empty without bases."""

    def _link_fallbacks(self, routes: Iterable[Route]) -> None:
        rows = {route.name: route for route in routes}
        for name in order_by_fallbacks({row.name: rows_behind(row, rows) for row in rows.values()}):
            row = rows[name]
            if not row.fallbacks:
                continue
            linked: list[tuple[Fallback, ReadyRoute]] = []
            for fallback in row.fallbacks:
                found = self.find_route(fallback.route)
                if found is None:
                    raise WrongFallbacks(
                        f"The route {name!r} falls back to {fallback.route!r}, which does not exist.",
                        hint=suggest(fallback.route, rows),
                    )
                linked.append((fallback, found[1]))
            self._set_fallbacks(name, tuple(linked))

    def _set_fallbacks(self, name: str, linked: tuple[tuple[Fallback, ReadyRoute], ...]) -> None:
        watched = frozenset(kind for fallback, _ in linked for kind in fallback.on)
        reaches_apps = any(behind.reaches_apps for _, behind in linked)

        def link(ready: ReadyRoute) -> ReadyRoute:
            return replace(
                ready,
                fallbacks=linked,
                watched_faults=ready.watched_faults | watched,
                reaches_apps=ready.reaches_apps or reaches_apps,
            )

        prefix = name.removesuffix("/*")
        self._narrowed.clear()
        if name.endswith("/*"):
            self.open_routes[prefix] = link(self.open_routes[prefix])
        else:
            self.routes[name] = link(self.routes[name])
        for pin, (row, ready) in self._pins.items():
            if row == name:
                self._pins[pin] = row, link(ready)

    def find_key(self, secret: bytes, *, now_ns: int | None = None) -> KeyRow | None:
        """Return the key's row, or None. The digest is compared in constant time after the lookup.

        A text from before a rotation counts until its overlap is over. Whether the key has expired is not asked here.
        """
        digest = sha256(secret).hexdigest()
        row = self._keys.get(digest)
        if row is not None:
            return row if hmac.compare_digest(row.secret_sha256.lower(), digest) else None
        row = self._previous_keys.get(digest)
        if row is None or not hmac.compare_digest(row.previous_sha256 or "", digest):
            return None
        now_ns = time.time_ns() if now_ns is None else now_ns
        return row if row.previous_until_ns is not None and now_ns < row.previous_until_ns else None

    def find_key_row(self, key_id: str) -> KeyRow | None:
        """Return the row of the key with that id, or None."""
        return self._keys_by_id.get(key_id)

    def find_route(self, model: str) -> tuple[str, ReadyRoute] | None:
        """Return the row that answers for `model`, by its own name, or None.

        `triage@v1` is the version v1 that the route `triage` pins. Without a route of that name, `openai/*` answers
        for `openai/gpt-4o` with the provider's `gpt-4o`.
        """
        ready = self.routes.get(model)
        if ready is not None:
            return model, ready
        pinned = self._pins.get(model)
        if pinned is not None:
            return pinned
        if model.startswith(PROMPT):
            return self._find_prompt_version(model)
        prefix, slash, rest = model.partition("/")
        opened = self.open_routes.get(prefix) if slash else None
        if opened is None or not 1 <= len(rest) <= MAX_MODEL_CHARS or not rest.isprintable():
            return None
        narrowed = self._narrowed.get(model)
        if narrowed is None:
            if len(self._narrowed) >= _MAX_NARROWED:
                self._narrowed.clear()
            narrowed = self._narrowed[model] = _narrow(opened, model, rest)
        return opened.route.name, narrowed

    def _find_prompt_version(self, model: str) -> tuple[str, ReadyRoute] | None:
        """Return the route of a prompt for one version that is no alias: `prompt:triage@3`, `prompt:triage@sha256:…`."""
        name, at, version = model.partition("@")
        ready = self.routes.get(name)
        if ready is None or not at or not is_header_text(version, longest=MAX_MODEL_CHARS):
            return None
        if len(ready.targets) != 1 or ready.targets[0].model.partition("@")[0] != name:
            return None  # a route of that name that somebody wrote
        narrowed = self._narrowed.get(model)
        if narrowed is None:
            if len(self._narrowed) >= _MAX_NARROWED:
                self._narrowed.clear()
            narrowed = self._narrowed[model] = _at_version(ready, model)
        return name, narrowed

    def prompt_versions(self, route: str) -> list[ReadyRoute]:
        """Return the aliases of a prompt as routes; none for other routes."""
        if not route.startswith(PROMPT):
            return []
        return [ready for row, ready in self._pins.values() if row == route]

    def priced_models(self) -> list[tuple[str, str]]:
        """Return the (price id, model) pairs that calls will need prices for."""
        return [
            (target.provider.price_id, target.model)
            for route in self.routes.values()
            for target in route.targets
            if target.provider.price_id not in (None, "local") and not target.provider.local
            if target.provider.price_id is not None
        ]


def _at_version(ready: ReadyRoute, model: str) -> ReadyRoute:
    """Return the route of a prompt as the route to one version of it, of which no more is known than its name."""
    narrowed = _narrow(ready, model, model)
    route = msgspec.structs.replace(narrowed.route, version=model, versions={})
    targets = tuple(
        replace(
            target,
            reply_headers=tuple(
                (key, header_text(model) if key == b"x-penstock-version" else value)
                for key, value in target.reply_headers
            ),
        )
        for target in narrowed.targets
    )
    return replace(narrowed, route=route, targets=targets, tiers=_by_tier(targets))


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
    return replace(
        opened,
        route=msgspec.structs.replace(opened.route, name=name),
        targets=targets,
        tiers=_by_tier(targets),
    )


def _ready_route(
    route: Route, make: Callable[[Route, Target], ReadyTarget], *, row: str | None = None
) -> ReadyRoute:
    targets = tuple(make(route, target) for target in route.targets)
    if not targets:
        raise InvalidInput(f"The route {route.name!r} has no targets.")
    if any(target.weight < 0 for target in targets) or sum(target.weight for target in targets) <= 0:
        raise InvalidInput(f"The weights of route {route.name!r} must be positive.")
    return ReadyRoute(
        route=route,
        targets=targets,
        tiers=_by_tier(targets),
        row=row or route.name,
        watched_faults=frozenset(route.retry.on) if len(targets) > 1 else frozenset(),
        deprecation=route.deprecation,
        asks_prompt=any(target.model.startswith(PROMPT) for target in targets),
        passes_on=all(target.is_app for target in targets),
        reaches_apps=any(target.is_app for target in targets),
    )


def _by_tier(targets: Sequence[ReadyTarget]) -> tuple[tuple[ReadyTarget, ...], ...]:
    numbers = sorted({target.tier for target in targets})
    return tuple(tuple(target for target in targets if target.tier == number) for number in numbers)


def _pinned_route(route: Route, pin: PinnedVersion) -> Route:
    return msgspec.structs.replace(
        route,
        name=f"{route.name}@{pin.name}",
        targets=pin.targets,
        version=pin.version or route.version,
        versions=pin.versions or route.versions,
        deprecation=pin.deprecation or route.deprecation,
        pins=(),
    )


def header_text(text: str) -> bytes:
    """Return `text` as a header value: anything but printable ASCII is written as `?`."""
    return "".join(char if " " <= char <= "~" else "?" for char in text).encode("ascii")


def is_header_text(text: str, *, longest: int) -> bool:
    """Return whether `text` can stand in a header as it is."""
    return 1 <= len(text) <= longest and all(" " < char <= "~" for char in text)


def _ready_target(
    providers: Mapping[str, Provider],
    credentials: Credentials,
    route: Route,
    target: Target,
    *,
    internal_key: str | None,
) -> ReadyTarget:
    provider = providers.get(target.provider)
    if provider is None:
        raise InvalidInput(
            f"The route {route.name!r} points to the provider {target.provider!r}, which is not configured.",
            hint=f"Known providers: {', '.join(sorted(providers)) or 'none'}.",
        )
    origin = parse_base_url(provider.base_url)
    signer: Signer | None = None
    fixed = b""
    missing: NoSigner | None = None
    if provider.local:
        fixed = b"authorization: Bearer %b\r\n" % internal_key.encode() if internal_key else b""
    else:
        made = credentials.find(provider)
        if isinstance(made, NoSigner):
            missing = made
        else:
            lines = made.static_headers()
            signer = made if lines is None else None
            fixed = lines or b""
    head_rest = (
        (
            f"host: {origin.authority}\r\nuser-agent: penstock/{__version__}\r\naccept-encoding: identity\r\n"
        ).encode("ascii")
        + _constant_headers(provider)
        + fixed
    )
    is_open = route.name.endswith("/*")
    ready = ReadyTarget(
        provider=provider,
        model=target.model,
        weight=target.weight,
        tier=target.tier,
        origin=origin,
        speaks=frozenset((provider.dialect, *provider.also)),
        quirks=frozenset(provider.quirks) | (frozenset() if provider.stream_usage else {"no_stream_usage"}),
        heads={},
        head_rest=head_rest,
        signer=signer,
        missing=missing,
        reply_headers=_reply_headers(route, target),
        timeout_s=target.timeout_s,
        health_id=name_target(provider, "*" if is_open else target.model),
        is_open=is_open,
        secret=_secret_in(fixed),
        is_app=provider.local and provider.name == APPS,
    )
    heads = {
        endpoint.path: ready.head(endpoint.path)
        for endpoint in CALLS.values()
        if endpoint.dialect in ready.speaks
    }
    return replace(ready, heads=heads)


def _secret_in(line: bytes) -> bytes | None:
    """Return the key in a header line; None for what stands for one where none is needed (`ollama`, `EMPTY`)."""
    key = line.strip().partition(b": ")[2].removeprefix(b"Bearer ")
    return key if len(key) >= _MIN_SECRET_BYTES else None


def _reply_headers(route: Route, target: Target) -> tuple[Header, ...]:
    headers = [
        (b"x-penstock-route", header_text(route.name)),
        (b"x-penstock-provider", header_text(target.provider)),
        (b"x-penstock-model", header_text(target.model)),
    ]
    if route.version:
        headers.append((b"x-penstock-version", header_text(route.version)))
    return tuple(headers)


def _constant_headers(provider: Provider) -> bytes:
    """Return the row's own header lines; raise `InvalidInput` for what would break the request apart."""
    lines: list[bytes] = []
    for name, value in provider.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise InvalidInput(
                f"The provider {provider.name!r} has the header {name[:100]!r}, which cannot be sent."
            )
        lines.append(f"{name.lower()}: {value}\r\n".encode("ascii"))
    return b"".join(lines)
