"""Models in the registry: pulled, converted, proven, registered, and handed to the engine process.

A `model` version holds `model.gguf`, `tokenizer.json`, `renderer.json`, for chat models the original files as well
(`hf/…`), for adapters theirs (`adapter/…`, `adapter.gguf`); and a content that says everything serving needs: shape,
sampling policy, stop ids, golden vectors, source by digest, parity report, lineage. Registry and blobs are injected;
this file knows neither tables nor paths of theirs.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import digest_bytes, digest_file
from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.providers.engines.types import HostedModel, ModelKind, ServedModel
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.tuning.catalogue import card_of
from penstock.tuning.checkout import check_out, check_out_adapter
from penstock.tuning.convert.architectures import read_json
from penstock.tuning.convert.gguf_file import Precision
from penstock.tuning.errors import DigestMismatch
from penstock.tuning.model_files import (
    GGUF,
    RENDERER,
    TOKENIZER,
    Blobs,
    ModelFiles,
    ModelRegistry,
    ModelVersion,
)
from penstock.tuning.model_types import BaseFolder, ModelLineage, RegisteredModel
from penstock.tuning.packaging import ModelPackage, package_model
from penstock.tuning.renderer import GoldenVector
from penstock.tuning.served import load_served_renderer, serve_adapter, serve_files
from penstock.tuning.sources import (
    FetchedModel,
    HubAccess,
    Progress,
    fetch_source,
    find_known,
    remove_downloads,
)
from penstock.tuning.trained import Form, Prepared, Training, adapter_name, as_child, label_of, prepare
from penstock.tuning.verification import Check, verify_version

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PulledModel:
    """The outcome of a pull."""

    name: str
    number: int
    digest: str
    kind: ModelKind
    is_new: bool
    """False when these very files had been registered before; nothing was done then."""
    parity: Mapping[str, Any]
    is_live: bool = True
    """Whether `prod` names it."""


class ModelService:
    """Use-cases on models. Methods block: they run in jobs, commands and start-up, never in a request."""

    def __init__(
        self, registry: ModelRegistry, blobs: Blobs, *, work: Path, hub: HubAccess | None = None
    ) -> None:
        """`work` holds downloads and drafts; it may be deleted when nothing runs."""
        self._registry = registry
        self._blobs = blobs
        self._files = ModelFiles(blobs)
        self._work = work
        self._hub = hub or HubAccess()

    def pull(
        self,
        name: str,
        source: str,
        *,
        precision: Precision = "f16",
        keep_original: bool = True,
        actor: str = "owner",
        progress: Progress | None = None,
    ) -> PulledModel:
        """Fetch, convert, prove and register `source` as `model:NAME`.

        The first version of a name becomes `prod`. A later one becomes `candidate`: that its conversion is right does
        not say that it is better than what is live, and `prod` moves by a gate.
        float16 is the default: half the size, and parity that leaves no doubt. `keep_original` keeps the files of a
        chat model as they came, too: they can be trained on, and engines that read safetensors get them unchanged.
        The same files pulled again are recognised by digest and left alone. Raises what `fetch_source`,
        `convert_folder` and `demand_parity` raise; then nothing is registered.
        """
        tell = progress or (lambda _share, _text: None)
        self._work.mkdir(parents=True, exist_ok=True)
        if (known := self._find_known(name, source, precision, keep_original)) is not None:
            tell(1.0, "these weights are registered already")
            return self._describe(name, known, is_new=False)
        with tempfile.TemporaryDirectory(dir=self._work, prefix="pull-") as scratch:
            fetched = fetch_source(
                source, self._work, hub=self._hub, progress=lambda share, text: tell(share / 2, text)
            )
            known = self._find_same(name, fetched, precision, keep_original)
            if known is not None:
                tell(1.0, "these files are registered already")
                return self._describe(name, known, is_new=False)
            package = package_model(
                fetched,
                Path(scratch),
                name=name,
                precision=precision,
                progress=tell,
                keep_original=keep_original,
            )
            tell(0.9, _tell_size(package))
            is_first = not self._versions(name)
            version = self._register(
                name, package, note=f"pulled from {source}", actor=actor, move_alias=is_first
            )
            if not is_first:
                self._move(label_of(version), "candidate", actor)
            remove_downloads(fetched)
            tell(1.0, f"registered model:{name}@{version.number}" + ("" if is_first else " as `candidate`"))
            return self._describe(name, version, is_new=True)

    def ensure_shipped(self, folder: Path, *, actor: str = "penstock") -> PulledModel | None:
        """Register the model that ships in `folder` (see `recipes/pocket/package.py`) and return it.

        Quick when nothing changed: the manifest's digest is compared first. `prod` moves to a newer shipped
        version only while it points to a shipped one, never away from a version that somebody chose. Returns
        None if no model ships there. Raises `DigestMismatch` if a file is not the one in the manifest.
        """
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            return None
        data = manifest.read_bytes()
        listed = read_json(manifest)
        name, digest = str(listed["name"]), digest_bytes(data)
        for version in self._versions(name):
            if version.content.get("manifest") == digest:
                return self._describe(name, version, is_new=False)
        for file, expected in listed["files"].items():
            if (seen := digest_file(folder / file)) != expected:
                raise DigestMismatch(f"The shipped file {file} is damaged.", expected=expected, seen=seen)
        card = (folder / "CARD.md").read_text(encoding="utf-8") if "CARD.md" in listed["files"] else ""
        content = {**listed["content"], "manifest": digest, "card": card}
        files = {file: folder / file for file in (GGUF, TOKENIZER, RENDERER)}
        package = ModelPackage(content=content, files=files)
        current = self._find(name)
        if current is not None and "manifest" not in current.content:
            version = self._register(
                name, package, note="shipped with Penstock", actor=actor, move_alias=False
            )
        else:
            version = self._register(name, package, note="shipped with Penstock", actor=actor)
        return self._describe(name, version, is_new=True)

    def checkout(self, ref: AssetRef | str, folder: Path, *, merge_adapters: bool = True) -> BaseFolder:
        """Write the weights of a version to `folder` in Hugging Face layout, digests checked, and return what is there.

        Kept files are copied; a version that is a GGUF of f32 or f16 alone is taken back exactly. An adapter is merged
        into its own base. Raises `NotTrainable` for q8_0, q4_0 and encoders, `DigestMismatch` for damaged files.
        """
        version = self.resolve(ref)
        if version.content.get("adapter"):
            if not merge_adapters:
                raise InvalidInput(f"{ref} is an adapter; it is no base unless it is merged into its own.")
            base = self._base_of(version)
            return check_out_adapter(version, base, self._files, folder)
        return check_out(version, self._files, folder)

    def register_trained(
        self,
        name: str,
        folder_hf: Path | None,
        *,
        base: AssetRef | str | None,
        lineage: ModelLineage,
        precisions: Sequence[Precision] = ("f16",),
        form: Form = "merged",
        adapter_folder: Path | None = None,
        alias: str | None = "candidate",
        license_id: str | None = None,
        description: str = "",
        note: str = "",
        actor: str = "owner",
        progress: Progress | None = None,
    ) -> RegisteredModel:
        """Convert, prove and register what a run made; nothing is registered when a proof fails.

        `folder_hf` holds the trained weights. With `adapter_folder` (PEFT's layout) it is the base that the adapter
        was trained on (None: checked out afresh), and the merged weights are made here. `form` says what is kept:
        the merged model, the adapter, or both (then the adapter is a version of `model:NAME-adapter`).
        The first of `precisions` is the version itself, others are its children. `license_id` None inherits the base's.
        Raises `ParityFailed`, `WrongBase`, `LicenseConflict`, `UnsupportedModel`; `InvalidInput` for the alias `prod`.
        """
        if alias == "prod":
            raise InvalidInput(
                "`prod` moves by a gate, not by training.",
                hint="Register as `candidate` and let a gate move it.",
            )
        tell = progress or (lambda _share, _text: None)
        training = Training(
            name=name,
            folder=folder_hf,
            adapter_folder=adapter_folder,
            base=None if base is None else self.resolve(base),
            lineage=lineage,
            precisions=precisions,
            form=form,
            license_id=license_id,
            description=description,
        )
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work, prefix="trained-") as scratch:
            prepared = prepare(
                training,
                self._files,
                Path(scratch),
                tell,
                check_out_base=lambda folder: self._check_out_base(training.base, folder),
            )
            tell(0.95, "registering")
            registered = self._keep_trained(training, prepared, note)
        if alias is not None:
            self._move(registered.label, alias, actor)
            if registered.adapter not in (None, registered.label):
                self._move(str(registered.adapter), alias, actor)
        tell(1.0, f"registered {registered.label}")
        return registered

    def _check_out_base(self, base: ModelVersion | None, folder: Path) -> BaseFolder:
        assert base is not None
        return self.checkout(AssetRef(kind="model", name=base.name, digest=base.digest), folder)

    def _keep_trained(self, training: Training, prepared: Prepared, note: str) -> RegisteredModel:
        """Register every version of a training, each with its parents."""
        parents = [] if training.base is None else [training.base.digest]
        parents += [each.digest for each in training.lineage.data]

        def register(name: str, package: ModelPackage, above: Sequence[str]) -> ModelVersion:
            artefacts = self._files.keep(package.files)
            found: ModelVersion = self._registry.register(
                "model", name, package.content, artefacts=artefacts, parents=list(above), note=note
            )
            return found

        adapter = None
        if prepared.adapter is not None:
            adapter = register(adapter_name(training), prepared.adapter, parents)
        if not prepared.models:
            assert adapter is not None
            return RegisteredModel(label=label_of(adapter), digest=adapter.digest, adapter=label_of(adapter))
        first, *others = prepared.models
        version = register(training.name, first, parents)
        children = [
            register(training.name, as_child(training.name, package, version), [version.digest])
            for package in others
        ]
        return RegisteredModel(
            label=label_of(version),
            digest=version.digest,
            children=tuple(map(label_of, children)),
            adapter=None if adapter is None else label_of(adapter),
        )

    def _move(self, label: str, alias: str, actor: str) -> None:
        ref = parse_asset_ref(label)
        assert ref.number is not None
        self._registry.move_alias("model", ref.name, alias, ref.number, evidence=None, actor=actor)

    def serve_version(self, ref: AssetRef | str, *, adapters: Sequence[AssetRef | str] = ()) -> ServedModel:
        """Return any version with its files on local disk, digests checked, and adapters that were made for it.

        Raises `WrongBase` for an adapter of another base, `DigestMismatch` for a damaged file.
        """
        version = self.resolve(ref)
        served = serve_files(version, self._files)
        laid_on = tuple(serve_adapter(self.resolve(each), version, self._files) for each in adapters)
        return msgspec.structs.replace(served, adapters=laid_on)

    def host_version(self, served: ServedModel) -> HostedModel:
        """Return a served version with its renderer, proven against the golden vectors of its version.

        Raises `DigestMismatch` when the renderer is another one or gives other ids than at registration.
        """
        version = self.resolve(AssetRef(kind="model", name=served.name, digest=served.digest))
        renderer = load_served_renderer(served)
        renderer.check_golden(msgspec.convert(version.content.get("golden") or [], list[GoldenVector]))
        return HostedModel(served=served, renderer=renderer)

    def export(self, ref: AssetRef | str, folder: Path) -> BaseFolder:
        """Write a version's weights and its card to `folder` for other programs; kept originals unchanged."""
        version = self.resolve(ref)
        exported = self.checkout(ref, folder)
        (folder / "README.md").write_text(card_of(version), encoding="utf-8")
        return exported

    def verify(
        self, ref: AssetRef | str, *, with_parity: bool = False, tell: Progress = lambda *_: None
    ) -> list[Check]:
        """Prove a version once more as it lies there now; see `verification`."""
        return verify_version(
            self.resolve(ref),
            self._blobs,
            with_parity=with_parity,
            find=self._find_digest,
            work=self._work,
            tell=tell,
        )

    def _find_digest(self, digest: str) -> ModelVersion | None:
        for asset in self._registry.list_assets("model"):
            for version in self._versions(asset.name):
                if version.digest == digest:
                    return version
        return None

    def resolve(self, ref: AssetRef | str) -> ModelVersion:
        """Return the version that a reference names: `model:NAME`, `model:NAME@…`."""
        wanted = parse_asset_ref(ref) if isinstance(ref, str) else ref
        if wanted.kind != "model":
            raise InvalidInput(f"{wanted} is no model.", hint="Write model:NAME or model:NAME@ALIAS.")
        version: ModelVersion = self._registry.resolve(wanted)
        return version

    def _base_of(self, version: ModelVersion) -> ModelVersion:
        """Return the version that an adapter was trained on."""
        asset = parse_asset_ref(version.content["lineage"]["base"]["asset"])
        return self.resolve(
            AssetRef(kind="model", name=asset.name, digest=version.content["adapter"]["base_digest"])
        )

    def embedded_models(self) -> list[ServedModel]:
        """Return every model whose alias `prod` points to a GGUF version, with its files on local disk.

        A model with a damaged file is logged and left out.
        """
        found = []
        for asset in self._registry.list_assets("model"):
            version = self._find(asset.name)
            if version is None or GGUF not in version.artefacts:
                continue
            try:
                found.append(serve_files(version, self._files))
            except PenstockError as error:
                _log.error("model left out", extra={"model": asset.name, "reason": str(error)})
        return found

    def hosted_models(self) -> list[HostedModel]:
        """Return each embedded model with its renderer, proven against the golden vectors of its version.

        A model whose renderer is damaged or renders otherwise than at registration is logged and left out.
        """
        hosted = []
        for served in self.embedded_models():
            try:
                hosted.append(self.host_version(served))
            except PenstockError as error:
                _log.error("model left out", extra={"model": served.name, "reason": str(error)})
        return hosted

    def _find(self, name: str) -> ModelVersion | None:
        try:
            version: ModelVersion = self._registry.resolve(AssetRef(kind="model", name=name, alias="prod"))
        except NotFound:
            return None
        return version

    def _versions(self, name: str) -> Sequence[ModelVersion]:
        try:
            found: Sequence[ModelVersion] = self._registry.list_versions("model", name)
        except NotFound:
            return ()
        return found

    def _find_known(
        self, name: str, source: str, precision: Precision, keep_original: bool
    ) -> ModelVersion | None:
        """Return the version made from the weights that our own table names for `source`: no need to fetch."""
        known = find_known(source)
        if known is None:
            return None
        for version in self._versions(name):
            files = (version.content.get("source") or {}).get("files") or {}
            if (files.get("model.safetensors"), version.content.get("precision")) == (
                known.weights_digest,
                precision,
            ) and _keeps(version, keep_original):
                return version
        return None

    def _find_same(
        self, name: str, fetched: FetchedModel, precision: Precision, keep_original: bool
    ) -> ModelVersion | None:
        """Return the version whose source files are these, by digest."""
        for version in self._versions(name):
            files = (version.content.get("source") or {}).get("files") or {}
            paths = {file: fetched.folder / file for file in files}
            if version.content.get("precision") != precision or not _keeps(version, keep_original):
                continue
            if not all(path.is_file() for path in paths.values()):
                continue
            if files and all(digest_file(path) == files[file] for file, path in paths.items()):
                return version
        return None

    def _register(
        self, name: str, package: ModelPackage, *, note: str, actor: str, move_alias: bool = True
    ) -> ModelVersion:
        artefacts = self._files.keep(package.files)
        version: ModelVersion = self._registry.register(
            "model", name, package.content, artefacts=artefacts, note=note
        )
        if move_alias:
            self._registry.move_alias(
                "model",
                name,
                "prod",
                version.number,
                evidence=dict(package.content["parity"]),
                actor=actor,
                is_own_check=True,
            )
        return version

    def _describe(self, name: str, version: ModelVersion, *, is_new: bool) -> PulledModel:
        live = self._find(name)
        return PulledModel(
            name=name,
            number=version.number,
            digest=version.digest,
            kind=version.content["kind"],
            is_new=is_new,
            parity=version.content["parity"],
            is_live=live is not None and live.digest == version.digest,
        )


def _keeps(version: ModelVersion, keep_original: bool) -> bool:
    """Whether a version that is there already holds all that a pull would keep."""
    kept = "safetensors" in (version.content.get("formats") or ())
    return kept or not keep_original or version.content.get("kind") != "chat"


def _tell_size(package: ModelPackage) -> str:
    size = package.content["size_bytes"] / 1e6
    kept = package.content.get("original_size_bytes")
    return f"registering {size:,.1f} MB" + (f" and {kept / 1e6:,.1f} MB as they came" if kept else "")
