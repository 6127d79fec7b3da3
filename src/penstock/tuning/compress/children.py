"""Child versions: other precisions of a version, and smaller models made from one. Proven before they are registered.

A child names its parent twice: in the registry's own lineage and in its content, by digest. It is registered without an alias
unless one is asked for; `prod` moves by a gate.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from penstock import __version__
from penstock.base.errors import InvalidInput
from penstock.spec.assets import AssetRef
from penstock.spec.tuning import FilePrecision, PinnedAsset
from penstock.tuning.compress.errors import CannotQuantise
from penstock.tuning.compress.shrink import Shrinking, shrink_folder
from penstock.tuning.model_files import Blobs, ModelFiles, ModelVersion
from penstock.tuning.model_types import BaseFolder, ModelLineage
from penstock.tuning.packaging import ModelPackage, package_model
from penstock.tuning.sources import FetchedModel

Tell = Callable[[float, str], None]
ROUNDED: tuple[FilePrecision, ...] = ("q8_0", "q4_0")


class Models(Protocol):
    """What is needed of registered models."""

    def resolve(self, ref: AssetRef | str) -> ModelVersion:
        """Return the version that a reference names."""
        ...

    def checkout(self, ref: AssetRef | str, folder: Path) -> BaseFolder:
        """Write a version's weights to `folder` in Hugging Face layout."""
        ...


class ChildRegistry(Protocol):
    """What is needed of the registry."""

    def register(
        self,
        kind: str,
        name: str,
        content: dict[str, Any],
        *,
        artefacts: Any = ...,
        parents: Any = ...,
        note: str = ...,
    ) -> Any:
        """Return the version that holds this."""
        ...

    def move_alias(
        self,
        kind: str,
        name: str,
        alias: str,
        number: int,
        *,
        actor: str,
        evidence: dict[str, Any] | None = ...,
        reason: str | None = ...,
    ) -> Any:
        """Point an alias at a version."""
        ...

    def list_versions(self, kind: str, name: str) -> Any:
        """Return the versions of an asset, newest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChildModel:
    """A child version."""

    label: str
    """`model:NAME@NUMBER`"""
    digest: str
    parent: str
    precision: FilePrecision
    size_bytes: int
    n_parameters: int
    is_new: bool
    """False when this very child was registered before."""
    parity: dict[str, Any]


class ChildService:
    """Makes child versions. Methods block and run native code: they are for jobs' own processes."""

    def __init__(self, models: Models, registry: ChildRegistry, blobs: Blobs, *, work: Path) -> None:
        """`work` holds drafts; it may be deleted when nothing runs."""
        self._models = models
        self._registry = registry
        self._files = ModelFiles(blobs)
        self._work = work

    def quantise(
        self,
        ref: AssetRef | str,
        precisions: Sequence[FilePrecision],
        *,
        alias: str | None = None,
        note: str = "",
        actor: str = "owner",
        tell: Tell = lambda _share, _text: None,
    ) -> list[ChildModel]:
        """Return a child of each precision, from the unrounded weights of the version that `ref` names.

        What was made before is found again, not made twice. Raises `CannotQuantise` for rounded parents and adapters,
        `ParityFailed` when a child does not answer as its parent does: then it is not registered, and none after it.
        """
        parent = self._models.resolve(ref)
        check_children(parent, precisions, alias)
        pinned = _pin(parent)
        found: dict[FilePrecision, ChildModel] = {}
        for precision in precisions:
            if (known := self._find(parent, precision)) is not None:
                found[precision] = self._describe(known, pinned, is_new=False)
        missing = [each for each in dict.fromkeys(precisions) if each not in found]
        if missing:
            self._work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._work, prefix="quantise-") as scratch:
                tell(0.0, f"taking {_label(pinned)} out")
                base = self._models.checkout(_ref(parent), Path(scratch) / "parent")
                for place, precision in enumerate(missing):
                    out = Path(scratch) / precision
                    out.mkdir()
                    told = _portion(tell, 0.1 + 0.9 * place / len(missing), 0.9 / len(missing), precision)
                    package = self._package(base, parent, out, precision, told, method="quantise")
                    found[precision] = self._keep(parent.name, package, pinned, note=note)
        children = [found[precision] for precision in dict.fromkeys(precisions)]
        if alias is not None:
            self._name(children[-1], alias, actor)
        tell(1.0, f"{', '.join(child.label for child in children)} registered")
        return children

    def shrink(
        self,
        ref: AssetRef | str,
        how: Shrinking,
        *,
        name: str,
        precision: FilePrecision = "f16",
        alias: str | None = None,
        note: str = "",
        actor: str = "owner",
        tell: Tell = lambda _share, _text: None,
    ) -> ChildModel:
        """Return a smaller model made from the version, registered as `model:NAME` with its weights to be trained on.

        It is as bad as its missing parts make it until it is trained: see method `distill`. Raises `CannotShrink`.
        """
        refuse_prod(alias, ())
        parent = self._models.resolve(ref)
        pinned = _pin(parent)
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work, prefix="shrink-") as scratch:
            tell(0.0, f"taking {_label(pinned)} out")
            base = self._models.checkout(_ref(parent), Path(scratch) / "parent")
            small = Path(scratch) / "small"
            tell(0.2, "taking parts out")
            facts = shrink_folder(base.folder, small, how)
            out = Path(scratch) / "out"
            out.mkdir()
            told = _portion(tell, 0.3, 0.7, "smaller")
            package = self._package(
                base, parent, out, precision, told, method="shrink", folder=small, name=name, facts=facts
            )
            child = self._keep(name, package, pinned, note=note or facts["how"])
        if alias is not None:
            self._name(child, alias, actor)
        tell(1.0, f"{child.label} registered")
        return child

    def _package(
        self,
        base: BaseFolder,
        parent: ModelVersion,
        out: Path,
        precision: FilePrecision,
        tell: Tell,
        *,
        method: str,
        folder: Path | None = None,
        name: str | None = None,
        facts: dict[str, Any] | None = None,
    ) -> ModelPackage:
        pinned = _pin(parent)
        lineage = ModelLineage(base=pinned, method=method, recipe=facts, code=f"penstock {__version__}")
        described = str(parent.content.get("description") or "")
        fetched = FetchedModel(
            folder=folder or base.folder,
            form=method,
            reference=_label(pinned),
            license=parent.content.get("license"),
            description=_describe_child(described, facts),
        )
        return package_model(
            fetched,
            out,
            name=name or parent.name,
            precision=precision,
            progress=tell,
            lineage=lineage,
            keep_original=method == "shrink",
        )

    def _keep(self, name: str, package: ModelPackage, parent: PinnedAsset, *, note: str) -> ChildModel:
        artefacts = self._files.keep(package.files)
        said = note or f"{package.content['precision']} of {_label(parent)}"
        version = self._registry.register(
            "model", name, package.content, artefacts=artefacts, parents=[parent.digest], note=said
        )
        return self._describe(version, parent, is_new=True)

    def _describe(self, version: ModelVersion, parent: PinnedAsset, *, is_new: bool) -> ChildModel:
        content = version.content
        return ChildModel(
            label=f"model:{version.name}@{version.number}",
            digest=version.digest,
            parent=_label(parent),
            precision=content["precision"],
            size_bytes=int(content["size_bytes"]),
            n_parameters=int(content["n_parameters"]),
            is_new=is_new,
            parity=dict(content["parity"]),
        )

    def _find(self, parent: ModelVersion, precision: FilePrecision) -> ModelVersion | None:
        versions: Sequence[ModelVersion] = self._registry.list_versions("model", parent.name)
        for version in versions:
            lineage = version.content.get("lineage") or {}
            if (
                lineage.get("method") == "quantise"
                and (lineage.get("base") or {}).get("digest") == parent.digest
                and version.content.get("precision") == precision
            ):
                return version
        return None

    def _name(self, child: ChildModel, alias: str, actor: str) -> None:
        name, _, number = child.label.removeprefix("model:").partition("@")
        self._registry.move_alias(
            "model", name, alias, int(number), actor=actor, reason=f"made from {child.parent}"
        )


