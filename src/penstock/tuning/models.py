"""Models in the registry: pulled, converted, proven, registered, and handed to the engine process.

A `model` version holds three artefacts (`model.gguf`, `tokenizer.json`, `renderer.json`) and a content that says
everything serving needs: shape, sampling policy, golden vectors, source by digest, parity report. Registry and
blobs are injected; this file knows neither tables nor paths of theirs.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from penstock.base.digest import digest_bytes, digest_file, short_digest
from penstock.base.errors import NotFound, PenstockError
from penstock.providers.engines.types import HostedModel, ModelKind, SamplingPolicy, ServedModel
from penstock.spec.assets import AssetRef
from penstock.spec.messages import Message
from penstock.tuning.convert.architectures import read_json
from penstock.tuning.convert.gguf_file import Conversion, Precision, convert_folder
from penstock.tuning.errors import DigestMismatch, UnreadableModel
from penstock.tuning.model_types import BaseFolder, ModelLineage, RegisteredModel
from penstock.tuning.parity import ParityReport, demand_parity, prove_parity
from penstock.tuning.renderer import GoldenVector, Renderer, build_renderer, load_renderer, read_renderer_spec
from penstock.tuning.sources import (
    FetchedModel,
    HubAccess,
    Progress,
    fetch_source,
    find_known,
    remove_downloads,
)

_log = logging.getLogger(__name__)
GGUF, TOKENIZER, RENDERER = "model.gguf", "tokenizer.json", "renderer.json"
MAX_SERVED_CONTEXT = 8192  # memory: the key cache of every slot is reserved at load
GOLDEN_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="Hello!"),),
    (
        Message(role="user", content="[1] Walk every day.\n[2] Drink water.\nQuestion: What should I drink?"),
        Message(role="assistant", content="[2] Drink water."),
        Message(role="user", content="Thanks. And <|end|> is only text, as is </s>."),
    ),
    (Message(role="user", content="Naïve café, 東京, 120/80 mmHg 🚰"),),
)


class ModelVersion(Protocol):
    """What is read of a registry's version."""

    @property
    def number(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def content(self) -> Mapping[str, Any]: ...
    @property
    def artefacts(self) -> Mapping[str, str]: ...


class ModelRegistry(Protocol):
    """What is needed of the registry."""

    def register(
        self,
        kind: Any,
        name: str,
        content: dict[str, Any],
        *,
        artefacts: Mapping[str, str] = ...,
        note: str = ...,
    ) -> Any: ...
    def resolve(self, ref: AssetRef) -> Any: ...
    def move_alias(
        self,
        kind: Any,
        name: str,
        alias: str,
        number: int,
        *,
        evidence: dict[str, Any] | None,
        actor: str,
        is_own_check: bool = ...,
    ) -> Any: ...
    def list_assets(self, kind: Any = None) -> Sequence[Any]: ...
    def list_versions(self, kind: Any, name: str) -> Sequence[Any]: ...


class Blobs(Protocol):
    """What is needed of the blob store."""

    def put_file(self, path: Path) -> str: ...
    def local_path(self, digest: str) -> Path: ...


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


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A folder of files ready to be registered, with the content of its version."""

    folder: Path
    content: dict[str, Any]


class ModelService:
    """Use-cases on models. Methods block: they run in jobs, commands and start-up, never in a request."""

    def __init__(
        self, registry: ModelRegistry, blobs: Blobs, *, work: Path, hub: HubAccess | None = None
    ) -> None:
        """`work` holds downloads and drafts; it may be deleted when nothing runs."""
        self._registry = registry
        self._blobs = blobs
        self._work = work
        self._hub = hub or HubAccess()

    def pull(
        self,
        name: str,
        source: str,
        *,
        precision: Precision = "f16",
        actor: str = "owner",
        progress: Progress | None = None,
    ) -> PulledModel:
        """Fetch, convert, prove and register `source` as `model:NAME`, and move its alias `prod` there.

        float16 is the default: half the size, and parity that leaves no doubt.
        The same files pulled again are recognised by digest and left alone. Raises what `fetch_source`,
        `convert_folder` and `demand_parity` raise; then nothing is registered.
        """
        tell = progress or (lambda _share, _text: None)
        self._work.mkdir(parents=True, exist_ok=True)
        if (known := self._find_known(name, source, precision)) is not None:
            tell(1.0, "these weights are registered already")
            return _describe(name, known, is_new=False)
        with tempfile.TemporaryDirectory(dir=self._work, prefix="pull-") as scratch:
            fetched = fetch_source(
                source, self._work, hub=self._hub, progress=lambda share, text: tell(share / 2, text)
            )
            known = self._find_same(name, fetched, precision)
            if known is not None:
                tell(1.0, "these files are registered already")
                return _describe(name, known, is_new=False)
            package = package_model(fetched, Path(scratch), name=name, precision=precision, progress=tell)
            tell(0.9, "registering")
            version = self._register(name, package, note=f"pulled from {source}", actor=actor)
            remove_downloads(self._work)
            tell(1.0, f"registered model:{name}@{version.number}")
            return _describe(name, version, is_new=True)

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
                return _describe(name, version, is_new=False)
        for file, expected in listed["files"].items():
            if (seen := digest_file(folder / file)) != expected:
                raise DigestMismatch(f"The shipped file {file} is damaged.", expected=expected, seen=seen)
        card = (folder / "CARD.md").read_text(encoding="utf-8") if "CARD.md" in listed["files"] else ""
        content = {**listed["content"], "manifest": digest, "card": card}
        package = ModelPackage(folder=folder, content=content)
        current = self._find(name)
        if current is not None and "manifest" not in current.content:
            version = self._register(
                name, package, note="shipped with Penstock", actor=actor, move_alias=False
            )
        else:
            version = self._register(name, package, note="shipped with Penstock", actor=actor)
        return _describe(name, version, is_new=True)

    def checkout(self, ref: AssetRef | str, folder: Path, *, merge_adapters: bool = True) -> BaseFolder:
        """Write the weights of a version to `folder` in Hugging Face layout, digests checked, and return what is there.

        Kept files are copied; a version that is a GGUF of f32 or f16 alone is taken back exactly. An adapter is merged
        into its own base. Raises `NotTrainable` for q8_0, q4_0 and encoders, `DigestMismatch` for damaged files.
        """
        raise NotImplementedError

    def register_trained(
        self,
        name: str,
        folder_hf: Path | None,
        *,
        base: AssetRef | str | None,
        lineage: ModelLineage,
        precisions: Sequence[Precision] = ("f16",),
        form: Literal["merged", "adapter", "both"] = "merged",
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
        """
        raise NotImplementedError

    def serve_version(self, ref: AssetRef | str, *, adapters: Sequence[AssetRef | str] = ()) -> ServedModel:
        """Return any version with its files on local disk, digests checked, and adapters that were made for it.

        Raises `WrongBase` for an adapter of another base.
        """
        raise NotImplementedError

    def embedded_models(self) -> list[ServedModel]:
        """Return every model whose alias `prod` points to a GGUF version, with its files on local disk."""
        found = []
        for asset in self._registry.list_assets("model"):
            version = self._find(asset.name)
            if version is not None and GGUF in version.artefacts:
                found.append(self._serve(asset.name, version))
        return found

    def hosted_models(self) -> list[HostedModel]:
        """Return each embedded model with its renderer, proven against the golden vectors of its version.

        A model whose renderer is damaged or renders otherwise than at registration is logged and left out.
        """
        hosted = []
        for served in self.embedded_models():
            version = self._find(served.name)
            try:
                renderer = load_served_renderer(served)
                renderer.check_golden(msgspec.convert(_golden_of(version), list[GoldenVector]))
            except PenstockError as error:
                _log.error("model left out", extra={"model": served.name, "reason": str(error)})
                continue
            hosted.append(HostedModel(served=served, renderer=renderer))
        return hosted

    def _find(self, name: str) -> ModelVersion | None:
        try:
            version: ModelVersion = self._registry.resolve(AssetRef(kind="model", name=name, alias="prod"))
        except NotFound:
            return None
        return version

    def _versions(self, name: str) -> Sequence[ModelVersion]:
        try:
            return self._registry.list_versions("model", name)
        except NotFound:
            return ()

    def _find_known(self, name: str, source: str, precision: Precision) -> ModelVersion | None:
        """Return the version made from the weights that our own table names for `source`: no need to fetch."""
        known = find_known(source)
        if known is None:
            return None
        for version in self._versions(name):
            files = (version.content.get("source") or {}).get("files") or {}
            if (files.get("model.safetensors"), version.content.get("precision")) == (
                known.weights_digest,
                precision,
            ):
                return version
        return None

    def _find_same(self, name: str, fetched: FetchedModel, precision: Precision) -> ModelVersion | None:
        """Return the version whose source files are these, by digest."""
        for version in self._versions(name):
            files = (version.content.get("source") or {}).get("files") or {}
            paths = {file: fetched.folder / file for file in files}
            if version.content.get("precision") != precision or not all(
                path.is_file() for path in paths.values()
            ):
                continue
            if files and all(digest_file(path) == files[file] for file, path in paths.items()):
                return version
        return None

    def _register(
        self, name: str, package: ModelPackage, *, note: str, actor: str, move_alias: bool = True
    ) -> ModelVersion:
        artefacts = {
            file: self._blobs.put_file(package.folder / file) for file in (GGUF, TOKENIZER, RENDERER)
        }
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

    def _serve(self, name: str, version: ModelVersion) -> ServedModel:
        content = version.content
        return ServedModel(
            name=name,
            kind=content["kind"],
            version=f"model:{name}@{version.number} sha256:{short_digest(version.digest)}",
            gguf=self._blobs.local_path(version.artefacts[GGUF]),
            renderer=self._blobs.local_path(version.artefacts[RENDERER]),
            tokenizer=self._blobs.local_path(version.artefacts[TOKENIZER]),
            context_length=min(int(content["context_length"]), MAX_SERVED_CONTEXT),
            dims=content["dims"],
            sampling=msgspec.convert(content["sampling"], SamplingPolicy),
            description=content.get("description") or "",
        )


def load_served_renderer(model: ServedModel) -> Renderer:
    """Return the renderer of a served model. Raises `DigestMismatch` if its tokenizer is another one."""
    return load_renderer(model.renderer, model.tokenizer)


def package_model(
    fetched: FetchedModel, out: Path, *, name: str, precision: Precision, progress: Progress
) -> ModelPackage:
    """Convert and prove a Hugging Face folder; write the three artefacts to `out` and return the version's content.

    Raises `ParityFailed` if the file does not answer as its source does.
    """
    folder = fetched.folder
    progress(0.5, "converting")
    conversion = convert_folder(folder, out / GGUF, precision=precision, name=name)
    progress(0.6, "proving parity")
    report = prove_parity(folder, out / GGUF, precision=precision)
    demand_parity(report)
    spec = read_renderer_spec(folder)
    tokenizer = (folder / TOKENIZER).read_bytes()
    renderer = build_renderer(spec, tokenizer)
    (out / TOKENIZER).write_bytes(tokenizer)
    (out / RENDERER).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=2))
    golden = renderer.make_golden(GOLDEN_CONVERSATIONS) if spec.chat_template is not None else ()
    content = _describe_content(fetched, conversion, report, renderer, golden)
    return ModelPackage(folder=out, content=content | {"card": _write_card(name, content)})


