"""What prompts ask of a registry: its versions and its aliases, as far as they matter here."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock.spec.assets import AssetRef


class KeptVersion(Protocol):
    """One immutable version; `registry.types.Version` is one."""

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def content(self) -> dict[str, Any]: ...
    @property
    def parents(self) -> tuple[str, ...]: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def note(self) -> str: ...


class KeptAsset(Protocol):
    """An asset in a list."""

    @property
    def name(self) -> str: ...
    @property
    def n_versions(self) -> int: ...
    @property
    def latest(self) -> int: ...
    @property
    def aliases(self) -> dict[str, int]: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def updated_ns(self) -> int: ...


class Relative(Protocol):
    """A version that was made from another one."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...


class Relatives(Protocol):
    """Everything made from a version."""

    @property
    def down(self) -> Sequence[Relative]: ...


class Versions(Protocol):
    """Keeps versions."""

    def register(
        self,
        kind: str,
        name: str,
        content: dict[str, Any],
        *,
        parents: Sequence[AssetRef | str] = (),
        note: str = "",
    ) -> KeptVersion:
        """Return the version with this content, made if there is none."""
        ...

    def resolve(self, ref: AssetRef | str) -> KeptVersion:
        """Return what a reference names; raise `NotFound`."""
        ...

    def list_assets(self, kind: str | None = None) -> Sequence[KeptAsset]:
        """Return all assets of a kind by name."""
        ...

    def list_versions(self, kind: str, name: str) -> Sequence[KeptVersion]:
        """Return the versions of an asset, newest first; raise `NotFound`."""
        ...

    def lineage(self, version: AssetRef | str) -> Relatives:
        """Return what was made from a version."""
        ...


class Aliases(Protocol):
    """Moves names over versions."""

    def aliases(self, kind: str, name: str) -> Mapping[str, int]:
        """Return alias to number; raise `NotFound`."""
        ...

    def history(self, kind: str, name: str, alias: str | None = None, *, limit: int = 1000) -> Sequence[Any]:
        """Return the moves, newest first."""
        ...

    def move_alias(
        self,
        kind: str,
        name: str,
        alias: str,
        number: int,
        *,
        actor: str,
        evidence: dict[str, Any] | None = None,
        reason: str | None = None,
        override_reason: str | None = None,
    ) -> Any:
        """Point an alias at a version and return the move."""
        ...

    def rollback_alias(
        self, kind: str, name: str, alias: str, *, actor: str, reason: str | None = None
    ) -> Any:
        """Take back the newest move that still stands and return the rollback."""
        ...


class Keeper(Versions, Aliases, Protocol):
    """Both; `registry.service.Registry` is one."""
