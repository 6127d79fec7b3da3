"""Where the live generation of a base is written down: in the registry as `knowledge:NAME@prod`.

The registry is a room beside this one, so it is met through a port; `main` passes the real one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock.base.errors import NotFound, PenstockError
from penstock.spec.assets import AssetRef, parse_asset_ref

ALIAS = "prod"
_MODEL = re.compile(r"\bmodel:[a-z0-9][a-z0-9._-]*@[0-9]+\b")


class RegisteredVersion(Protocol):
    """The part of a registry's version that matters here."""

    @property
    def number(self) -> int:
        """Counts up from 1 within the asset."""

    @property
    def content(self) -> Mapping[str, Any]:
        """What was registered."""


class RegistryPort(Protocol):
    """The part of `registry.service.Registry` that keeps generations."""

    def register(
        self, kind: Any, name: str, content: dict[str, Any], *, note: str = "", parents: Sequence[str] = ()
    ) -> RegisteredVersion:
        """Keep `content` as a version; the same content gives the same version. Parents must be registered."""

    def resolve(self, ref: AssetRef) -> RegisteredVersion:
        """Return the version; raise `NotFound` when there is none."""

    def move_alias(
        self,
        kind: Any,
        name: str,
        alias: str,
        number: int,
        *,
        evidence: dict[str, Any] | None,
        actor: str,
        override_reason: str | None = None,
        is_own_check: bool = False,
    ) -> Any:
        """Let `alias` name version `number`."""


class RegistryVersions:
    """A `VersionKeeper` over the registry."""

    def __init__(self, registry: RegistryPort, *, actor: str = "knowledge.ingest") -> None:
        self._registry = registry
        self._actor = actor

    def publish(
        self,
        name: str,
        content: dict[str, Any],
        *,
        evidence: dict[str, Any],
        override_reason: str | None = None,
        actor: str | None = None,
    ) -> str:
        """Register `content`, below the model that embeds it, and move `prod` to it.

        The evidence was made or checked by this program itself, unless an override says why there is none.
        """
        version = self._registry.register(
            "knowledge", name, content, parents=self._find_models(str(content.get("embedder", "")))
        )
        self._registry.move_alias(
            "knowledge",
            name,
            ALIAS,
            version.number,
            evidence=None if override_reason else evidence,
            actor=actor or self._actor,
            override_reason=override_reason,
            is_own_check=override_reason is None,
        )
        return f"knowledge:{name}@{version.number}"

    def _find_models(self, embedder: str) -> list[str]:
        """Return the registered model versions that an embedder's id names."""
        found = []
        for label in _MODEL.findall(embedder):
            try:
                self._registry.resolve(parse_asset_ref(label))
            except PenstockError:
                continue  # a model of a provider, or one that is registered no more
            found.append(label)
        return found

    def find_live(self, name: str) -> tuple[dict[str, Any], str] | None:
        """Return content and name of what `prod` names."""
        try:
            version = self._registry.resolve(AssetRef(kind="knowledge", name=name, alias=ALIAS))
        except NotFound:
            return None
        return dict(version.content), f"knowledge:{name}@{version.number}"
