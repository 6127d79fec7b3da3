"""From settings, environment and what is registered to the provider and route rows of a snapshot. Pure.

Three sources, in this order of strength: `penstock.toml`, then the installation's own models and apps, then
providers found in the environment. Of two rows with one name the stronger stands.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from penstock.base.errors import suggest
from penstock.main.errors import SettingsInvalid
from penstock.main.instance import Addresses
from penstock.main.settings import Problem, ProviderSettings, SettingsFile, invalid_settings
from penstock.providers.catalogue import PROVIDERS, providers_with_keys
from penstock.registry.types import Version
from penstock.spec.routes import Provider, Route, RouteKind, Target
from penstock.spec.snapshot import Limits

ENGINE = "engine"
APPS = "apps"
LEXICAL = "lexical"
WEIGHTS = "model.gguf"
"""The artefact that makes a model version one that the embedded engine hosts."""
LOCAL_SERVERS = {"OLLAMA_HOST": "ollama", "VLLM_BASE_URL": "vllm", "LLAMACPP_BASE_URL": "llamacpp"}
"""Environment variables that name a local server, and the catalogue's row for it."""
_CATALOGUE = {provider.name: provider for provider in PROVIDERS}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows, and where each provider came from."""

    providers: tuple[Provider, ...]
    routes: tuple[Route, ...]
    limits: Limits
    origins: Mapping[str, str]
    """Provider name to `settings`, `environment` or `built in`."""


def plan(
    file: SettingsFile,
    environ: Mapping[str, str],
    addresses: Addresses,
    *,
    models: Iterable[Version] = (),
    apps: Iterable[Version] = (),
) -> Plan:
    """Return the rows of a snapshot; raise `SettingsInvalid` for what settings get wrong about each other."""
    found: dict[str, tuple[Provider, str]] = {}
    for provider in _found_in(environ):
        found[provider.name] = (provider, "environment")
    problems: list[Problem] = []
    for name, row in file.settings.providers.items():
        provider_or_problem = _provider(file, name, row)
        if isinstance(provider_or_problem, Problem):
            problems.append(provider_or_problem)
        else:
            found[name] = (provider_or_problem, "settings")
    for provider in _own(addresses):
        found[provider.name] = (provider, "built in")
    problems += _target_problems(file, found)
    if problems:
        raise invalid_settings(file.path, problems)
    routes = {route.name: route for route in _own_routes(models, apps)}
    routes |= {route.name: route for route in _written_routes(file)}
    return Plan(
        providers=tuple(provider for provider, _ in found.values()),
        routes=(*routes.values(), *_open_routes(found, routes)),
        limits=_limits(file),
        origins={name: origin for name, (_, origin) in found.items()},
    )


def _own(addresses: Addresses) -> Iterator[Provider]:
    for name, url in ((ENGINE, addresses.engine_url), (APPS, addresses.apps_url)):
        yield Provider(name=name, base_url=f"{url}/v1", local=True, price_id="local")


def _found_in(environ: Mapping[str, str]) -> Iterator[Provider]:
    yield from providers_with_keys(environ)
    for variable, name in LOCAL_SERVERS.items():
        if address := environ.get(variable, "").strip():
            known = _CATALOGUE[name]
            has_key = known.api_key_env is not None and bool(environ.get(known.api_key_env))
            yield msgspec.structs.replace(
                known,
                base_url=local_url(address, known.base_url, variable),
                auth=known.auth if has_key else "none",
                api_key_env=known.api_key_env if has_key else None,
            )


def local_url(address: str, usual: str, variable: str) -> str:
    """Return the base URL that a variable such as OLLAMA_HOST means: scheme, port and `/v1` may be left out."""
    usual_parts = urlsplit(usual)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsInvalid(
            f"The variable {variable} does not hold an address.",
            hint=f"Write it like {usual}.",
            variable=variable,
        )
    host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - servers announce what they bind
    shown = f"[{host}]" if ":" in host else host
    if port is None and "://" not in address:
        port = usual_parts.port
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{path}"


def _provider(file: SettingsFile, name: str, row: ProviderSettings) -> Provider | Problem:
    where = ("providers", name)
    if name in {ENGINE, APPS}:
        return file.problem(where, f"{name!r} is the name of a built-in provider", "Choose another name.")
    known = _CATALOGUE.get(name)
    base_url = row.base_url or (known.base_url if known else None)
    if base_url is None:
        near = suggest(name, _CATALOGUE)
        return file.problem(
            where, "the key 'base_url' is missing", near or "Only well-known providers have one."
        )
    is_known_place = known is not None and base_url == known.base_url
    api_key_env = row.api_key_env or (known.api_key_env if known and is_known_place else None)
    return Provider(
        name=name,
        dialect=row.dialect,
        base_url=base_url,
        auth=row.auth or ("bearer" if api_key_env else "none"),
        api_key_env=api_key_env,
        price_id=row.price_id or (known.price_id if known else None),
        timeout_s=row.timeout_s,
        connect_timeout_s=row.connect_timeout_s,
        first_byte_timeout_s=row.first_byte_timeout_s,
    )


def _target_problems(file: SettingsFile, found: Mapping[str, Any]) -> Iterator[Problem]:
    for name, route in file.settings.routes.items():
        for number, target in enumerate(route.targets):
            if target.provider in found:
                continue
            hint = suggest(target.provider, found) or f"Known: {', '.join(sorted(found))}."
            known = _CATALOGUE.get(target.provider)
            if known and known.api_key_env:
                hint = f"Set {known.api_key_env}, or write a section [providers.{known.name}]."
            yield file.problem(
                ("routes", name, "targets", number, "provider"),
                f"there is no provider {target.provider!r}",
                hint,
            )


def _written_routes(file: SettingsFile) -> Iterator[Route]:
    for name, row in file.settings.routes.items():
        targets = tuple(
            Target(provider=target.provider, model=target.model, weight=target.weight)
            for target in row.targets
        )
        yield Route(name=name, targets=targets, kind=row.kind, owned_by=targets[0].provider)


def _own_routes(models: Iterable[Version], apps: Iterable[Version]) -> Iterator[Route]:
    yield Route(
        name=LEXICAL,
        targets=(Target(provider=ENGINE, model=LEXICAL),),
        kind="embedding",
        version="lexical@1 built in",
        versions={"model:lexical": "1"},
    )
    for version in models:
        kind: RouteKind = "embedding" if version.content.get("kind") == "embedding" else "chat"
        yield _versioned_route(version, ENGINE, kind)
    for version in apps:
        yield _versioned_route(version, APPS, "chat")


def _versioned_route(version: Version, provider: str, kind: RouteKind) -> Route:
    return Route(
        name=version.name,
        targets=(Target(provider=provider, model=version.name),),
        kind=kind,
        version=f"{version.label} {version.stamp.partition('@')[2]}",
        versions={version.asset: version.stamp},
    )


def _open_routes(found: Mapping[str, tuple[Provider, str]], taken: Mapping[str, Route]) -> Iterator[Route]:
    """Yield `PROVIDER/*` for providers that answer under the names of their own models."""
    for name, (provider, origin) in found.items():
        route = f"{name}/*"
        if origin != "built in" and route not in taken:
            yield Route(name=route, targets=(Target(provider=provider.name, model="*"),), owned_by=name)


def _limits(file: SettingsFile) -> Limits:
    limits, traces = file.settings.limits, file.settings.traces
    return Limits(
        max_body_bytes=limits.max_body_bytes,
        max_json_depth=limits.max_json_depth,
        max_concurrent_calls=limits.max_concurrent_calls,
        capture_payloads=traces.capture_payloads,
        max_payload_bytes=traces.max_payload_bytes,
    )
