"""From what people wrote to the rows of a snapshot. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from penstock.deploy.limit_sections import LimitRuleSettings, PriceSettings
from penstock.deploy.sections import (
    BreakerSettings,
    DeprecationSettings,
    FallbackSettings,
    PinSettings,
    ProviderSettings,
    RouteSettings,
    TargetSettings,
)
from penstock.providers.catalogue import PROVIDERS
from penstock.spec.limits import LimitRule
from penstock.spec.routes import (
    AuthKind,
    BreakerPolicy,
    CachePolicy,
    Deprecation,
    DialectName,
    Fallback,
    HedgePolicy,
    PinnedVersion,
    PriceRow,
    Provider,
    RetryPolicy,
    Route,
    Target,
)
from penstock.spec.usage import TOKEN_CLASSES

CATALOGUE = {provider.name: provider for provider in PROVIDERS}
_USUAL_AUTH: Mapping[DialectName, AuthKind] = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""How keys are sent to servers of a dialect; to all others as a bearer token."""


def provider_row(name: str, section: ProviderSettings) -> Provider | None:
    """Return the provider called `name`, or None when nothing says its address.

    What the section leaves out is the catalogue's. A usual key variable is only taken at the usual address: a
    provider's key is not for whoever else answers under its name.
    """
    known = CATALOGUE.get(name)
    written = _said(section)
    base_url = section.base_url or (known.base_url if known else None)
    if base_url is None:
        return None
    row = known or Provider(name=name, base_url=base_url, auth="none")
    if base_url != row.base_url or section.secret is not None:
        row = msgspec.structs.replace(row, api_key_env=None)
    changes: dict[str, Any] = {**written, "base_url": base_url}
    for list_of in ("quirks", "also"):
        if list_of in changes:
            changes[list_of] = tuple(changes[list_of])
    for name_values in ("headers", "query"):
        if name_values in changes:
            changes[name_values] = {**getattr(row, name_values), **changes[name_values]}
    row = msgspec.structs.replace(row, **changes)
    if section.auth is None:
        usual = known.auth if known is not None else "none"
        if usual == "none":
            usual = _USUAL_AUTH.get(row.dialect, "bearer")
        row = msgspec.structs.replace(row, auth=usual if _has_key(row) else "none")
    return row


def _has_key(row: Provider) -> bool:
    return row.api_key_env is not None or row.secret is not None or row.auth in {"sigv4", "gcp"}


def route_row(name: str, section: RouteSettings) -> Route:
    """Return the route called `name`."""
    targets = _targets(section.targets)
    return Route(
        name=name,
        targets=targets,
        kind=section.kind,
        owned_by=section.owned_by or targets[0].provider,
        version=section.version,
        balance=section.balance,
        sticky=section.sticky,
        deadline_s=section.deadline_s,
        retry=msgspec.convert(section.retry.model_dump(), RetryPolicy),
        breaker=_breaker(section.breaker),
        hedge=None if section.hedge is None else HedgePolicy(**section.hedge.model_dump()),
        fallbacks=tuple(_fallback(fallback) for fallback in section.fallbacks),
        cache=CachePolicy(**section.cache.model_dump()),
        on_loss=section.on_loss,
        deprecation=_deprecation(section.deprecation),
        pins=tuple(_pin(pin) for pin in section.pins),
        cancel_upstream=section.cancel_upstream,
    )


def limit_row(name: str, section: LimitRuleSettings) -> LimitRule:
    """Return the rule called `name`."""
    return LimitRule(
        name=name,
        scope=section.scope,
        match=section.match,
        unit=section.unit,
        amount=section.amount,
        window=section.window,
        action=section.action,
    )


def price_row(name: str, section: PriceSettings) -> PriceRow:
    """Return the price of `PROVIDER/MODEL`."""
    provider, _, model = name.partition("/")
    rates = {each: rate for each in TOKEN_CLASSES if (rate := getattr(section, each)) is not None}
    return PriceRow(
        provider=provider, model=model, usd_per_million=rates, usd_per_request=section.usd_per_request
    )


def price_name(provider: str, model: str) -> str:
    """Return what the price of a model is called: `PROVIDER/MODEL`."""
    return f"{provider}/{model}"


def _said(section: BaseModel) -> dict[str, Any]:
    values = section.model_dump(exclude_unset=True)
    return {name: value for name, value in values.items() if value is not None}


def _targets(sections: list[TargetSettings]) -> tuple[Target, ...]:
    return tuple(Target(**section.model_dump()) for section in sections)


def _breaker(section: BreakerSettings) -> BreakerPolicy | None:
    if not section.enabled:
        return None
    return BreakerPolicy(**section.model_dump(exclude={"enabled"}))


def _fallback(section: FallbackSettings) -> Fallback:
    return Fallback(route=section.route, on=tuple(section.on))


def _deprecation(section: DeprecationSettings | None) -> Deprecation | None:
    return None if section is None else Deprecation(**section.model_dump())


def _pin(section: PinSettings) -> PinnedVersion:
    return PinnedVersion(
        name=section.name,
        targets=_targets(section.targets),
        version=section.version,
        deprecation=_deprecation(section.deprecation),
    )
