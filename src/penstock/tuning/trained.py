"""What a run has made, as versions to be: merged, converted at every precision, proven, described. Registers nothing.

Everything is proven before anything is registered, so a run that fails a proof leaves no half of itself behind.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import InvalidInput
from penstock.tuning.cards import write_card
from penstock.tuning.checkout import pin
from penstock.tuning.convert.adapters import CONFIG, WEIGHTS, Adapter, write_gguf_adapter
from penstock.tuning.convert.architectures import DecoderShape, read_shape
from penstock.tuning.convert.gguf_file import Precision
from penstock.tuning.convert.merge import merge_adapter
from penstock.tuning.errors import DigestMismatch, UnsupportedModel, WrongBase
from penstock.tuning.licenses import inherit_license
from penstock.tuning.model_files import (
    ADAPTER,
    ADAPTER_GGUF,
    GGUF,
    ORIGINAL,
    RENDERER,
    TOKENIZER,
    ModelFiles,
    ModelVersion,
)
from penstock.tuning.model_types import ModelLineage
from penstock.tuning.packaging import ModelPackage, package_model, read_folder_renderer, write_renderer
from penstock.tuning.parity import demand_parity, prove_adapter
from penstock.tuning.sources import FetchedModel, Progress

Form = Literal["merged", "adapter", "both"]
_WIDTHS: tuple[Precision, ...] = ("f32", "f16", "q8_0", "q4_0")
CheckOut = Callable[[Path], object]
"""Writes a version's weights to a folder that is not there yet."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What was trained, from what, and what is to be kept of it."""

    name: str
    folder: Path | None
    """The trained weights; with `adapter_folder` the base's (None: checked out)."""
    adapter_folder: Path | None
    base: ModelVersion | None
    lineage: ModelLineage
    precisions: Sequence[Precision]
    form: Form
    license_id: str | None
    description: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Versions to be: the model at each precision (the first is the version, the others its children), and the adapter."""

    models: tuple[ModelPackage, ...]
    adapter: ModelPackage | None


def prepare(
    training: Training, files: ModelFiles, scratch: Path, progress: Progress, *, check_out_base: CheckOut
) -> Prepared:
    """Make everything that will be registered, in `scratch`. `check_out_base` writes the base to a folder.

    Raises `ParityFailed`, `WrongBase`, `LicenseConflict`, `UnsupportedModel`, `DigestMismatch` where the trained
    folder speaks another format than its base.
    """
    _check(training)
    base = training.base
    license_id = inherit_license(
        None if base is None else base.content.get("license"), training.license_id, has_base=base is not None
    )
    source = FetchedModel(
        folder=scratch,
        form="trained",
        reference=f"run {training.lineage.run}" if training.lineage.run else "folder",
        license=license_id,
        description=training.description or _describe(training),
    )
    lineage = _with_base(training)
    adapter = None
    if training.adapter_folder is None:
        assert training.folder is not None
        folder = training.folder
        if base is not None:
            folder = _beside_base(folder, base, files, scratch / "trained")
    else:
        progress(0.1, "merging the adapter into its base")
        assert base is not None
        base_folder = _open_base(training.folder, base, scratch / "base", check_out_base)
        folder = scratch / "merged"
        laid = merge_adapter(base_folder, training.adapter_folder, folder)
        _check_base(laid, base)
        if training.form != "merged":
            progress(0.2, "proving the adapter on its base")
            adapter = _package_adapter(
                training, laid, merged=folder, files=files, out=scratch / "adapter", source=source
            )
    if training.form == "adapter":
        return Prepared(models=(), adapter=adapter)
    models = []
    for number, precision in enumerate(training.precisions):
        out = scratch / f"{number}-{precision}"
        out.mkdir()
        share = number / len(training.precisions)
        models.append(
            package_model(
                dataclasses.replace(source, folder=folder),
                out,
                name=training.name,
                precision=precision,
                progress=_within(progress, 0.3 + 0.6 * share, 0.6 / len(training.precisions)),
                lineage=lineage,
                keep_original=number == 0,
            )
        )
    return Prepared(models=tuple(models), adapter=adapter)


def _describe(training: Training) -> str:
    """Return what is known of a model nobody described: its base's sentence may be wrong of it by now."""
    if training.base is None:
        return ""
    rows = " and ".join(f"{data.asset}@{data.number}" for data in training.lineage.data)
    return f"{label_of(training.base)}, trained further" + (f" on {rows}." if rows else ".")


def _check(training: Training) -> None:
    label = None if training.base is None else f"model:{training.base.name}@{training.base.number}"
    if not training.precisions:
        raise InvalidInput("No precision is named.", hint='precisions = ["f16"]')
    if training.adapter_folder is None:
        if training.folder is None:
            raise InvalidInput("There is nothing to register: neither a folder of weights nor an adapter.")
        if training.form != "merged":
            raise InvalidInput(
                f"A whole model was trained, so there is no adapter to keep (form = {training.form!r}).",
                hint='form = "merged"',
            )
    elif training.base is None:
        raise InvalidInput("An adapter needs the base that it was trained on.")
    elif training.form != "merged" and training.base.content.get("adapter"):
        raise UnsupportedModel(
            f"{label} is an adapter itself; what was trained on top of it can only be kept merged.",
            hint='form = "merged"',
        )


def _with_base(training: Training) -> ModelLineage:
    """Return the lineage with the base that was really used."""
    if training.base is None:
        return training.lineage
    return msgspec.structs.replace(training.lineage, base=pin(training.base))


def _check_base(adapter: Adapter, base: ModelVersion) -> None:
    if adapter.base_digest is not None and adapter.base_digest != base.digest:
        raise WrongBase(
            f"The adapter was trained on {adapter.base_digest}, not on model:{base.name}@{base.number}.",
            base=adapter.base_digest,
            given=base.digest,
        )


