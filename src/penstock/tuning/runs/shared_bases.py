"""Weights of bases below `HOME/tuning/bases`, shared by all runs that begin from them.

They lie there for months, so their bytes are held to the digests of when they were written each time a run opens them:
a flipped bit, a half-written page or a hand's edit would go into every later model, whose lineage names the base.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def open_shared(place: Path, check_out: Callable[[Path], BaseFolder]) -> StartFolder:
    """Return the base in `place`; `check_out` writes it into a folder where it is missing, or not what it was.

    One process and thread at a time works on a place; the others wait, and find it whole.
    """
    with _hold(place):
        if (known := _read(place)) is not None:
            return known
        for left in (*place.parent.glob(f"{place.name}.part*"), *place.parent.glob(f".{place.name}.part*")):
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed: the lock is ours
        part = place.with_name(f"{place.name}.part-{new_id('base')}")
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


@contextmanager
def _hold(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
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
