"""A home from a backup: checked byte for byte against its list of digests before it appears under its name."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from penstock.base.files import sync_directory
from penstock.main.backup import FORMAT, MANIFEST, Manifest
from penstock.main.errors import BackupInvalid, HomeNotEmpty
from penstock.store.control.engine import newest_revision
from penstock.store.spans.schema import SCHEMA_VERSION

_PIECE = 1 << 20
_MAX_MANIFEST = 256 * 1024 * 1024
Tell = Callable[[float | None, str], None]


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored, or checked."""

    home: str | None
    """None where it was only checked."""
    n_files: int
    size_bytes: int
    version: str
    created_ns: int
    notes: list[str]


def check_backup(file: Path, *, tell: Tell = lambda *_: None) -> RestoreReport:
    """Read a whole backup and compare every file with its digest; raise `BackupInvalid`."""
    return _report(_read(file, None, tell), None)


def restore(file: Path, root: Path, *, tell: Tell = lambda *_: None) -> RestoreReport:
    """Make the home `root` from a backup; raise `HomeNotEmpty`, `BackupInvalid`. Nothing is left where that fails."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise HomeNotEmpty(
            f"{root} is there already and not empty.", hint="Restore into a new folder, with --home."
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    growing = root.with_name(f".{root.name}.restoring")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(mode=0o700)
    try:
        manifest = _read(file, growing, tell)
        if root.exists():
            root.rmdir()
        growing.rename(root)
        sync_directory(root.parent)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return _report(manifest, root)


def _report(manifest: Manifest, root: Path | None) -> RestoreReport:
    return RestoreReport(
        home=None if root is None else str(root),
        n_files=len(manifest.members),
        size_bytes=sum(member.size for member in manifest.members),
        version=manifest.version,
        created_ns=manifest.created_ns,
        notes=manifest.notes,
    )


def _read(file: Path, target: Path | None, tell: Tell) -> Manifest:
    """Read all members, below `target` if there is one, and hold them against the manifest."""
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    try:
        size = file.stat().st_size
        with file.open("rb") as source, tarfile.open(fileobj=source, mode="r|*") as tar:
            for member in tar:
                tell(min(1.0, source.tell() / max(1, size)), member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise BackupInvalid(f"{file} holds {member.name!r}, which is no plain file.")
                if member.name == MANIFEST:
                    manifest = msgspec.json.decode(content.read(_MAX_MANIFEST), type=Manifest)
                    continue
                place = _place_of(member.name, target)
                found[member.name] = _copy(content, place)
    except (OSError, EOFError, tarfile.TarError, msgspec.MsgspecError, UnicodeError) as error:
        raise BackupInvalid(f"{file} cannot be read: {error}", hint="Take another backup.") from error
    if manifest is None:
        raise BackupInvalid(f"{file} ends early: its list of files is missing.", hint="Take another backup.")
    _check(file, manifest, found)
    return manifest


def _place_of(name: str, target: Path | None) -> Path | None:
    """Return where a member goes; raise `BackupInvalid` for a name that leads out of the home."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or any(part in {"..", ".", ""} for part in parts) or "\0" in name:
        raise BackupInvalid(f"The backup holds a file named {name!r}, which leads out of the home.")
    return None if target is None else target.joinpath(*parts)


def _copy(content: IO[bytes], place: Path | None) -> tuple[int, str]:
    state, size = hashlib.sha256(), 0
    if place is None:
        while piece := content.read(_PIECE):
            state.update(piece)
            size += len(piece)
        return size, f"sha256:{state.hexdigest()}"
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(_PIECE):
            state.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size, f"sha256:{state.hexdigest()}"


def _check(file: Path, manifest: Manifest, found: dict[str, tuple[int, str]]) -> None:
    if manifest.format > FORMAT:
        raise BackupInvalid(
            f"{file} has format {manifest.format}, this program reads {FORMAT}.",
            hint=f"Restore it with Penstock {manifest.version} or newer.",
        )
    if manifest.control_revision > newest_revision() or manifest.span_schema > SCHEMA_VERSION:
        raise BackupInvalid(
            f"{file} was made by Penstock {manifest.version}, whose tables are newer than this program's.",
            hint="Restore it with that version or a newer one.",
        )
    listed = {member.path: (member.size, member.digest) for member in manifest.members}
    for path in sorted(listed.keys() | found.keys()):
        if listed.get(path) != found.get(path):
            what = (
                "is missing"
                if path not in found
                else "is not listed"
                if path not in listed
                else "was changed"
            )
            raise BackupInvalid(f"{file} is damaged: {path} {what}.", hint="Take another backup.")
