"""The nouns of the registry, as REST, command line and console show them."""

from dataclasses import dataclass
from typing import Any, Literal

from penstock.base.digest import short_digest
from penstock.registry.alias_words import say_basis
from penstock.spec.assets import AssetKind


@dataclass(frozen=True, kw_only=True)
class Version:
    """One immutable state of an asset."""

    kind: AssetKind
    name: str
    number: int
    """1, 2, 3 … within the asset, in the order of registration."""
    digest: str
    """Over kind, name, content and artefacts."""
    content: dict[str, Any]
    artefacts: dict[str, str]
    """File name to blob digest."""
    parents: tuple[str, ...]
    """Digests of the versions it was made from, in the order given."""
    created_ns: int
    note: str

    @property
    def asset(self) -> str:
        """`kind:name`."""
        return f"{self.kind}:{self.name}"

    @property
    def label(self) -> str:
        """`kind:name@number`, as people write it."""
        return f"{self.kind}:{self.name}@{self.number}"

    @property
    def stamp(self) -> str:
        """`number@sha256:…` with twelve hex characters, as spans carry it."""
        return f"{self.number}@sha256:{short_digest(self.digest)}"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One asset in a list."""

    kind: AssetKind
    name: str
    n_versions: int
    latest: int
    aliases: dict[str, int]
    created_ns: int
    updated_ns: int
    """When its newest version was registered."""


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    """One move of an alias, never changed afterwards."""

    id: int
    kind: AssetKind
    name: str
    alias: str
    from_number: int | None
    """None when the alias was new."""
    to_number: int
    actor: str
    moved_ns: int
    evidence: dict[str, Any] | None
    reason: str | None
    is_override: bool
    """True when a protected alias moved without evidence; `reason` then says why."""
    undoes: int | None
    """The id of the move that this rollback took back; None for a plain move."""

    @property
    def basis(self) -> str:
        """What it rests on, in words."""
        return say_basis(self.evidence, is_override=self.is_override, is_rollback=self.undoes is not None)

    @property
    def action(self) -> Literal["move", "rollback"]:
        """Which of the two it was."""
        return "move" if self.undoes is None else "rollback"


@dataclass(frozen=True, kw_only=True)
class LineageNode:
    """A version seen from another one; `distance` counts the shortest chain of parents between them."""

    kind: AssetKind
    name: str
    number: int
    digest: str
    distance: int


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a version was made from (`up`) and what was made from it (`down`), nearest first."""

    digest: str
    up: tuple[LineageNode, ...]
    down: tuple[LineageNode, ...]
    edges: tuple[tuple[str, str], ...]
    """(child digest, parent digest) among all of these versions, for drawing."""
