"""From settings, stored objects, environment and what is registered to the rows of a snapshot. Pure.

Four sources, in this order of strength: `penstock.toml`, then objects of the control tables, then the installation's
own models and apps, then providers found in the environment. Of two rows with one name the stronger stands.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.base.errors import suggest
from penstock.deploy.deployments.row_rules import shadowed_routes, without_unsound
from penstock.deploy.deployments.rows import (
    PREFIX,
    LiveDeployment,
    SharedModel,
    deployment_providers,
    deployment_routes,
)
from penstock.deploy.objects import ObjectKind, Owner, StoredObject
from penstock.deploy.rows import CATALOGUE
from penstock.deploy.rules import find_row_problems
from penstock.deploy.snapshots import draft_snapshot
from penstock.main.app_routes import app_route, search_route
from penstock.main.instance import Addresses
from penstock.main.planned_rows import ENGINE, PlannedRows
from penstock.main.prompt_routes import PromptVersions, prompt_route
from penstock.main.settings import SettingsFile
from penstock.main.settings_problems import Problem
from penstock.registry.types import Version
from penstock.spec.callers import APPS
from penstock.spec.limits import LimitRule
from penstock.spec.routes import PriceRow, Provider, Route, RouteKind, Target
from penstock.spec.snapshot import Limits

LEXICAL = "lexical"
NO_ALIASES: Mapping[str, Mapping[str, Version]] = {}
NO_MODEL_ALIASES: Mapping[str, Mapping[str, int]] = {}
WEIGHTS = "model.gguf"
"""The artefact that makes a model version one that the embedded engine hosts."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows, and where each came from."""

    providers: tuple[Provider, ...]
    routes: tuple[Route, ...]
    limits: Limits
    limit_rules: tuple[LimitRule, ...] = ()
    prices: tuple[PriceRow, ...] = ()
    redis_url_env: str | None = None
    owners: Mapping[tuple[ObjectKind, str], Owner]
    """Kind and name to who keeps the row."""
    lines: Mapping[tuple[ObjectKind, str], int | None]
    """Where rows of the settings file stand in it."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, though everything can be served."""

    @property
    def origins(self) -> Mapping[str, Owner]:
        """Provider name to who keeps it."""
        return {name: owner for (kind, name), owner in self.owners.items() if kind == "provider"}


def plan(
    file: SettingsFile,
    environ: Mapping[str, str],
    addresses: Addresses,
    *,
    models: Iterable[Version] = (),
    model_aliases: Mapping[str, Mapping[str, int]] = NO_MODEL_ALIASES,
    apps: Iterable[Version] = (),
    app_aliases: Mapping[str, Mapping[str, Version]] = NO_ALIASES,
    prompts: Iterable[PromptVersions] = (),
    bases: Iterable[Version] = (),
    deployments: Sequence[LiveDeployment] = (),
    objects: Sequence[StoredObject] = (),
    secrets: Mapping[str, str] | None = None,
) -> Plan:
    """Return the rows of a snapshot; raise `SettingsInvalid` for what settings and objects get wrong about each other.

    `secrets` are the sealed ones; None when they are not known, and then nothing is said about them.
    """
    rows = PlannedRows(file, environ)
    rows.add_found()
    rows.add_objects(objects)
    rows.add_written()
    deployments, warnings = without_unsound(deployments, secrets)
    rows.warnings += warnings
    for provider in _own(addresses):
        rows.put("provider", provider.name, provider, "built in")
    for provider in deployment_providers(deployments):
        rows.put_deployed(provider)
    rows.stand_in_for_gone(PREFIX)
    rows.problems += _target_problems(file, rows.providers)
    rows.refuse()
    models = tuple(models)
    deployed = shadowed_routes(deployments)
    rows.warn_of_kept(deployed)
    for route in (
        *deployment_routes(deployments, map(_shared_model, models), model_aliases),
        *_own_routes(models, apps, app_aliases),
        *map(prompt_route, prompts),
        *map(search_route, bases),
    ):
        if ("route", route.name) not in rows.owners:
            rows.put("route", route.name, route, "built in" if route.name == LEXICAL else "registry")
        elif route.name in deployed and not any(each.startswith("model:") for each in route.versions):
            rows.warnings.append(
                f"the deployment {deployed[route.name]!r} answers as {route.name!r}, so "
                f"{', '.join(route.versions) or 'what the registry has of that name'} cannot be asked under it"
            )
    for route in _open_routes(rows.providers, rows.owners):
        rows.put("route", route.name, route, rows.owners["provider", route.owned_by])
    draft = draft_snapshot(
        providers=rows.providers.values(),
        routes=rows.of("route", Route).values(),
        keys=(),
        limits=_limits(file),
        limit_rules=rows.of("limit", LimitRule).values(),
        prices=rows.of("price", PriceRow).values(),
        secrets=secrets,
        redis_url_env=file.settings.limits.redis_url_env,
    )
    for problem in dict.fromkeys(find_row_problems(draft)):
        if secrets is not None or problem.field != "secret":
            rows.problems.append(rows.placed(problem))
    rows.refuse()
    return Plan(
        providers=draft.providers,
        routes=draft.routes,
        limits=draft.limits,
        limit_rules=draft.limit_rules,
        prices=draft.prices,
        redis_url_env=draft.redis_url_env,
        owners=rows.owners,
        lines={row: rows.line(*row) for row, owner in rows.owners.items() if owner == "settings"},
        warnings=tuple(rows.warnings),
    )