def _open_base(given: Path | None, base: ModelVersion, scratch: Path, check_out_base: CheckOut) -> Path:
    """Return a folder that holds the base's own weights.

    A base lies on disk as long as a run lasts. Raises `DigestMismatch` where it is not, or not any more, what its version
    holds: the proof compares with the merged weights, and would pass.
    """
    kept = {
        name.removeprefix(ORIGINAL): digest
        for name, digest in base.artefacts.items()
        if name.startswith(ORIGINAL) and _decides(name)
    }
    if given is None or not kept:
        check_out_base(scratch)
        kept = {path.name: digest_file(path) for path in scratch.iterdir() if _decides(path.name)}
    if given is None:
        return scratch
    for name, digest in kept.items():
        seen = digest_file(given / name) if (given / name).is_file() else None
        if seen != digest:
            raise DigestMismatch(
                f"{name} of the base in {given} is not that of model:{base.name}@{base.number}.",
                hint="Delete that folder and train again: it was changed after it was checked out, or is another model.",
                expected=digest,
                seen=seen,
            )
    return given


def _decides(name: str) -> bool:
    """Whether the file is one that decides what a base answers."""
    return name.endswith((".safetensors", "/config.json")) or name == "config.json"


def _beside_base(trained: Path, base: ModelVersion, files: ModelFiles, out: Path) -> Path:
    """Return a folder with the trained weights and the base's tokenizer and template.

    Raises `DigestMismatch` where training wrote other ones: the model would be asked otherwise than it was trained.
    """
    out.mkdir()
    for name in (TOKENIZER, RENDERER):
        files.copy(base, name, out / name)
        if (trained / name).is_file() and digest_file(trained / name) != digest_file(out / name):
            raise DigestMismatch(
                f"The trained folder holds another {name} than its base model:{base.name}@{base.number}.",
                hint="A model must be asked in the format it was trained in: train with the base's own renderer.",
            )
    for path in trained.iterdir():
        if path.is_file() and not (out / path.name).exists():
            (out / path.name).symlink_to(path.resolve())  # weights are large
    return out


def _package_adapter(
    training: Training, adapter: Adapter, *, merged: Path, files: ModelFiles, out: Path, source: FetchedModel
) -> ModelPackage:
    """Return the adapter as a version of its own, proven on its base where engines can lay it on."""
    shape, base = read_shape(merged), training.base
    assert isinstance(shape, DecoderShape)
    assert base is not None
    out.mkdir()
    kept = {f"{ADAPTER}{path.name}": path for path in adapter.files}
    parity: dict[str, Any] | None = None
    if adapter.is_servable or training.form == "adapter":
        write_gguf_adapter(adapter, shape, out / ADAPTER_GGUF, name=training.name)
        report = prove_adapter(
            merged, files.path(base, GGUF), out / ADAPTER_GGUF, precision=base.content["precision"]
        )
        demand_parity(report)
        kept[ADAPTER_GGUF] = out / ADAPTER_GGUF
        parity = report.as_evidence()
    renderer = read_folder_renderer(merged)
    write_renderer(renderer, merged / TOKENIZER, out)
    kept |= {name: out / name for name in (TOKENIZER, RENDERER)}
    with adapter.open() as tensors:
        n_parameters = sum(tensors.read(name).size for name in tensors.names)
    content: dict[str, Any] = {
        "format": "adapter",
        "formats": ["safetensors", *(["gguf"] if parity else [])],
        "n_parameters": n_parameters,
        "size_bytes": sum(path.stat().st_size for path in adapter.files),
        "precision": "f32",
        **{
            key: base.content.get(key)
            for key in ("kind", "architecture", "context_length", "dims", "sampling", "signature", "golden")
        },
        "renderer_digest": renderer.digest,
        "stop_ids": list(base.content.get("stop_ids") or ()),
        "description": source.description,
        "license": source.license,
        "source": {
            "form": source.form,
            "reference": source.reference,
            "files": {name: digest_file(adapter.folder / name) for name in (CONFIG, WEIGHTS)},
        },
        "parity": parity,
        "adapter": {
            "base_digest": base.digest,
            "kind": adapter.kind,
            "r": adapter.r,
            "alpha": adapter.alpha,
            "targets": list(adapter.targets),
        },
        "lineage": msgspec.to_builtins(_with_base(training)),
    }
    name = adapter_name(training)
    return ModelPackage(content=content | {"card": write_card(name, content)}, files=kept)


def adapter_name(training: Training) -> str:
    """Return the asset that holds the adapter: beside a merged model one of its own."""
    return f"{training.name}-adapter" if training.form == "both" else training.name


def as_child(name: str, package: ModelPackage, parent: ModelVersion) -> ModelPackage:
    """Return a further precision as a child of the first: its weights rounded, and nothing else.

    Where the first is the coarser one, the child was not made from its rounded weights: then it was converted, as the
    first was, from those that the first keeps unrounded.
    """
    widths = [_WIDTHS.index(each["precision"]) for each in (parent.content, package.content)]
    lineage = ModelLineage(
        base=pin(parent),
        method="quantise" if widths[0] < widths[1] else "convert",
        run=(parent.content.get("lineage") or {}).get("run"),
    )
    content = {**package.content, "lineage": msgspec.to_builtins(lineage)}
    return ModelPackage(content={**content, "card": write_card(name, content)}, files=package.files)


def label_of(version: ModelVersion) -> str:
    """Return `model:NAME@NUMBER`."""
    return f"model:{version.name}@{version.number}"


def _within(progress: Progress, start: float, share: float) -> Progress:
    return lambda done, text: progress(start + share * done, text)