def _describe_content(
    fetched: FetchedModel,
    conversion: Conversion,
    report: ParityReport,
    renderer: Renderer,
    golden: Sequence[GoldenVector],
) -> dict[str, Any]:
    is_chat = conversion.architecture != "bert"
    if is_chat and renderer.spec.chat_template is None:
        raise UnreadableModel("The model has no chat template, so messages cannot be rendered for it.")
    return {
        "format": "gguf",
        "kind": "chat" if is_chat else "rerank" if conversion.is_reranker else "embedding",
        "architecture": conversion.architecture,
        "precision": conversion.precision,
        "n_parameters": conversion.n_parameters,
        "size_bytes": conversion.size_bytes,
        "context_length": conversion.context_length,
        "dims": None if is_chat else conversion.embedding_size,
        "sampling": msgspec.to_builtins(read_sampling(fetched.folder)),
        "renderer_digest": renderer.digest,
        "golden": msgspec.to_builtins(golden),
        "description": fetched.description,
        "license": fetched.license,
        "source": {
            "form": fetched.form,
            "reference": fetched.reference,
            "files": dict(conversion.sources),
            **fetched.facts,
        },
        "parity": report.as_evidence(),
    }


def _write_card(name: str, content: Mapping[str, Any]) -> str:
    """Return the card of a pulled model in Markdown: the facts of its version, and nothing that is not known."""
    parity, source = content["parity"], content["source"]
    if parity.get("min_cosine") is not None:
        proof = f"smallest cosine {parity['min_cosine']:.6f} over {parity['n_compared']} texts"
    else:
        proof = f"mean KL {parity['mean_kl']:.2e} nats over {parity['n_compared']} positions"
    origin = f" (origin: {source['origin']})" if "origin" in source else ""
    facts = [
        f"- Kind: {content['kind']}, architecture {content['architecture']}",
        f"- Parameters: {content['n_parameters']:,}; precision {content['precision']}; {content['size_bytes']:,} bytes",
        f"- Context: {content['context_length']} tokens",
        f"- License: {content['license'] or 'unknown'}",
        f"- Source: {source['form']} {source['reference']}{origin}",
        f"- Agreement with the source: {proof}",
    ]
    head = [f"# {name}", ""] + ([content["description"], ""] if content["description"] else [])
    return "\n".join([*head, *facts]) + "\n"


