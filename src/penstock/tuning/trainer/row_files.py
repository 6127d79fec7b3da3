"""Rows as they were written for training: token ids and masks, taken as they are.

Nothing here tokenises, templates, cuts, adds or drops. Files are mapped, not read, so a run's memory does not grow with
its data. A folder's kind shows in its files: `ids` supervised, `chosen_ids` preferences, `completion_ids` labelled rows.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .faults import TrainingFault

Ids = np.ndarray[Any, np.dtype[Any]]
Sequence = tuple[Ids, Ids]
"""Ids of a sequence and its mask: 1 where a token is learned."""


@dataclass(frozen=True)
class Ragged:
    """Arrays of unlike length, joined: `values[offsets[i]:offsets[i + 1]]` is the i-th."""

    values: Ids
    offsets: Ids

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> Ids:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class SupervisedRows:
    """Sequences with a mask each."""

    ids: Ragged
    mask: Ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Ids:
        return self.ids.lengths

    def get(self, index: int) -> Sequence:
        start, end = self.ids.offsets[index], self.ids.offsets[index + 1]
        return self.ids.values[start:end], self.mask[start:end]


@dataclass(frozen=True)
class PreferenceRows:
    """A prompt with the better and the worse continuation."""

    prompt: Ragged
    chosen: Ragged
    rejected: Ragged

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def lengths(self) -> Ids:
        return self.prompt.lengths + np.maximum(self.chosen.lengths, self.rejected.lengths)

    def get_chosen(self, index: int) -> Sequence:
        return join(self.prompt[index], self.chosen[index])

    def get_rejected(self, index: int) -> Sequence:
        return join(self.prompt[index], self.rejected[index])


@dataclass(frozen=True)
class LabelledRows:
    """A prompt with one continuation, and whether it was liked."""

    prompt: Ragged
    completion: Ragged
    labels: Ids

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def lengths(self) -> Ids:
        return self.prompt.lengths + self.completion.lengths

    def get(self, index: int) -> Sequence:
        return join(self.prompt[index], self.completion[index])

    def get_mismatched(self, index: int, other: int) -> Sequence:
        """Return this row's prompt with another row's continuation: what the KL term of KTO is estimated on."""
        return join(self.prompt[index], self.completion[other])


Rows = SupervisedRows | PreferenceRows | LabelledRows


def join(prompt: Ids, continuation: Ids) -> Sequence:
    """Return both as one sequence whose mask covers the continuation, its end-of-turn token with it."""
    mask = np.zeros(len(prompt) + len(continuation), dtype=np.uint8)
    mask[len(prompt) :] = 1
    return np.concatenate([prompt, continuation]), mask


def read_rows(folder: Path, method: str) -> Rows:
    """Open the rows of a folder. Raises `TrainingFault` if they are not those that `method` needs, or not whole."""
    if method == "dpo":
        return PreferenceRows(*(_read_ragged(folder, name) for name in ("prompt", "chosen", "rejected")))
    if method == "kto":
        labels = _load(folder / "labels.npy")
        return LabelledRows(_read_ragged(folder, "prompt"), _read_ragged(folder, "completion"), labels)
    ids = Ragged(_load(folder / "ids.npy"), np.asarray(_load(folder / "offsets.npy")))
    _check_offsets(folder, ids)
    mask = _load(folder / "mask.npy")
    if len(mask) != len(ids.values):
        raise TrainingFault("data_changed", f"Ids and mask in {folder.name} are not of one length.")
    return SupervisedRows(ids, mask)


def check_rows(rows: Rows, *, vocab_size: int, context_length: int | None) -> None:
    """Refuse rows that would train on nothing or beyond the model: no row, an empty mask, an id or length too large.

    The preflight refuses all of this before; here it is the last line, for files that came another way
    (trl#6025: a mask that truncation had emptied gave loss 0 and a gradient that is not a number).
    """
    if not len(rows):
        raise TrainingFault("trainer", "There are no rows to train on.")
    for ragged in _ragged_parts(rows):
        top = int(ragged.values.max()) if len(ragged.values) else -1
        least = int(ragged.values.min()) if len(ragged.values) else 0
        if least < 0:
            raise TrainingFault("trainer", f"A row has the token id {least}; ids begin with 0.")
        if top >= vocab_size:
            raise TrainingFault("trainer", f"A row has the token id {top}; the model knows {vocab_size} ids.")
    longest = int(np.max(rows.lengths))
    if context_length is not None and longest > context_length:
        row = int(np.argmax(rows.lengths))
        raise TrainingFault(
            "trainer",
            f"Row {row} has {longest} tokens; the model takes {context_length}. Rows are never cut here.",
        )
    if empty := [row for row in range(len(rows)) if _count_targets(rows, row) == 0]:
        raise TrainingFault(
            "trainer",
            f"{len(empty)} rows have nothing to learn (an empty mask), first {empty[:5]}.",
            rows=empty[:20],
        )


def digest_files(folder: Path) -> str:
    """Return one digest over the names and bytes of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            total.update(
                f"{path.relative_to(folder)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return f"sha256:{total.hexdigest()}"


def _count_targets(rows: Rows, index: int) -> int:
    """Targets of a row: what the mask covers, but its first token, which nothing comes before."""
    if isinstance(rows, SupervisedRows):
        return int(np.count_nonzero(rows.get(index)[1][1:]))
    if isinstance(rows, PreferenceRows):
        return int(min(rows.chosen.lengths[index], rows.rejected.lengths[index]))
    return int(rows.completion.lengths[index])


def _ragged_parts(rows: Rows) -> tuple[Ragged, ...]:
    if isinstance(rows, SupervisedRows):
        return (rows.ids,)
    if isinstance(rows, PreferenceRows):
        return rows.prompt, rows.chosen, rows.rejected
    return rows.prompt, rows.completion


def _read_ragged(folder: Path, name: str) -> Ragged:
    ragged = Ragged(_load(folder / f"{name}_ids.npy"), np.asarray(_load(folder / f"{name}_offsets.npy")))
    _check_offsets(folder, ragged)
    return ragged


def _check_offsets(folder: Path, ragged: Ragged) -> None:
    offsets = ragged.offsets
    if (
        not len(offsets)
        or offsets[0] != 0
        or offsets[-1] != len(ragged.values)
        or np.any(np.diff(offsets) < 0)
    ):
        raise TrainingFault("data_changed", f"The offsets in {folder.name} do not fit its ids.")


def _load(path: Path) -> Ids:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except FileNotFoundError as error:
        raise TrainingFault("trainer", f"The file {path.parent.name}/{path.name} is missing.") from error
    except ValueError:  # an empty file cannot be mapped
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
