"""What a source of local files looks like from outside: names, sizes and times, as one short text."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.knowledge.sources.kinds.files import find_files


def fingerprint(kind: str, settings: dict[str, Any]) -> str | None:
    """Return a text that changes when a file is added, removed or written; None when there is nothing to look at."""
    location = settings["location"]
    state = hashlib.blake2b(digest_size=16)
    if kind == "folder":
        if not Path(location).is_dir():
            return None
        stamps = _folder_stamps(location)
    elif kind in {"files", "jsonl"}:
        patterns = [location, *settings.get("also", [])]
        stamps = (_stamp(str(place)) for pattern in patterns for _, place in find_files(pattern))
    else:
        return None
    for stamp in stamps:
        state.update(stamp.encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _folder_stamps(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield _stamp(f"{parent}{os.sep}{name}")


def _stamp(path: str) -> str:
    try:
        found = os.lstat(path)
    except OSError:
        return f"{path}\0?\0"
    return f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\0"
