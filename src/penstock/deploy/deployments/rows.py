"""From deployments to the rows of a snapshot. Pure.

Each process has a provider row of its own, because an address is a provider's. Deployments of one route share it when
they serve one version; which version a route serves is told with every reply, so two versions never share one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from penstock.deploy.deployments.types import Generation, PinnedModel
from penstock.spec.routes import PinnedVersion, Provider, Route, RouteKind, Target
from penstock.spec.tuning import DeploymentSpec

PROD = "prod"
MAX_PIN_CHARS = 64
PREFIX = "engine-"
"""Of the names of providers that deployments bring."""


@dataclass(frozen=True, kw_only=True)
class LiveDeployment:
    """A deployment that takes traffic, with the addresses of its processes."""

    spec: DeploymentSpec
    generation: Generation
    urls: tuple[str | None, ...]
    """Ending in `/v1`, one a process; None for one that has no address yet."""


@dataclass(frozen=True, kw_only=True)
class SharedModel:
    """A version that can be asked for by its number, and where."""

    asset: str
    number: int
    digest: str
    kind: RouteKind
    target: Target

    @property
    def stamp(self) -> str:
        """`NUMBER@sha256:…`"""
        return f"{self.number}@sha256:{self.digest.removeprefix('sha256:')[:12]}"

    @property
    def shown(self) -> str:
        """What `x-penstock-version` says."""
        return f"{self.asset}@{self.number} sha256:{self.digest.removeprefix('sha256:')[:12]}"


def provider_names(name: str, count: int) -> list[str]:
    """Return the names of a deployment's providers: `engine-NAME`, and `engine-NAME~2` … for further processes."""
    return [
        f"{PREFIX}{name}" if number == 1 else f"{PREFIX}{name}~{number}" for number in range(1, count + 1)
    ]


def adapters_of_seat(generation: Generation, number: int) -> tuple[PinnedModel, ...]:
    """Return the adapters that a process of a generation loads beside its base; seats count from 0."""
    if not generation.is_strict:
        return generation.adapters
    n_base = len(generation.seats) - len(generation.adapters)
    return () if number < n_base else (generation.adapters[number - n_base],)


def route_name(spec: DeploymentSpec) -> str:
    """Return the route that a deployment answers under."""
    return spec.route or spec.name


def adapter_route(name: str, adapter: PinnedModel) -> str:
    """Return the route of one adapter of a deployment."""
    return f"{name}:{adapter.name}"


def deployment_providers(live: Iterable[LiveDeployment]) -> Iterator[Provider]:
    """Yield the providers of these deployments."""
    for each in live:
        for name, url in zip(provider_names(each.spec.name, len(each.urls)), each.urls, strict=True):
            if url is None:
                continue
            if each.generation.url is not None:
                yield Provider(
                    name=name,
                    base_url=url,
                    secret=each.generation.secret,
                    auth="bearer" if each.generation.secret else "none",
                )
            else:
                yield Provider(name=name, base_url=url, local=True, price_id="local")