def child_fields(child: ChildModel) -> dict[str, Any]:
    """Return a child as JSON shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(child)
    return fields


def check_children(parent: ModelVersion, precisions: Sequence[FilePrecision], alias: str | None) -> None:
    """Raise `CannotQuantise` or `InvalidInput` for children that can be refused without reading a weight."""
    refuse_prod(alias, precisions)
    _check_parent(parent, precisions)


def _check_parent(parent: ModelVersion, precisions: Sequence[FilePrecision]) -> None:
    label = _label(_pin(parent))
    if not precisions:
        raise CannotQuantise("No precision is named.", hint=f"Known: {', '.join(ROUNDED)}, f16, f32.")
    if parent.content.get("adapter"):
        raise CannotQuantise(
            f"{label} is an adapter.", hint="Merge it into its base first; then quantise that."
        )
    given = parent.content.get("precision")
    if given in ROUNDED and "safetensors" not in (parent.content.get("formats") or ()):
        base = (parent.content.get("lineage") or {}).get("base") or {}
        hint = f"Quantise {base['asset']}@{base['number']}, which it was made from." if base else None
        raise CannotQuantise(
            f"{label} is rounded to {given} already; rounding twice loses more than rounding once.", hint=hint
        )
    if given in precisions:
        raise CannotQuantise(f"{label} has the precision {given} itself.", hint="Name another one.")


def refuse_prod(alias: str | None, precisions: Sequence[FilePrecision]) -> None:
    """Raise `InvalidInput` for an alias that moves by a gate, or that should name several versions."""
    if alias == "prod":
        raise InvalidInput(
            "prod moves by a gate, not here.", hint="Take another alias, measure, and run a gate."
        )
    if alias is not None and len(dict.fromkeys(precisions)) > 1:
        raise InvalidInput(
            "One alias cannot name several versions.", hint="Quantise to one precision at a time."
        )


def _portion(tell: Tell, start: float, width: float, what: str) -> Tell:
    return lambda share, text: tell(start + width * share, f"{what}: {text}")


def _describe_child(described: str, facts: dict[str, Any] | None) -> str:
    if facts is None:
        return described
    return f"{described} {facts['how'][:1].upper()}{facts['how'][1:]}.".strip()


def _pin(version: ModelVersion) -> PinnedAsset:
    return PinnedAsset(asset=f"model:{version.name}", number=version.number, digest=version.digest)


def _ref(version: ModelVersion) -> AssetRef:
    return AssetRef(kind="model", name=version.name, number=version.number)


def _label(pinned: PinnedAsset) -> str:
    return f"{pinned.asset}@{pinned.number}"
