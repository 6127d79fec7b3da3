"""What a snapshot must fulfil as a whole. Pure: looks up no name and opens no connection."""

import ipaddress
import math
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from penstock.spec.routes import KeyRow, Provider, Route
from penstock.spec.snapshot import Limits, Snapshot

KNOWN_SCOPES = frozenset({"call", "owner", "internal"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def find_problems(snapshot: Snapshot) -> list[str]:
    """Return everything that is wrong, in the order of the snapshot; empty when it may be served."""
    return list(_problems(snapshot))


def _problems(snapshot: Snapshot) -> Iterator[str]:
    yield from _repeated("provider", (provider.name for provider in snapshot.providers))
    yield from _repeated("route", (route.name for route in snapshot.routes))
    yield from _repeated("key", (key.id for key in snapshot.keys))
    yield from _repeated("secret of key", (key.secret_sha256 for key in snapshot.keys))
    names = frozenset(provider.name for provider in snapshot.providers)
    for provider in snapshot.providers:
        yield from (f"provider {provider.name!r}: {text}" for text in _provider_problems(provider))
    for route in snapshot.routes:
        yield from (f"route {route.name!r}: {text}" for text in _route_problems(route, names))
    for key in snapshot.keys:
        yield from (f"key {key.id!r}: {text}" for text in _key_problems(key))
    yield from (f"limits: {text}" for text in _limit_problems(snapshot.limits))


def _repeated(what: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            shown = f"{name[:8]}…" if what.startswith("secret") else repr(name)
            yield f"{what} {shown} stands there {count} times"


def _provider_problems(provider: Provider) -> Iterator[str]:
    if not _is_header_text(provider.name, longest=64):
        yield "its name must be 1 to 64 printable ASCII characters"
    yield from _url_problems(provider)
    if provider.api_key_env is not None and not _VARIABLE.fullmatch(provider.api_key_env):
        yield "api_key_env is not the name of an environment variable"
    for field in ("timeout_s", "connect_timeout_s", "first_byte_timeout_s"):
        value = getattr(provider, field)
        if not math.isfinite(value) or value <= 0:
            yield f"{field} must be over 0, not {value}"


def _url_problems(provider: Provider) -> Iterator[str]:
    """Providers are rows that somebody wrote, so private addresses are meant; see each exception here.

    Link-local addresses are refused always: cloud machines serve their credentials there. A `local` row is
    sent this installation's internal key, so it may name this machine only.
    """
    url = provider.base_url
    if not url.isascii() or not url.isprintable() or " " in url:
        yield "base_url has characters that no address has"
        return
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        yield f"base_url cannot be read: {error}"
        return
    if parts.scheme not in {"http", "https"} or not host:
        yield f"base_url {url!r} must begin with http:// or https:// and name a host"
        return
    if port == 0:
        yield "base_url has port 0"
    if parts.username is not None or parts.password is not None:
        yield "base_url holds a user name or password; name the key's variable in api_key_env"
    if parts.query or parts.fragment:
        yield "base_url has a ? or # part"
    address = _literal_address(host)
    if provider.local and host != "localhost" and not (address and address.is_loopback):
        yield f"it is local but {host!r} is not a loopback address"
    elif address and (address.is_link_local or address.is_multicast or address.is_unspecified):
        yield f"base_url names {host}, an address that calls are never sent to"


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:  # the old forms that resolvers still take: 2852039166, 0xa9fea9fe, 169.254.43518
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _route_problems(route: Route, providers: frozenset[str]) -> Iterator[str]:
    if not _is_header_text(route.name, longest=256):
        yield "its name must be 1 to 256 printable ASCII characters, because it stands in reply headers"
    if route.version is not None and not _is_header_text(route.version, longest=512):
        yield "its version must be printable ASCII, because it stands in reply headers"
    if not route.targets:
        yield "it has no target"
    for target in route.targets:
        if target.provider not in providers:
            known = ", ".join(sorted(providers)) or "none"
            yield f"its target names the provider {target.provider!r}, which is not there; known: {known}"
        if not 1 <= len(target.model) <= 256 or not target.model.isprintable():
            yield f"the model {target.model[:40]!r} must be 1 to 256 printable characters"
        if not math.isfinite(target.weight) or target.weight <= 0:
            yield f"the weight of {target.provider}/{target.model} must be over 0, not {target.weight}"


def _key_problems(key: KeyRow) -> Iterator[str]:
    if not _SHA256.fullmatch(key.secret_sha256):
        yield "secret_sha256 is not 64 hex characters"
    if not key.scopes or not KNOWN_SCOPES.issuperset(key.scopes):
        yield f"its scopes must be of {', '.join(sorted(KNOWN_SCOPES))}"
    for field in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(key, field)
        if value is not None and value < 1:
            yield f"{field} must be at least 1, not {value}"
    if key.routes is not None and not key.routes:
        yield "it may call no route at all; leave routes out for all of them"


def _limit_problems(limits: Limits) -> Iterator[str]:
    for field in ("max_body_bytes", "max_json_depth", "max_concurrent_calls"):
        if (value := getattr(limits, field)) < 1:
            yield f"{field} must be at least 1, not {value}"
    if limits.max_payload_bytes < 0:
        yield "max_payload_bytes must not be negative"


def _is_header_text(text: str, *, longest: int) -> bool:
    return 1 <= len(text) <= longest and text.isascii() and text.isprintable()
