"""The files of model versions: which artefact is which, and handing them out only when their bytes are the named ones."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from penstock.base.digest import digest_file
from penstock.spec.assets import AssetRef
from penstock.tuning.errors import DigestMismatch, UnreadableModel

GGUF, TOKENIZER, RENDERER = "model.gguf", "tokenizer.json", "renderer.json"
ORIGINAL = "hf/"
"""Before the names of files kept as they came, in Hugging Face layout."""
ADAPTER = "adapter/"
"""Before the names of an adapter's files, in PEFT's layout."""
ADAPTER_GGUF = "adapter.gguf"
ORIGINAL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)


class ModelVersion(Protocol):
    """What is read of a registry's version."""

    @property
    def name(self) -> str: ...
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
        parents: Any = ...,
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
    def list_assets(self, kind: Any = None) -> Any: ...
    def list_versions(self, kind: Any, name: str) -> Any: ...


class Blobs(Protocol):
    """What is needed of the blob store."""

    def put_file(self, path: Path) -> str: ...
    def local_path(self, digest: str) -> Path: ...


class ModelFiles:
    """Artefacts on local disk. A file is hashed when it is first handed out and again whenever it looks changed.

    That costs about a second for a gigabyte, once in a process; a damaged file is never served nor trained on.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._proven: dict[Path, tuple[int, int, int]] = {}

    def keep(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Store files and return their digests by artefact name."""
        return {name: self._blobs.put_file(path) for name, path in files.items()}

    def path(self, version: ModelVersion, name: str) -> Path:
        """Return the local file of an artefact. Raises `UnreadableModel`, or `DigestMismatch` for a damaged one."""
        digest = version.artefacts.get(name)
        if digest is None:
            raise UnreadableModel(f"model:{version.name}@{version.number} holds no {name}.")
        path = self._blobs.local_path(digest)
        stat = path.stat()
        seen_as = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if self._proven.get(path) != seen_as:
            if (seen := digest_file(path)) != digest:
                raise DigestMismatch(
                    f"{name} of model:{version.name}@{version.number} is damaged.",
                    hint="Restore the blob store from a backup, or pull or register the model again.",
                    expected=digest,
                    seen=seen,
                )
            self._proven[path] = seen_as
        return path

    def copy(self, version: ModelVersion, name: str, target: Path) -> None:
        """Write an artefact to `target`, whole and proven."""
        if ".." in name.split("/") or "//" in name or name.startswith("/"):
            raise UnreadableModel(f"model:{version.name}@{version.number} holds a file named {name[:100]!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path(version, name), target)


def list_original(folder: Path, weights: Iterable[Path]) -> dict[str, Path]:
    """Return the files of a folder that are kept in its own layout, by artefact name."""
    found = {f"{ORIGINAL}{path.name}": path for path in weights}
    for name in ORIGINAL_FILES:
        if (folder / name).is_file():
            found[f"{ORIGINAL}{name}"] = folder / name
    return found