def read_sampling(folder: Path) -> SamplingPolicy:
    """Return the sampling policy in `generation_config.json`: greedy unless it says `do_sample`."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return SamplingPolicy()
    config = read_json(path)
    is_sampled = bool(config.get("do_sample"))
    return SamplingPolicy(
        temperature=float(config.get("temperature") or 1.0) if is_sampled else 0.0,
        top_p=float(config.get("top_p") or 1.0) if is_sampled else 1.0,
        top_k=int(config.get("top_k") or 0) if is_sampled else 0,
        min_p=float(config.get("min_p") or 0.0) if is_sampled else 0.0,
        repeat_penalty=float(config.get("repetition_penalty") or 1.0),
        max_tokens=config.get("max_new_tokens"),
    )


def _golden_of(version: ModelVersion | None) -> list[Any]:
    return [] if version is None else list(version.content.get("golden") or [])


def write_manifest(folder: Path, *, name: str, content: Mapping[str, Any], files: Iterable[str]) -> Path:
    """Write `manifest.json` for `ensure_shipped`: name, content of the version, digest of each file."""
    manifest = {
        "name": name,
        "files": {file: digest_file(folder / file) for file in files},
        "content": dict(content),
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _describe(name: str, version: ModelVersion, *, is_new: bool) -> PulledModel:
    return PulledModel(
        name=name,
        number=version.number,
        digest=version.digest,
        kind=version.content["kind"],
        is_new=is_new,
        parity=version.content["parity"],
    )
