"""What an index folder says about itself, and how it appears on disk: whole, durable, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from penstock.base.digest import digest_file
from penstock.base.files import sync_directory
from penstock.base.ids import new_id
from penstock.knowledge.errors import DamagedIndex
from penstock.spec.knowledge import IndexRecipe

FORMAT = 3
NAME = "manifest.json"


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an index."""

    size_bytes: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`. Written last."""

    format: int
    index_id: str
    kind: str
    """The engine; never `auto`."""
    embedder: str
    n_rows: int
    n_documents: int
    dims: int
    rows_checksum: str
    """Of document ids and their numbers of passages: `documents.checksum_rows`."""
    recipe: IndexRecipe
    """Without the connection."""
    files: dict[str, FileRecord]
    made_ns: int
    server_name: str | None = None
    """What the table or collection on a server is called."""
    note: str | None = None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Add sizes and digests of the files in `folder`, make all of it durable, and write the manifest last."""
    files: dict[str, FileRecord] = {}
    for path in sorted(folder.iterdir()):
        _sync_file(path)
        files[path.name] = FileRecord(size_bytes=path.stat().st_size, digest=digest_file(path))
    path = folder / NAME
    path.write_bytes(msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, files=files))))
    _sync_file(path)
    sync_directory(folder)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest; raise `DamagedIndex` when it or a file is missing, or has another size."""
    try:
        manifest = msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
        if manifest.format != FORMAT:
            raise DamagedIndex(f"index {folder.name} has format {manifest.format}, not {FORMAT}.")
        for name, record in manifest.files.items():
            size = (folder / name).stat().st_size
            if size != record.size_bytes:
                raise DamagedIndex(
                    f"{name} of index {folder.name} has {size} bytes, not {record.size_bytes}."
                )
    except (OSError, ValueError) as error:
        raise DamagedIndex(f"index {folder.name} cannot be opened: {error}.") from error
    return manifest


def check_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Raise `DamagedIndex` when the content of a file is not what was written."""
    record = manifest.files.get(name)
    if record is None or digest_file(folder / name) != record.digest:
        raise DamagedIndex(f"{name} of index {folder.name} is not what was written.")


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write in, which takes the place of `folder` at the end, or vanishes on any error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(folder)
    nonce = new_id("b")
    draft = folder.parent / f".{folder.name}.{os.getpid()}.{nonce}.draft"
    old = folder.parent / f".{folder.name}.{os.getpid()}.{nonce}.old"
    draft.mkdir()
    try:
        yield draft
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(draft)  # another process built the same index meanwhile
        sync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Remove what builds of this index left behind whose processes are gone."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        parts = path.name.removeprefix(f".{folder.name}.").split(".")
        if parts[-1] in {"draft", "old"} and parts[0].isdigit() and not _is_alive(int(parts[0])):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
