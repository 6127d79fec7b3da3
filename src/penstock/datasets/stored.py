"""Reads the rows of a stored version: from the first to the last, or from any row on, one frame in memory at a time."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from penstock.datasets.errors import NoDataset
from penstock.datasets.ports import Blobs, KeptVersion
from penstock.datasets.rows import decode_row
from penstock.datasets.writing import INDEX_FILE, RowIndex
from penstock.spec.datasets import ROWS_FILE, DatasetFacts, DatasetRow

_MAX_FRAME_BYTES = 64 * 1024 * 1024
_KEPT_FRAMES = 8
_index_decoder = msgspec.json.Decoder(RowIndex)


class StoredRows:
    """The rows of one version. Opening costs the index alone."""

    def __init__(self, rows: Path, index: RowIndex) -> None:
        self._path = rows
        self._index = index
        self._firsts = [frame.first_row for frame in index.frames]
        self._kept: OrderedDict[int, list[bytes]] = OrderedDict()

    @property
    def n_rows(self) -> int:
        """How many there are."""
        return self._index.n_rows

    def read(self, start: int = 0) -> Iterator[DatasetRow]:
        """Yield the rows from number `start` (from 0) on."""
        number = self._frame_of(start)
        skip = start - self._firsts[number]
        with self._path.open("rb") as file:
            for place in range(number, len(self._firsts)):
                for line in self._lines(file, place)[skip:-1]:
                    yield decode_row(line)
                skip = 0

    def get(self, number: int) -> DatasetRow:
        """Return one row; quick where rows near it were asked for just before."""
        place = self._frame_of(number)
        lines = self._kept.get(place)
        if lines is None:
            with self._path.open("rb") as file:
                lines = self._kept[place] = self._lines(file, place)
            while len(self._kept) > _KEPT_FRAMES:
                self._kept.popitem(last=False)
        return decode_row(lines[number - self._firsts[place]])

    def _frame_of(self, number: int) -> int:
        return max(0, bisect_right(self._firsts, number) - 1)

    def _lines(self, file: BinaryIO, place: int) -> list[bytes]:
        frames = self._index.frames
        begin = frames[place].offset
        end = frames[place + 1].offset if place + 1 < len(frames) else self._index.n_bytes
        file.seek(begin)
        inflate = zstandard.ZstdDecompressor()
        return inflate.decompress(file.read(end - begin), max_output_size=_MAX_FRAME_BYTES).split(b"\n")


def open_rows(version: KeptVersion, blobs: Blobs) -> StoredRows:
    """Return the rows of a version; raise `NoDataset` where it holds none that could be read here."""
    rows, index = version.artefacts.get(ROWS_FILE), version.artefacts.get(INDEX_FILE)
    if rows is None or index is None:
        raise NoDataset(
            f"dataset:{version.name}@{version.number} holds no rows that could be read here.",
            hint="It was registered by other means; `penstock dataset create` makes one with rows.",
        )
    return StoredRows(blobs.local_path(rows), _index_decoder.decode(blobs.local_path(index).read_bytes()))


def read_facts(version: KeptVersion) -> DatasetFacts:
    """Return the facts of a version; raise `NoDataset` where its content are none."""
    try:
        return msgspec.convert(dict(version.content), DatasetFacts)
    except msgspec.ValidationError as error:
        raise NoDataset(
            f"dataset:{version.name}@{version.number} tells no facts of rows: {error}.",
            hint="It was registered by other means; `penstock dataset create` makes one with rows.",
        ) from error
