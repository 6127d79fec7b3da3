"""A version's weights as a folder in Hugging Face layout: kept files copied, or a GGUF of f32 or f16 taken back.

The folder appears under its name only when it is whole. It holds `renderer.json` as well, so that what is trained from
it speaks exactly the base's format.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.base.errors import InvalidInput
from penstock.providers.engines.types import SamplingPolicy
from penstock.spec.tuning import PinnedAsset
from penstock.tuning.convert.architectures import DecoderShape, read_json, read_shape
from penstock.tuning.convert.from_gguf import write_folder
from penstock.tuning.convert.merge import merge_adapter
from penstock.tuning.errors import NotTrainable, WrongBase
from penstock.tuning.model_files import ADAPTER, GGUF, ORIGINAL, RENDERER, TOKENIZER, ModelFiles, ModelVersion
from penstock.tuning.model_types import BaseFolder
from penstock.tuning.packaging import (
    read_folder_renderer,
    read_stop_ids,
    write_sampling,
    write_tokenizer_config,
)
from penstock.tuning.renderer import Renderer, load_renderer

EXACT = ("f32", "f16")
"""Precisions of a GGUF file that can be taken back without loss."""


def check_out(version: ModelVersion, files: ModelFiles, folder: Path) -> BaseFolder:
    """Write the version's weights to `folder`, which must be empty or not be there, and return what is there.

    Raises `NotTrainable` for encoders and for versions whose only weights were rounded.
    """
    label = f"model:{version.name}@{version.number}"
    if version.content.get("kind") != "chat":
        raise NotTrainable(
            f"{label} is of kind {version.content.get('kind')}; only chat models are checked out."
        )
    with draft_folder(folder) as draft:
        if f"{ORIGINAL}config.json" in version.artefacts:
            for name in version.artefacts:
                if name.startswith(ORIGINAL):
                    files.copy(version, name, draft / name.removeprefix(ORIGINAL))
        else:
            _take_back(version, files, draft)
        for name in (TOKENIZER, RENDERER):
            files.copy(version, name, draft / name)
    return describe_folder(folder, pin(version), license_id=version.content.get("license"))


def check_out_adapter(
    version: ModelVersion, base: ModelVersion, files: ModelFiles, folder: Path
) -> BaseFolder:
    """Write an adapter's own base with the adapter merged in to `folder`. Raises `WrongBase` for another base."""
    facts = version.content["adapter"]
    if facts["base_digest"] != base.digest:
        raise WrongBase(
            f"model:{version.name}@{version.number} was trained on {facts['base_digest']}, not on {base.digest}.",
            base=facts["base_digest"],
            given=base.digest,
        )
    with draft_folder(folder) as draft:
        parts = draft / ".parts"
        check_out(base, files, parts / "base")
        for name in version.artefacts:
            if name.startswith(ADAPTER):
                files.copy(version, name, parts / name)
        merge_adapter(parts / "base", parts / ADAPTER, draft)
        shutil.rmtree(parts)
    return describe_folder(folder, pin(version), license_id=version.content.get("license"))


def describe_folder(folder: Path, pinned: PinnedAsset, *, license_id: str | None) -> BaseFolder:
    """Return what a checked-out folder holds."""
    shape = read_shape(folder)
    assert isinstance(shape, DecoderShape)
    renderer = read_folder_renderer(folder)
    stop_ids = read_stop_ids(shape, renderer)
    return BaseFolder(
        folder=folder,
        pinned=pinned,
        renderer=renderer,
        license=license_id,
        stop_ids=stop_ids,
        pad_id=_find_pad(folder, renderer, stop_ids),
        context_length=shape.context_length,
    )


def pin(version: ModelVersion) -> PinnedAsset:
    """Return the version as lineage names it."""
    return PinnedAsset(asset=f"model:{version.name}", number=version.number, digest=version.digest)


class draft_folder:  # noqa: N801  # used as `with draft_folder(…)`
    """A folder beside `folder` that takes its place when the block ends well, and vanishes when it does not."""

    def __init__(self, folder: Path) -> None:
        """Raises `InvalidInput` when something lies there already."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidInput(f"{folder} is not empty.", hint="Name a folder that is not there yet.")
        self._folder = folder

    def __enter__(self) -> Path:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(dir=self._folder.parent, prefix=f".{self._folder.name}."))
        return self._draft

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._draft.chmod(0o755)  # mkdtemp makes it for its owner alone
            self._draft.replace(self._folder)
        else:
            shutil.rmtree(self._draft, ignore_errors=True)


def _take_back(version: ModelVersion, files: ModelFiles, draft: Path) -> None:
    if version.content.get("precision") not in EXACT:
        raise NotTrainable(
            f"model:{version.name}@{version.number} was rounded to {version.content.get('precision')}; "
            "its weights are no base to train or convert from.",
            hint="Name the version it was made from; `penstock model lineage` shows it.",
        )
    renderer = load_renderer(files.path(version, RENDERER), files.path(version, TOKENIZER))
    pad = renderer.control_tokens.get(renderer.spec.special_tokens.get("pad_token", ""))
    shape = write_folder(files.path(version, GGUF), draft, pad_id=pad)
    write_tokenizer_config(renderer.spec, shape.context_length, draft)
    sampling = msgspec.convert(version.content.get("sampling") or {}, SamplingPolicy)
    write_sampling(sampling, read_stop_ids(shape, renderer), draft)


def _find_pad(folder: Path, renderer: Renderer, stop_ids: Sequence[int]) -> int:
    """Return the id that fills short rows: the one named, else the end of a reply, which the mask hides."""
    named = read_json(folder / "config.json").get("pad_token_id")
    if isinstance(named, int):
        return named
    pad = renderer.control_tokens.get(renderer.spec.special_tokens.get("pad_token", ""))
    return pad if pad is not None else next(iter(stop_ids), 0)
