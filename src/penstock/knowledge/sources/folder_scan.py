"""What lies in a source folder: readable files by relative path, and everything that is left out, with why.

Follows no symbolic link, so a folder cannot lead an ingest outside itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import InvalidInput
from penstock.knowledge.parse import SUFFIXES
from penstock.knowledge.types import Dropped


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read; `path` is relative to the folder, with `/` between its parts."""

    path: str
    absolute: Path


def scan_folder(folder: Path) -> tuple[list[SourceFile], list[Dropped]]:
    """Return the files with a known suffix below `folder`, sorted by path, and everything else as dropped.

    Raises `InvalidInput` when `folder` is not a readable folder.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{str(folder)!r} is not a folder.", hint="Name a folder that holds documents.")
    files: list[SourceFile] = []
    dropped: list[Dropped] = []
    for parent, folders, names in os.walk(folder, onerror=_note_unreadable(folder, dropped)):
        for name in list(folders):
            reason = _reason_against(Path(parent, name), name)
            if reason:
                folders.remove(name)
                dropped.append(Dropped(path=_relative(folder, Path(parent, name)) + "/", reason=reason))
        for name in names:
            absolute = Path(parent, name)
            path = _relative(folder, absolute)
            reason = _reason_against(absolute, name) or _reason_against_file(absolute)
            if reason:
                dropped.append(Dropped(path=path, reason=reason))
            else:
                files.append(SourceFile(path=path, absolute=absolute))
    files.sort(key=lambda file: file.path)
    dropped.sort(key=lambda item: item.path)
    return files, dropped


def _reason_against(absolute: Path, name: str) -> str | None:
    if absolute.is_symlink():
        return "symbolic links are not followed"
    return "hidden" if name.startswith(".") else None


def _reason_against_file(absolute: Path) -> str | None:
    if not absolute.is_file():
        return "not a plain file"
    if absolute.suffix.lower() not in SUFFIXES:
        return f"no parser for {absolute.suffix or 'a file without suffix'}"
    return None


def _relative(folder: Path, absolute: Path) -> str:
    # Names need not be valid Unicode on every file system; databases and JSON need them to be.
    return (
        absolute.relative_to(folder).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def _note_unreadable(folder: Path, dropped: list[Dropped]) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        path = Path(str(error.filename))
        dropped.append(
            Dropped(path=_relative(folder, path) + "/", reason=f"cannot be opened: {error.strerror}")
        )

    return note
