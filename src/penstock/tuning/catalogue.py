"""Models as people look at them: the list with its figures, one model's versions, a card, what came of what.

Reads the registry only and loads nothing heavy. What is there is seen at once: nothing is kept in memory between calls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.base.errors import InvalidInput
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.evaluations import Estimate
from penstock.tuning.cards import base_label, describe_parity, write_card
from penstock.tuning.model_files import GGUF

MAX_PAGE = 200
Measured = Callable[[str], Sequence[Estimate]]
"""The newest figures of the version with this digest."""


class AssetReading(Protocol):
    """What is read of the registry."""

    def resolve(self, ref: AssetRef) -> Any: ...
    def get_by_digest(self, digest: str) -> Any: ...
    def list_assets(self, kind: Any = None) -> Sequence[Any]: ...
    def list_versions(self, kind: Any, name: str) -> Sequence[Any]: ...
    def lineage(self, version: Any) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model in a list: the facts of the version that is live, of the newest where none is."""

    name: str
    label: str
    """`model:NAME@NUMBER` of the version that the facts are of."""
    digest: str
    is_live: bool
    """Whether `prod` names that version and it can be served."""
    kind: str | None
    architecture: str | None
    n_parameters: int | None
    precision: str | None
    size_bytes: int | None
    context_length: int | None
    license: str | None
    description: str
    method: str | None
    """How it was made; None for pulled and shipped models."""
    base: str | None
    """`model:NAME@NUMBER` it was made from."""
    source: str | None
    formats: tuple[str, ...]
    is_adapter: bool
    n_versions: int
    latest: int
    aliases: Mapping[str, int]
    updated_ns: int


@dataclass(frozen=True, kw_only=True)
class ModelPage:
    """A page of models by name."""

    rows: tuple[ModelRow, ...]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version of a model."""

    label: str
    number: int
    digest: str
    aliases: tuple[str, ...]
    kind: str | None
    precision: str | None
    size_bytes: int | None
    method: str | None
    base: str | None
    run: str | None
    """The run that made it."""
    parity: str | None
    """The outcome of its proof, in a phrase."""
    is_adapter: bool
    note: str
    created_ns: int


@dataclass(frozen=True, kw_only=True)
class ModelDetail:
    """One version with everything a page or a person needs."""

    row: ModelRow
    version: VersionRow
    versions: tuple[VersionRow, ...]
    """All of the model, newest first."""
    content: Mapping[str, Any]
    artefacts: Mapping[str, str]
    card: str
    measured: tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True)
class LineageNode:
    """A version in the graph."""

    digest: str
    label: str
    kind: str
    distance: int
    """0 for the version itself, negative for what it was made from."""
    method: str | None = None
    precision: str | None = None


@dataclass(frozen=True, kw_only=True)
class LineageGraph:
    """What a version was made from and what was made from it, and of training the rest that is no version."""

    nodes: tuple[LineageNode, ...]
    edges: tuple[tuple[str, str], ...]
    """(child digest, parent digest)"""
    origin: Mapping[str, Any]
    """The version's own lineage: recipe, run, code, environment, hardware, evaluation."""


