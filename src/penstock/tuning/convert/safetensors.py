"""Reads and writes safetensors files: a JSON header with dtypes, shapes and offsets, then raw little-endian data.

Format: https://github.com/huggingface/safetensors#format. Files are memory-mapped, tensors are views until
they are cast. Never reads pickles. The header is checked whole before a tensor is handed out.
"""

import json
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.tuning.errors import PickleRefused, UnreadableModel, UnsupportedModel

_MAX_HEADER_BYTES = 100 * 1024 * 1024  # the limit of the reference implementation
_DTYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("<f8", 8),
    "F32": ("<f4", 4),
    "F16": ("<f2", 2),
    "BF16": ("<u2", 2),  # widened to float32 on reading
    "I64": ("<i8", 8),
    "I32": ("<i4", 4),
    "U8": ("u1", 1),
    "BOOL": ("u1", 1),
}

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
NO_DTYPES: Mapping[str, str] = {}


class SafetensorsFile:
    """One open file; `read(name)` returns a float32 (or integer) array. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UnreadableModel(f"Cannot read {path.name}: {error}.") from error
        try:
            self._entries, self._start = _read_header(path.name, self._map)
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors in the file."""
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the size of the tensor."""
        return tuple(self._entries[name]["shape"])

    def dtype(self, name: str) -> str:
        """Return how the tensor is stored, such as BF16."""
        return str(self._entries[name]["dtype"])

    def read(self, name: str) -> NDArray[Any]:
        """Return a copy of the tensor: floats of any width as float32, integers as they are."""
        entry = self._entries[name]
        dtype, width = _DTYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(self._map, dtype=dtype, count=(end - begin) // width, offset=self._start + begin)
        if entry["dtype"] == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"].startswith("F"):
            flat = flat.astype(np.float32)
        else:
            flat = flat.copy()
        return flat.reshape(entry["shape"])


def _read_header(name: str, data: mmap.mmap) -> tuple[dict[str, dict[str, Any]], int]:
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= size <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise UnreadableModel(f"{name} is not a safetensors file: its header length is {size}.")
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError as error:
        raise UnreadableModel(f"{name} is not a safetensors file: its header is not JSON.") from error
    if not isinstance(header, dict):
        raise UnreadableModel(f"{name} is not a safetensors file: its header is not an object.")
    header.pop("__metadata__", None)
    for tensor, entry in header.items():
        _check_entry(name, tensor, entry, len(data) - 8 - size)
    _check_order(name, header, len(data) - 8 - size)
    return header, 8 + size


def _check_order(name: str, header: Mapping[str, dict[str, Any]], size_bytes: int) -> None:
    """Refuse tensors that share bytes, and bytes that belong to none, as the reference implementation does."""
    position = 0
    for tensor, entry in sorted(header.items(), key=lambda each: tuple(each[1]["data_offsets"])):
        begin, end = entry["data_offsets"]
        if begin != position:
            where = "overlaps the tensor before it" if begin < position else "begins behind a gap"
            raise UnreadableModel(f"{name}: tensor {tensor!r} {where}.")
        position = end
    if position != size_bytes:
        raise UnreadableModel(f"{name}: {size_bytes - position} bytes at its end belong to no tensor.")


def _check_entry(name: str, tensor: str, entry: Any, size_bytes: int) -> None:
    try:
        width = _DTYPES[entry["dtype"]][1]
        begin, end = entry["data_offsets"]
        numbers = [*entry["shape"], begin, end]
        if not isinstance(entry["shape"], list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("sizes and offsets must be whole numbers from 0")
        fits = 0 <= begin <= end <= size_bytes and end - begin == math.prod(entry["shape"]) * width
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(
            f"{name}: tensor {tensor!r} has an entry that cannot be read: {error}."
        ) from error
    if not fits:
        raise UnreadableModel(f"{name}: tensor {tensor!r} lies outside the file or has the wrong size.")


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a folder: one, or the shards that its index names.

    Raises `UnreadableModel` when there are none, `PickleRefused` when there are pickles instead.
    """
    single = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if index.is_file():
        try:
            listed = json.loads(index.read_text())["weight_map"].values()
            return tuple(folder / Path(name).name for name in sorted(set(listed)))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UnreadableModel(f"{index.name} cannot be read: {error!r}.") from error
    refuse_pickles(str(folder), (path.name for path in folder.iterdir()) if folder.is_dir() else ())
    raise UnreadableModel(f"{folder} holds no model.safetensors.", hint="Only safetensors weights are read.")


class Weights(Mapping[str, NDArray[Any]]):
    """All tensors of a model folder by name, from one file or several shards, read when asked for."""

    def __init__(self, folder: Path) -> None:
        files = find_weights(folder)
        self.files = files
        self._open = [SafetensorsFile(path) for path in files]
        self._where = {name: file for file in self._open for name in file.names}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._where[name].read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def dtypes(self) -> dict[str, str]:
        """Return how each tensor is stored, such as BF16."""
        return {name: file.dtype(name) for name, file in self._where.items()}

    def close(self) -> None:
        """Close the files; arrays already read stay valid."""
        for file in self._open:
            file.__exit__(None, None, None)


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], *, dtypes: Mapping[str, str] = NO_DTYPES
) -> None:
    """Write tensors as one file: as float32, or at the width that `dtypes` names for them (F32, F16, BF16).

    A mapping that reads when asked for (such as `Weights`) is written tensor by tensor, each read twice.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers refuses a file without
    position = 0
    for name, tensor in tensors.items():
        dtype = dtypes.get(name, "F32")
        size = tensor.size * _DTYPES[dtype][1]
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            file.write(_as_bytes(tensor, header[name]["dtype"]))


def _as_bytes(tensor: NDArray[Any], dtype: str) -> bytes:
    values = np.ascontiguousarray(tensor, dtype="<f4")
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    if dtype != "BF16":
        raise UnsupportedModel(f"Tensors are not written as {dtype}; known: F32, F16, BF16.")
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def find_pickles(names: Iterable[str]) -> list[str]:
    """Return the names that are pickled checkpoints: programs, not weights."""
    return sorted(
        name
        for name in names
        if Path(name).suffix.lower() in PICKLES and not name.endswith("training_args.bin")
    )


def refuse_pickles(where: str, names: Iterable[str]) -> None:
    """Raise `PickleRefused` when weights are there as pickles."""
    if found := find_pickles(names):
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise PickleRefused(
            f"{where} holds its weights as pickles ({shown}); loading one runs whatever program is in it.",
            hint="Convert them where you trust their author: load with transformers and save_pretrained, "
            "which writes safetensors.",
            files=found[:8],
        )
