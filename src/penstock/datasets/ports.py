"""What datasets ask of rooms beside them: a keeper of versions, a store of blobs, the record of traffic."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from penstock.datasets.types import Judgement, TrafficRow
from penstock.spec.assets import AssetRef


class KeptVersion(Protocol):
    """The part of a registry's version that matters here."""

    @property
    def name(self) -> str:
        """Of the asset."""

    @property
    def number(self) -> int:
        """Counts up from 1 within the asset."""

    @property
    def digest(self) -> str:
        """Over everything in it."""

    @property
    def content(self) -> Mapping[str, Any]:
        """What was registered."""

    @property
    def artefacts(self) -> Mapping[str, str]:
        """File name to digest of a blob."""

    @property
    def parents(self) -> Sequence[str]:
        """Digests of the versions it was made from."""

    @property
    def created_ns(self) -> int:
        """When it was registered."""

    @property
    def note(self) -> str:
        """What its maker said."""

    @property
    def stamp(self) -> str:
        """`NUMBER@sha256:…`."""


class KeptAsset(Protocol):
    """The part of a registry's list of assets that matters here."""

    @property
    def name(self) -> str:
        """Of the asset."""

    @property
    def n_versions(self) -> int:
        """How many there are."""

    @property
    def latest(self) -> int:
        """The highest number."""

    @property
    def aliases(self) -> Mapping[str, int]:
        """Alias to number."""

    @property
    def created_ns(self) -> int:
        """When its first version was registered."""

    @property
    def updated_ns(self) -> int:
        """When its newest version was registered."""


class VersionKeeper(Protocol):
    """The part of `registry.service.Registry` that keeps datasets."""

    def register(
        self,
        kind: str,
        name: str,
        content: dict[str, Any],
        *,
        artefacts: Mapping[str, str] | None = None,
        parents: Sequence[str] = (),
        note: str = "",
    ) -> KeptVersion:
        """Keep a version; the same content gives the same version."""

    def resolve(self, ref: AssetRef | str) -> KeptVersion:
        """Return the version that `ref` names; raise `NotFound`."""

    def list_assets(self, kind: str | None = None) -> Sequence[KeptAsset]:
        """Return all assets of a kind by name."""

    def list_versions(self, kind: str, name: str) -> Sequence[KeptVersion]:
        """Return the versions of an asset, newest first; raise `NotFound`."""

    def aliases(self, kind: str, name: str) -> Mapping[str, int]:
        """Return alias to number; raise `NotFound`."""


class Blobs(Protocol):
    """The part of the blob store that keeps rows."""

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and return their digest."""

    def put_file(self, path: Path) -> str:
        """Store a file of any size and return its digest."""

    def local_path(self, digest: str) -> Path:
        """Return a local file with the blob's content, to be read only."""


class Traffic(Protocol):
    """The record of what was asked and answered; joined in `main` over the span store."""

    def find_calls(
        self,
        search: str,
        *,
        subject: str,
        since_ns: int | None,
        until_ns: int | None,
        project: str | None,
        limit: int,
    ) -> Iterator[TrafficRow]:
        """Yield what a search finds, newest first: `subject` is `call` (model calls) or `trace` (root spans)."""

    def get_call(self, trace_id: str, span_id: str | None) -> TrafficRow:
        """Return one span, or the trace's root; raise `NotFound`."""

    def list_judgements(
        self, *, name: str | None, since_ns: int | None, project: str | None, limit: int
    ) -> Iterator[Judgement]:
        """Yield what people judged, newest first; what only models or code judged is not feedback."""
