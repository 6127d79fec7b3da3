"""Weights of bases below `HOME/tuning/bases`, shared by all runs that begin from them.

They lie there for months, so their bytes are held to the digests of when they were written each time a run opens them:
a flipped bit, a half-written page or a hand's edit would go into every later model, whose lineage names the base. A base is
a copy of what the registry keeps: one that no run needs any more is removed after a while, and checked out again when asked for.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import PenstockError
from penstock.base.ids import new_id
from penstock.tuning.model_types import BaseFolder
from penstock.tuning.renderer import load_renderer
from penstock.tuning.runs.ports import StartFolder

_FACTS = "penstock-base.json"
_RENDERER = "penstock-renderer.json"
_TOKENIZER = "tokenizer.json"
_DRAFT = ".part"


def open_shared(place: Path, check_out: Callable[[Path], BaseFolder]) -> StartFolder:
    """Return the base in `place`; `check_out` writes it into a folder where it is missing, or not what it was.

    One process and thread at a time works on a place; the others wait, and find it whole.
    """
    with _hold(place):
        if (known := _read(place)) is not None:
            os.utime(place)  # when it was opened last
            return known
        for left in (
            *place.parent.glob(f"{place.name}{_DRAFT}*"),
            *place.parent.glob(f".{place.name}{_DRAFT}*"),
        ):
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed: the lock is ours
        part = place.with_name(f"{place.name}{_DRAFT}-{new_id('base')}")
        try:
            base = check_out(part)
            _write(base, part)
            if (
                place.exists()
            ):  # moved aside first: a trainer that reads it goes on with the files it has open
                aside = part.with_name(f"{part.name}-old")
                place.replace(aside)
                part.replace(place)
                shutil.rmtree(aside, ignore_errors=True)
            else:
                part.replace(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return StartFolder(
            folder=place,
            renderer=base.renderer,
            stop_ids=tuple(base.stop_ids),
            pad_id=base.pad_id,
            context_length=base.context_length,
        )


@dataclass(frozen=True, kw_only=True)
class SharedBase:
    """One folder of weights below `HOME/tuning/bases`."""

    folder: Path
    size_bytes: int
    opened_s: float
    """When a run opened it last, in seconds since 1970."""
    n_runs: int
    """Runs that may still go on from it, and plans under way."""
    is_draft: bool
    """Whether it was never finished: its checkout was killed, or is under way."""


def list_shared(root: Path, needed: Callable[[str], bool]) -> list[SharedBase]:
    """Return the bases below `root` (`HOME/tuning`), oldest first; `needed(RUN)` says whether a run may still go on."""
    bases = root / "bases"
    if not bases.is_dir():
        return []
    namers: dict[Path, int] = {}
    for link in root.glob("*/base"):
        if link.is_symlink() and needed(link.parent.name):
            place = link.resolve()
            namers[place] = namers.get(place, 0) + 1
    found = [
        SharedBase(
            folder=folder,
            size_bytes=sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()),
            opened_s=folder.stat().st_mtime,
            n_runs=namers.get(folder.resolve(), 0),
            is_draft=_DRAFT in folder.name,
        )
        for folder in bases.iterdir()
        if folder.is_dir()
    ]
    return sorted(found, key=lambda each: each.opened_s)


def prune_shared(
    root: Path, needed: Callable[[str], bool], *, unused_s: float, now_s: Callable[[], float] = time.time
) -> list[Path]:
    """Remove bases that no run needs and that nobody has opened for `unused_s`, and drafts that nobody writes; return them.

    A base that is being checked out or opened right now is left alone.
    """
    removed = []
    for base in list_shared(root, needed):
        is_old = now_s() - base.opened_s >= unused_s
        if not base.is_draft and (base.n_runs or not is_old):
            continue
        place = base.folder.with_name(base.folder.name.partition(_DRAFT)[0].removeprefix("."))
        with suppress(BlockingIOError, FileNotFoundError), _hold(place, waits=False):
            # the name goes first: half of a base must not lie under it
            doomed = base.folder.with_name(f".{place.name}{_DRAFT}-{new_id('base')}")
            base.folder.replace(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            removed.append(base.folder)
    return removed


@contextmanager
def _hold(place: Path, *, waits: bool = True) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _write(base: BaseFolder, folder: Path) -> None:
    (folder / _RENDERER).write_bytes(msgspec.json.encode(base.renderer.spec))
    facts = {
        "stop_ids": list(base.stop_ids),
        "pad_id": base.pad_id,
        "context_length": base.context_length,
        "files": _digest(folder),
    }
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _read(folder: Path) -> StartFolder | None:
    """Return what was checked out there before; None where that is not whole, or not byte for byte what it was."""
    with suppress(OSError, ValueError, KeyError, PenstockError):
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["files"] != _digest(folder):
            return None
        return StartFolder(
            folder=folder,
            renderer=load_renderer(folder / _RENDERER, folder / _TOKENIZER),
            stop_ids=tuple(facts["stop_ids"]),
            pad_id=int(facts["pad_id"]),
            context_length=int(facts["context_length"]),
        )
    return None


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _FACTS
    }