def deployment_routes(
    live: Sequence[LiveDeployment],
    shared: Iterable[SharedModel] = (),
    aliases: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> Iterator[Route]:
    """Yield the routes of these deployments: each one's own, those of its adapters, and `model:NAME` with pins, also of
    the models that the shared engine hosts. `aliases` are those of the registry, by asset."""
    by_route: dict[str, list[LiveDeployment]] = {}
    for each in live:
        by_route.setdefault(route_name(each.spec), []).append(each)
    for name, sharing in by_route.items():
        first = sharing[0].generation.model
        same = [each for each in sharing if each.generation.model.digest == first.digest]
        yield _route(name, first, [target for each in same for target in _targets(each)])
        for each in sharing:
            yield from _adapter_routes(each)
    yield from _model_routes(live, shared, aliases)


def _adapter_routes(live: LiveDeployment) -> Iterator[Route]:
    """Yield `NAME:ADAPTER` for each adapter asset of a deployment; its versions are pins, without one the first that
    was asked for answers."""
    base = live.generation.model
    found: dict[str, Route] = {}
    for number, adapter in enumerate(live.generation.adapters):
        served = f"{live.generation.served_name}:{adapter.name}@{adapter.short}"
        name = adapter_route(live.spec.name, adapter)
        answers = _route(name, adapter, _targets(live, served, adapter=number), also={base.asset: base.stamp})
        if not answers.targets:
            continue
        pin = PinnedVersion(
            name=adapter.short, targets=answers.targets, version=answers.version, versions=answers.versions
        )
        known = found.setdefault(name, answers)
        if pin not in known.pins:
            found[name] = msgspec.structs.replace(known, pins=(*known.pins, pin))
    yield from found.values()


def _model_routes(
    live: Sequence[LiveDeployment],
    shared: Iterable[SharedModel],
    aliases: Mapping[str, Mapping[str, int]],
) -> Iterator[Route]:
    """Yield `model:NAME` with the numbers that are served as pins, so that a version can be asked for as such; also
    with the aliases that name one of these, and with those that are followed: what follows one answers for it until
    what it names by now is served.

    Without a number it is what `prod` names, or the newest that is deployed.
    """
    served: dict[str, dict[int, SharedModel]] = {}
    first: dict[str, SharedModel] = {}
    followed: dict[str, dict[str, SharedModel]] = {}
    for each in shared:
        served.setdefault(each.asset, {})[each.number] = each
        first[each.asset] = each
        if PROD in aliases.get(each.asset, {}):
            followed.setdefault(each.asset, {})[PROD] = each
    for deployment in sorted(live, key=lambda each: -each.generation.model.number):
        model, targets = deployment.generation.model, _targets(deployment)
        if not targets:
            continue
        own = SharedModel(
            asset=model.asset, number=model.number, digest=model.digest, kind=model.kind, target=targets[0]
        )
        served.setdefault(model.asset, {}).setdefault(model.number, own)
        first.setdefault(model.asset, own)
        if deployment.spec.follow and (alias := _alias(deployment.spec.model)):
            followed.setdefault(model.asset, {}).setdefault(alias, own)
    for asset, numbered in served.items():
        named = [(str(number), each) for number, each in sorted(numbered.items())]
        meant = {
            alias: numbered[number]
            for alias, number in aliases.get(asset, {}).items()
            if number in numbered and len(alias) <= MAX_PIN_CHARS
        } | followed.get(asset, {})
        pins = tuple(
            PinnedVersion(name=name, targets=(each.target,), version=each.shown, versions={asset: each.stamp})
            for name, each in [*named, *sorted(meant.items())]
        )
        prod = first[asset]
        yield Route(
            name=asset,
            targets=(prod.target,),
            kind=prod.kind,
            version=prod.shown,
            versions={asset: prod.stamp},
            pins=pins,
        )


def _alias(reference: str) -> str | None:
    """Return the alias of `model:NAME@ALIAS`; None for a number, a digest, and what is too long for a pin."""
    tail = reference.partition("@")[2]
    is_alias = tail and not tail.isdigit() and not tail.startswith("sha256:")
    return tail if is_alias and len(tail) <= MAX_PIN_CHARS else None


def _route(
    name: str, model: PinnedModel, targets: Sequence[Target], *, also: Mapping[str, str] | None = None
) -> Route:
    kind: RouteKind = model.kind
    return Route(
        name=name,
        targets=tuple(targets),
        kind=kind,
        version=shown_version(model),
        versions={**(also or {}), model.asset: model.stamp},
        balance="least-busy" if len(targets) > 1 else "weighted",
    )


def shown_version(model: PinnedModel) -> str:
    """Return what `x-penstock-version` says of a model."""
    return f"{model.label} sha256:{model.short}"


def _targets(live: LiveDeployment, served: str | None = None, *, adapter: int | None = None) -> list[Target]:
    names = provider_names(live.spec.name, len(live.urls))
    pairs = list(zip(names, live.urls, strict=True))
    if live.generation.is_strict:
        n_base = len(pairs) - len(live.generation.adapters)
        pairs = pairs[:n_base] if adapter is None else [pairs[n_base + adapter]]
    model = served or live.generation.served_name
    return [
        Target(provider=name, model=model, weight=live.spec.weight / 100)
        for name, url in pairs
        if url is not None
    ]
