"""What an index folder says about itself, and how it appears on disk: whole, durable, or not at all."""

import fcntl
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
MAKE_TRIES = 5


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
    """Give a folder to write in, which takes the place of `folder` at the end, or vanishes on any error.

    It is held by a lock that ends with this process, so what a killed one left behind is told from what is being
    written, whatever became of its process id. Raises `DamagedIndex` when somebody removed the index meanwhile.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(folder)
    draft, descriptor = _make_draft(folder)
    old = draft.with_suffix(".old")
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
    except BaseException as error:
        is_removed = isinstance(error, FileNotFoundError) and not draft.exists()
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
        if is_removed:
            raise DamagedIndex(f"index {folder.name} was removed while it was written.") from error
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
        os.close(descriptor)


def remove_drafts(folder: Path, *, in_use: bool = False) -> None:
    """Remove what builds of this index left behind that were killed; `in_use` also what is being written now."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        _remove_draft(path, in_use=in_use)


def clear_drafts(place: Path) -> int:
    """Remove what killed builds of any index below `place` left behind; return how many folders that were."""
    if not place.is_dir():
        return 0
    return sum(_remove_draft(path) for path in sorted(place.iterdir()))


def _make_draft(folder: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor that holds its lock."""
    for _ in range(MAKE_TRIES):
        draft = folder.parent / f".{folder.name}.{os.getpid()}.{new_id('b')}.draft"
        draft.mkdir()
        try:
            descriptor = os.open(draft, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        except OSError:  # a file system without locks: process ids alone tell
            pass
        if draft.exists():
            return draft, descriptor
        os.close(descriptor)
    raise FileExistsError(f"no folder to write {folder.name} in stays there.")


def _remove_draft(path: Path, *, in_use: bool = False) -> bool:
    """Remove a draft, or what one replaced, unless its builder is at work; return whether it is gone."""
    parts = path.name.split(".")
    if parts[0] or len(parts) < 4 or parts[-1] not in {"draft", "old"}:
        return False
    # What was replaced is put back by a builder that fails: it belongs to the draft beside it.
    held = path if parts[-1] == "draft" else path.with_suffix(".draft")
    if not in_use and held.exists() and _is_held(held):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _is_held(draft: Path) -> bool:
    try:
        descriptor = os.open(draft, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        told = draft.name.split(".")[-3]
        return not told.isdigit() or _is_alive(int(told))
    finally:
        os.close(descriptor)
    return False


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
