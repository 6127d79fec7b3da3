"""Checkpoints that a kill at any moment leaves whole: written beside, flushed to the disk, then renamed.

A checkpoint is a folder `step-N` of safetensors files and `state.json`, which is written last and names the digest of
each file. Nothing in it is a pickle. A folder that is not whole is never loaded: the one before it is.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .faults import TrainingFault, tell_disk_fault

STATE = "state.json"
BEST = "best"
_NAME = re.compile(r"step-(\d+)")


class Checkpoints:
    """The folder `checkpoints` of a run."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self._keep = max(1, keep)
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.partial"):
            _remove(leftover)

    def write(self, step: int, files: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
        """Write `step-N` and return its folder. `files` maps a name to a function that writes it to a path.

        Raises `TrainingFault` (`disk_full`) when there is no room; what was whole before stays so.
        """
        final = self.folder / f"step-{step}"
        partial = self.folder / f"step-{step}.partial"
        _remove(partial)
        try:
            partial.mkdir()
            digests = {}
            for name, write in files.items():
                write(partial / name)
                digests[name] = digest_file(partial / name)
            write_text(partial / STATE, json.dumps({**state, "step": step, "files": digests}, indent=1))
            for name in (*files, STATE):
                flush(partial / name)
            flush(partial)
        except (
            Exception
        ) as error:  # the writer of safetensors has its own kinds; only the text tells a full disk
            _remove(partial)
            raise tell_disk_fault(error) or error from error
        if final.exists():  # written before a kill, and not found whole at the start
            _remove(final)
        partial.rename(final)
        flush(self.folder)
        return final

    def mark_best(self, step: int) -> None:
        """Point `best` at `step-N`, in one move."""
        partial = self.folder / "best.partial"
        _remove(partial)
        partial.symlink_to(f"step-{step}")
        partial.rename(self.folder / BEST)
        flush(self.folder)

    def find_best(self) -> Path | None:
        """Return the folder that `best` points to, if there is one."""
        link = self.folder / BEST
        return link.resolve() if link.is_dir() else None

    def prune(self) -> None:
        """Delete all but the newest, as many as are to be kept, and the best one."""
        best = self.find_best()
        for step in self.steps()[self._keep :]:
            folder = self.folder / f"step-{step}"
            if folder.resolve() != best:
                # renamed first: a kill while it is deleted must not leave half of a checkpoint under its name
                doomed = self.folder / f"step-{step}.partial"
                folder.rename(doomed)
                _remove(doomed)

    def steps(self) -> list[int]:
        """Return the steps that there are checkpoints of, newest first."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(match.group(1)) for match in found if match), reverse=True)

    def find_newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole, with its state; None if there is none."""
        for step in self.steps():
            folder = self.folder / f"step-{step}"
            state = read_state(folder)
            if state is not None:
                return folder, state
        return None

    def size_bytes(self) -> int:
        """Return what all checkpoints take on the disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of a checkpoint, or None if it is not whole: no state, a missing or altered file."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        is_whole = all(digest_file(folder / name) == digest for name, digest in state["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return state if is_whole else None


def check_origin(state: Mapping[str, Any], *, digest: str, inputs: Mapping[str, str]) -> None:
    """Refuse to go on from a checkpoint of another specification or of other data (LlamaFactory#7085)."""
    if state["digest"] != digest:
        raise TrainingFault(
            "data_changed",
            "The checkpoint belongs to another frozen run; its recipe or data are not these.",
            hint="Start a new run.",
            expected=digest,
            seen=state["digest"],
        )
    changed = sorted(name for name, value in inputs.items() if state["inputs"].get(name) != value)
    if changed:
        raise TrainingFault(
            "data_changed",
            f"Files of the run changed since its checkpoint was written: {', '.join(changed)}.",
            hint="Start a new run, or put the files back.",
        )


def write_text(path: Path, text: str) -> None:
    """Write a file and flush it to the disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def digest_file(path: Path) -> str:
    """Return `sha256:…` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def flush(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
