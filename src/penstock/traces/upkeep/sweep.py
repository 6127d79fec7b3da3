"""Looks through every file of a home for a name: the proof that nothing of it is left, or the place where it is."""

import json
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

MIN_NAME = 6
"""Shorter names stand in files by chance."""
MAX_FOUND = 50


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A file in which the name stands."""

    file: str
    n: int


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What looking through the files brought."""

    n_files: int = 0
    n_bytes: int = 0
    found: list[Place] = []
    unreadable: list[str] = []
    skipped: str | None = None
    """Why nothing was looked at."""
    how: list[str] = []
    """What was looked for, and in which way; empty: one name, in every file as it is."""


def sweep(root: Path, name: str, *, is_stopped: Callable[[], bool] = lambda: False) -> Sweep:
    """Look for a name, as text and as JSON writes it, in every file below `root`."""
    if len(name) < MIN_NAME:
        return Sweep(skipped=f"names of fewer than {MIN_NAME} characters stand in files by chance")
    needles = _needles(name)
    n_files = n_bytes = 0
    found: list[Place] = []
    unreadable: list[str] = []
    for folder, _, names in os.walk(root):
        for each in sorted(names):
            if is_stopped():
                return Sweep(n_files=n_files, n_bytes=n_bytes, found=found, skipped="it was stopped")
            path = Path(folder) / each
            try:
                size, n = _count(path, needles)
            except FileNotFoundError:  # gone meanwhile, and with it what it held
                continue
            except OSError:
                unreadable.append(str(path.relative_to(root)))
                continue
            n_files, n_bytes = n_files + 1, n_bytes + size
            if n and len(found) < MAX_FOUND:
                found.append(Place(file=str(path.relative_to(root)), n=n))
    return Sweep(n_files=n_files, n_bytes=n_bytes, found=found, unreadable=unreadable)


def _needles(name: str) -> list[bytes]:
    ways = {name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1]}
    return sorted({way.encode("utf-8", "surrogatepass") for way in ways})


def _count(path: Path, needles: list[bytes]) -> tuple[int, int]:
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
            return 0, 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return facts.st_size, sum(_occurrences(data, needle) for needle in needles)


def _occurrences(data: mmap.mmap, needle: bytes) -> int:
    n, at = 0, data.find(needle)
    while at >= 0:
        n, at = n + 1, data.find(needle, at + len(needle))
    return n