class ModelCatalogue:
    """Reading models. Every method may be called from any thread."""

    def __init__(self, registry: AssetReading, *, measured: Measured = lambda _: ()) -> None:
        self._registry = registry
        self._measured = measured

    def list(
        self, *, kind: str | None = None, text: str = "", cursor: str | None = None, limit: int = 50
    ) -> ModelPage:
        """Return models by name; `text` is part of name, description or licence, `kind` chat, embedding, rerank or adapter."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"limit must be 1 to {MAX_PAGE}.")
        rows = [self._row(asset) for asset in self._registry.list_assets("model")]
        wanted = [row for row in rows if _fits(row, kind, text.casefold())]
        after = [row for row in wanted if cursor is None or row.name > cursor]
        page = tuple(after[:limit])
        return ModelPage(
            rows=page, total=len(wanted), next_cursor=page[-1].name if len(after) > limit else None
        )

    def show(self, ref: AssetRef | str) -> ModelDetail:
        """Return one version: without a suffix the one that `prod` names, or the newest."""
        version = self._registry.resolve(_model_ref(ref))
        (asset,) = [each for each in self._registry.list_assets("model") if each.name == version.name]
        versions = self._registry.list_versions("model", version.name)
        measured = tuple(self._measured(version.digest))
        return ModelDetail(
            row=self._row(asset),
            version=_version_row(version, asset.aliases),
            versions=tuple(_version_row(each, asset.aliases) for each in versions),
            content={key: value for key, value in version.content.items() if key != "card"},
            artefacts=version.artefacts,
            card=card_of(version, measured),
            measured=measured,
        )

    def card(self, ref: AssetRef | str) -> str:
        """Return the card of a version in Markdown, with what was measured since."""
        version = self._registry.resolve(_model_ref(ref))
        return card_of(version, self._measured(version.digest))

    def lineage(self, ref: AssetRef | str) -> LineageGraph:
        """Return the graph around a version."""
        version = self._registry.resolve(_model_ref(ref))
        found = self._registry.lineage(version)
        steps = [(version.digest, 0)]
        steps += [(node.digest, -node.distance) for node in found.up]
        steps += [(node.digest, node.distance) for node in found.down]
        return LineageGraph(
            nodes=tuple(self._node(digest, distance) for digest, distance in steps),
            edges=found.edges,
            origin=version.content.get("lineage") or {},
        )

    def _node(self, digest: str, distance: int) -> LineageNode:
        version = self._registry.get_by_digest(digest)
        return LineageNode(
            digest=digest,
            label=version.label,
            kind=version.kind,
            distance=distance,
            method=_origin(version).get("method"),
            precision=version.content.get("precision") if version.kind == "model" else None,
        )

    def _row(self, asset: Any) -> ModelRow:
        number = asset.aliases.get("prod", asset.latest)
        version = self._registry.resolve(AssetRef(kind="model", name=asset.name, number=number))
        content = version.content
        return ModelRow(
            name=asset.name,
            label=version.label,
            digest=version.digest,
            is_live="prod" in asset.aliases and GGUF in version.artefacts,
            kind=content.get("kind"),
            architecture=content.get("architecture"),
            n_parameters=content.get("n_parameters"),
            precision=content.get("precision"),
            size_bytes=content.get("size_bytes"),
            context_length=content.get("context_length"),
            license=content.get("license"),
            description=content.get("description") or "",
            method=_origin(version).get("method"),
            base=_base_label(version),
            source=(content.get("source") or {}).get("reference"),
            formats=tuple(content.get("formats") or (["gguf"] if GGUF in version.artefacts else [])),
            is_adapter=bool(content.get("adapter")),
            n_versions=asset.n_versions,
            latest=asset.latest,
            aliases=asset.aliases,
            updated_ns=asset.updated_ns,
        )


def card_of(version: Any, measured: Sequence[Estimate] = ()) -> str:
    """Return a version's card: the one it was registered with where a person wrote it, else made from its facts."""
    kept = version.content.get("card")
    if kept and version.content.get("manifest"):
        return str(kept)
    return write_card(
        version.name, version.content, measured=[_figure(each) for each in measured], number=version.number
    )


def _figure(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"{estimate.name}: not measured"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.name}: {estimate.value:,.4g} (n = {estimate.n})"
    return (
        f"{estimate.name}: {estimate.value:,.4g} "
        f"[{estimate.low:,.4g} … {estimate.high:,.4g} at {estimate.level:.0%}], n = {estimate.n}"
    )


def _model_ref(ref: AssetRef | str) -> AssetRef:
    if isinstance(ref, str):
        ref = parse_asset_ref(ref if ref.startswith("model:") else f"model:{ref}")
    if ref.kind != "model":
        raise InvalidInput(f"{ref} is no model.", hint="Write NAME or model:NAME@ALIAS.")
    return ref


def _fits(row: ModelRow, kind: str | None, text: str) -> bool:
    is_kind = kind is None or (row.is_adapter if kind == "adapter" else row.kind == kind)
    return is_kind and any(
        text in (each or "").casefold() for each in (row.name, row.description, row.license)
    )


def _version_row(version: Any, aliases: Mapping[str, int]) -> VersionRow:
    content = version.content
    return VersionRow(
        label=version.label,
        number=version.number,
        digest=version.digest,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.number)),
        kind=content.get("kind"),
        precision=content.get("precision"),
        size_bytes=content.get("size_bytes"),
        method=_origin(version).get("method"),
        base=_base_label(version),
        run=_origin(version).get("run"),
        parity=describe_parity(content["parity"]) if content.get("parity") else None,
        is_adapter=bool(content.get("adapter")),
        note=version.note,
        created_ns=version.created_ns,
    )


def _origin(version: Any) -> Mapping[str, Any]:
    return version.content.get("lineage") or {} if version.kind == "model" else {}


def _base_label(version: Any) -> str | None:
    return base_label(version.content) if version.kind == "model" else None
