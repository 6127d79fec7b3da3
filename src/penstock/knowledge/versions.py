"""Where the live generation of a base is written down: in the registry as `knowledge:NAME@prod`.

The registry is a room beside this one, so it is met through a port; `main` passes the real one.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from penstock.base.errors import NotFound
from penstock.spec.assets import AssetRef

ALIAS = "prod"


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

    def register(self, kind: Any, name: str, content: dict[str, Any], *, note: str = "") -> RegisteredVersion:
        """Keep `content` as a version; the same content gives the same version."""

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
        is_own_check: bool = False,
    ) -> Any:
        """Let `alias` name version `number`."""


class RegistryVersions:
    """A `VersionKeeper` over the registry."""

    def __init__(self, registry: RegistryPort, *, actor: str = "knowledge.ingest") -> None:
        self._registry = registry
        self._actor = actor

    def publish(self, name: str, content: dict[str, Any], *, evidence: dict[str, Any]) -> str:
        """Register `content` and move `prod` to it, with the ingest's report as evidence."""
        version = self._registry.register("knowledge", name, content)
        self._registry.move_alias(
            "knowledge",
            name,
            ALIAS,
            version.number,
            evidence=evidence,
            actor=self._actor,
            is_own_check=True,
        )
        return f"knowledge:{name}@{version.number}"

    def find_live(self, name: str) -> tuple[dict[str, Any], str] | None:
        """Return content and name of what `prod` names."""
        try:
            version = self._registry.resolve(AssetRef(kind="knowledge", name=name, alias=ALIAS))
        except NotFound:
            return None
        return dict(version.content), f"knowledge:{name}@{version.number}"
