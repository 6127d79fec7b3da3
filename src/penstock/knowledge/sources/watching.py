"""What a source of local files looks like from outside: names, sizes and times, as one short text."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.knowledge.sources.kinds.files import find_files, told_in


def fingerprint(kind: str, settings: dict[str, Any], private_root: Path | None = None) -> str | None:
    """Return a text that changes when a file that the source reads is added, removed or written, properties included;
    None when there is nothing to look at. Nothing below `private_root` is looked at. Raises `OSError`.
    """
    location = settings["location"]
    state = hashlib.blake2b(digest_size=16)
    if kind == "folder":
        if not Path(location).is_dir():
            return None
        stamps = _folder_stamps(location, private_root)
    elif kind in {"files", "jsonl"}:
        patterns = [location, *settings.get("also", [])]
        stamps = (stamp for pattern in patterns for stamp in _file_stamps(pattern))
    else:
        return None
    for stamp in stamps:
        state.update(stamp.encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _file_stamps(pattern: str) -> Iterator[str]:
    for path, place in find_files(pattern):
        root = place.parents[path.count("/")]
        for each in told_in(path):
            if each == path or (root / each).is_file():
                yield _stamp(str(root / each))


def _folder_stamps(folder: str, private_root: Path | None) -> Iterator[str]:
    private = None if private_root is None else str(private_root.resolve())
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if private is not None:
            folders[:] = [name for name in folders if os.path.realpath(f"{parent}{os.sep}{name}") != private]
        for name in sorted(names):
            if not name.startswith("."):
                yield _stamp(f"{parent}{os.sep}{name}")


def _stamp(path: str) -> str:
    try:
        found = os.lstat(path)
    except OSError:
        return f"{path}\0?\0"
    return f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0"