def _own(addresses: Addresses) -> Iterator[Provider]:
    for name, url in ((ENGINE, addresses.engine_url), (APPS, addresses.apps_url)):
        yield Provider(name=name, base_url=f"{url}/v1", local=True, price_id="local")


def _target_problems(file: SettingsFile, found: Mapping[str, Provider]) -> Iterator[Problem]:
    for name, route in file.settings.routes.items():
        for number, target in enumerate(route.targets):
            if target.provider in found:
                continue
            hint = suggest(target.provider, found) or f"Known: {', '.join(sorted(found))}."
            known = CATALOGUE.get(target.provider)
            if known and known.api_key_env:
                hint = f"Set {known.api_key_env}, or write a section [providers.{known.name}]."
            yield file.problem(
                ("routes", name, "targets", number, "provider"),
                f"there is no provider {target.provider!r}",
                hint,
            )


def _own_routes(
    models: Iterable[Version], apps: Iterable[Version], app_aliases: Mapping[str, Mapping[str, Version]]
) -> Iterator[Route]:
    yield Route(
        name=LEXICAL,
        targets=(Target(provider=ENGINE, model=LEXICAL),),
        kind="embedding",
        version="lexical@1 built in",
        versions={"model:lexical": "1"},
    )
    for version in models:
        yield _versioned_route(version, ENGINE, _kind_of(version))
    for version in apps:
        yield app_route(version, app_aliases.get(version.name, {}))


def _shared_model(version: Version) -> SharedModel:
    return SharedModel(
        asset=version.asset,
        number=version.number,
        digest=version.digest,
        kind=_kind_of(version),
        target=Target(provider=ENGINE, model=version.name),
    )


def _kind_of(version: Version) -> RouteKind:
    told = version.content.get("kind")
    return "embedding" if told == "embedding" else "rerank" if told == "rerank" else "chat"


def _versioned_route(version: Version, provider: str, kind: RouteKind) -> Route:
    return Route(
        name=version.name,
        targets=(Target(provider=provider, model=version.name),),
        kind=kind,
        version=f"{version.label} {version.stamp.partition('@')[2]}",
        versions={version.asset: version.stamp},
    )


def _open_routes(
    found: Mapping[str, Provider], owners: Mapping[tuple[ObjectKind, str], Owner]
) -> Iterator[Route]:
    """Yield `PROVIDER/*` for providers that answer under the names of their own models."""
    for name in found:
        route = f"{name}/*"
        if owners["provider", name] != "built in" and ("route", route) not in owners:
            yield Route(name=route, targets=(Target(provider=name, model="*"),), owned_by=name)


def _limits(file: SettingsFile) -> Limits:
    limits, traces = file.settings.limits, file.settings.traces
    return Limits(
        max_body_bytes=limits.max_body_bytes,
        max_file_bytes=limits.max_file_bytes,
        max_project_file_bytes=limits.max_project_file_bytes,
        max_json_depth=limits.max_json_depth,
        max_concurrent_calls=limits.max_concurrent_calls,
        capture_payloads=traces.capture_payloads,
        max_payload_bytes=traces.max_payload_bytes,
        project_capture={
            name: project.capture_payloads
            for name, project in sorted(traces.projects.items())
            if project.capture_payloads is not None
        },
        masks=tuple(mask.rule() for mask in traces.masks),
    )
