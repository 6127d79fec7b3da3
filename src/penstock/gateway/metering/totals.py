"""Sums the files of all workers; the counts of dead ones are folded into one file, each exactly once.

The folded file names the files whose counts it holds. It replaces its predecessor by a rename, and only then are those
files removed: whatever moment a process dies at, no count is lost or counted twice.
"""

import fcntl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from penstock.base.files import write_atomic
from penstock.gateway.metering.cells import SeriesName, read_series
from penstock.gateway.metering.families import FAMILIES

_FOLDED = "folded.json"
_LOCK_WAIT_S = 2.0

Totals = dict[SeriesName, list[float]]


class Folded(msgspec.Struct, kw_only=True):
    """Counts of workers that are gone."""

    files: list[str] = []
    series: list[tuple[SeriesName, list[float]]] = []


def collect(folder: Path, own: bytes, own_name: str) -> Totals:
    """Return the sums over all workers, dead and alive. `own` is the asking worker's content, of the file `own_name`."""
    totals: Totals = {}
    add(totals, read_series(own))
    with _lock(folder) as has_lock:
        folded = _read_folded(folder)
        dead: dict[str, bytes] = {}
        for path in sorted(folder.glob("*.bin")):
            if path.name == own_name or path.name in folded.files:
                continue
            raw, is_dead = _read_file(path)
            if is_dead:
                dead[path.name] = raw
            else:
                add(totals, read_series(raw))
        stale = list(folded.files)
        if has_lock and (dead or any((folder / name).exists() for name in stale)):
            _remove(folder, stale)
            folded = _fold(folder, folded, dead)
            _remove(folder, dead)
        else:
            for raw in dead.values():
                add(totals, _lasting(raw))
    add(totals, folded.series)
    return totals


def add(totals: Totals, series: Iterable[tuple[SeriesName, list[float]]]) -> None:
    """Add numbers to `totals`."""
    for name, values in series:
        there = totals.get(name)
        if there is None:
            totals[name] = list(values)
        elif len(there) == len(values):
            totals[name] = [one + other for one, other in zip(there, values, strict=True)]


def _fold(folder: Path, folded: Folded, dead: dict[str, bytes]) -> Folded:
    totals: Totals = {}
    add(totals, folded.series)
    for raw in dead.values():
        add(totals, _lasting(raw))
    new = Folded(files=list(dead), series=list(totals.items()))
    write_atomic(folder / _FOLDED, msgspec.json.encode(new))
    return new


def _lasting(raw: bytes) -> Iterator[tuple[SeriesName, list[float]]]:
    return ((name, values) for name, values in read_series(raw) if FAMILIES[name[0]].kind != "gauge")


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _read_folded(folder: Path) -> Folded:
    try:
        return msgspec.json.decode((folder / _FOLDED).read_bytes(), type=Folded)
    except (OSError, msgspec.DecodeError):
        return Folded()


def _read_file(path: Path) -> tuple[bytes, bool]:
    """Return the content and whether nobody holds the file any more."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(), False
            return file.read(), True
    except OSError:
        return b"", False


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock; False if somebody does not give it up, and then nothing may be folded."""
    with (folder / "lock").open("ab") as file:
        end_at = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end_at:
                    yield False
                    return
                time.sleep(0.01)
            else:
                yield True
                return
