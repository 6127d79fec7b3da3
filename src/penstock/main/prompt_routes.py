"""Prompts as routes: each answers under `prompt:NAME` and `prompt:NAME@ALIAS`; other versions are found when asked. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.registry.types import Version
from penstock.spec.callers import APPS
from penstock.spec.routes import PinnedVersion, RetryPolicy, Route, Target

MAX_ALIAS_CHARS = 64
"""Of a pin; longer aliases are found when they are asked."""


@dataclass(frozen=True, kw_only=True)
class PromptVersions:
    """What a prompt's name and its aliases stand for."""

    live: Version
    """`prod`, or the newest where there is none."""
    aliases: Mapping[str, Version] = field(default_factory=dict)


def prompt_route(prompt: PromptVersions) -> Route:
    """Return the route of a prompt. Retries and breakers are those of the model that it asks."""
    live = prompt.live
    return Route(
        name=live.asset,
        targets=(Target(provider=APPS, model=live.label),),
        kind="chat",
        version=_shown(live),
        versions={live.asset: live.stamp},
        retry=RetryPolicy(max_attempts=1),
        breaker=None,
        pins=tuple(
            PinnedVersion(
                name=alias,
                targets=(Target(provider=APPS, model=version.label),),
                version=_shown(version),
                versions={version.asset: version.stamp},
            )
            for alias, version in sorted(prompt.aliases.items())
            if len(alias) <= MAX_ALIAS_CHARS
        ),
    )


def _shown(version: Version) -> str:
    return f"{version.label} {version.stamp.partition('@')[2]}"
