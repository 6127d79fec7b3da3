"""The files that a trainer maps into memory: arrays that grow row by row, and the prompts of samples.

supervised  `ids.npy` (int32, all sequences joined), `mask.npy` (uint8), `offsets.npy` (int64, one more than sequences)
preference  `prompt_ids.npy`, `chosen_ids.npy`, `rejected_ids.npy`, each with its `…_offsets.npy`
kto         `prompt_…`, `completion_…`, `labels.npy` (uint8)
all         `rows.npy` (int64): the number in the dataset of the row that each sequence is of
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.digest import digest_file
from penstock.tuning.rows.chunks import Chunk
from penstock.tuning.rows.types import RowKind

COLUMNS: Mapping[RowKind, tuple[str, ...]] = {
    "supervised": ("",),
    "preference": ("prompt_", "chosen_", "rejected_"),
    "kto": ("prompt_", "completion_"),
}
"""What stands before `ids` and `offsets` in the names of files."""


class GrowingArray:
    """One `.npy` file that is written piece by piece; whole only after `close`."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._n = 0
        self._write_header()

    def append(self, values: NDArray[Any]) -> None:
        """Write more values behind those that are there."""
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self._n += len(values)

    def close(self) -> None:
        """Write how many there are, and let go of the file."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # numpy leaves room in a header for a longer first axis, so that it can be written again in place
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class RowFiles:
    """The files of one folder, as they grow."""

    def __init__(self, folder: Path, kind: RowKind) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._names = COLUMNS[kind]
        self._ids = [GrowingArray(folder / f"{name}ids.npy", "<i4") for name in self._names]
        self._offsets = [GrowingArray(folder / f"{name}offsets.npy", "<i8") for name in self._names]
        self._ends = [0] * len(self._names)
        for offsets in self._offsets:
            offsets.append(np.zeros(1, np.int64))
        self._mask = GrowingArray(folder / "mask.npy", "|u1") if kind == "supervised" else None
        self._labels = GrowingArray(folder / "labels.npy", "|u1") if kind == "kto" else None
        self._rows = GrowingArray(folder / "rows.npy", "<i8")

    def add(self, chunk: Chunk) -> None:
        """Write the sequences of a chunk."""
        for number, (ids, sizes) in enumerate(zip(chunk.columns, chunk.sizes, strict=True)):
            self._ids[number].append(ids)
            self._offsets[number].append(self._ends[number] + np.cumsum(sizes))
            self._ends[number] += int(sizes.sum())
        if self._mask is not None:
            self._mask.append(chunk.mask)
        if self._labels is not None:
            self._labels.append(chunk.labels)
        self._rows.append(chunk.rows)

    def close(self) -> str:
        """Finish all files and return the digest over them."""
        for array in (*self._ids, *self._offsets, self._mask, self._labels, self._rows):
            if array is not None:
                array.close()
        state = hashlib.sha256()
        for path in sorted(self.folder.glob("*.npy")):
            state.update(f"{path.name} {digest_file(path)}\n".encode())
        return f"sha256:{state.hexdigest()}"


def write_samples(path: Path, samples: list[dict[str, Any]]) -> None:
    """Write prompts as ids with the reference's text and the row's number."""
    path.write_bytes(msgspec.json.encode(samples))
