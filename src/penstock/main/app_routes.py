"""Apps and knowledge bases as routes: `NAME` and `NAME@ALIAS` answer, `knowledge:NAME` is searched. Pure."""

from collections.abc import Mapping

from penstock.main.prompt_routes import MAX_ALIAS_CHARS
from penstock.registry.types import Version
from penstock.spec.callers import APPS
from penstock.spec.routes import PinnedVersion, RetryPolicy, Route, Target

PROD = "prod"


def app_route(live: Version, aliases: Mapping[str, Version]) -> Route:
    """Return the route of an app, by which each alias but `prod` answers too."""
    return Route(
        name=live.name,
        targets=(Target(provider=APPS, model=live.name),),
        kind="chat",
        version=_shown(live),
        versions={live.asset: live.stamp},
        pins=tuple(
            PinnedVersion(
                name=alias,
                targets=(Target(provider=APPS, model=f"{live.name}@{version.number}"),),
                version=_shown(version),
                versions={version.asset: version.stamp},
            )
            for alias, version in sorted(aliases.items())
            if alias != PROD and len(alias) <= MAX_ALIAS_CHARS
        ),
    )


def search_route(base: Version) -> Route:
    """Return the route that searches a knowledge base. Which version is searched its replies say: that changes alone."""
    return Route(
        name=base.asset,
        targets=(Target(provider=APPS, model=base.name),),
        kind="search",
        holds=base.stamp,
        retry=RetryPolicy(max_attempts=2),
    )


def _shown(version: Version) -> str:
    return f"{version.label} {version.stamp.partition('@')[2]}"
