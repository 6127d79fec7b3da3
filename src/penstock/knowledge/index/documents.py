"""Which row is which passage of which document: four small files beside the vectors.

`documents.jsonl` has a line a document, read when somebody filters; `document_ids.npy`, `document_of.npy` and
`positions.npy` are mapped from disk, so that a million rows open at once and cost no memory of their own.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index.types import IndexDocument, IndexRow, Place, RowSelection

_decoder = msgspec.json.Decoder(IndexDocument)


class DocumentWriter:
    """Takes rows in order and writes the four files at the end; holds eight bytes a row."""

    def __init__(self, folder: Path, documents: Iterable[IndexDocument] | None) -> None:
        """Rows of documents that are not told before get one with id and title alone."""
        self._folder = folder
        self._numbers: dict[str, int] = {}
        self._document_of = array("i")
        self._positions = array("i")
        self._file = (folder / "documents.jsonl").open("wb")
        for document in documents or ():
            self._add(document)

    @property
    def n_documents(self) -> int:
        """Documents so far."""
        return len(self._numbers)

    def add(self, rows: Sequence[IndexRow]) -> None:
        """Add the next rows."""
        for row in rows:
            document, position = row.place
            if document not in self._numbers:
                self._add(IndexDocument(id=document, path="", title=row.title or None))
            self._document_of.append(self._numbers[document])
            self._positions.append(position)

    def finish(self) -> None:
        """Write everything."""
        self._file.close()
        ids = np.array([each.encode() for each in self._numbers] or [b""], dtype="S")
        np.save(self._folder / "document_ids.npy", ids[: len(self._numbers)])
        np.save(self._folder / "document_of.npy", np.frombuffer(self._document_of, dtype=np.int32))
        np.save(self._folder / "positions.npy", np.frombuffer(self._positions, dtype=np.int32))

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def _add(self, document: IndexDocument) -> None:
        if document.id in self._numbers:
            return
        self._numbers[document.id] = len(self._numbers)
        self._file.write(msgspec.json.encode(document) + b"\n")


class Places(Sequence[Place]):
    """Document id and position of every row, looked up as they are asked for."""

    def __init__(
        self, ids: NDArray[np.bytes_], document_of: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> None:
        self.document_of = document_of
        self.positions = positions
        self._ids = ids

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, row: int) -> Place: ...
    @overload
    def __getitem__(self, row: slice) -> list[Place]: ...
    def __getitem__(self, row: int | slice) -> Place | list[Place]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        return bytes(self._ids[self.document_of[row]]).decode(), int(self.positions[row])


class Documents:
    """The documents of an index and the rows they own."""

    def __init__(self, folder: Path, *, check: Callable[[str], None] | None = None) -> None:
        """Raise `OSError` or `ValueError` when a file is missing or does not fit the others.

        `check` raises `DamagedIndex` when the file of that name is not what was written. It is asked before anything
        is selected: which rows a caller may find follows from these files.
        """
        self._path = folder / "documents.jsonl"
        self._check = check
        self.ids: NDArray[np.bytes_] = np.load(folder / "document_ids.npy", mmap_mode="r")
        self.document_of: NDArray[np.int32] = _load(folder / "document_of.npy")
        self.positions: NDArray[np.int32] = _load(folder / "positions.npy")
        if len(self.positions) != len(self.document_of):
            raise ValueError("rows and positions differ in number")
        if len(self.document_of) and int(self.document_of.max()) >= len(self.ids):
            raise ValueError("a row belongs to no document")
        self.places = Places(self.ids, self.document_of, self.positions)

    @cached_property
    def entries(self) -> tuple[IndexDocument, ...]:
        """All documents; read once, about two seconds and one gigabyte a million. May raise `DamagedIndex`."""
        try:
            for name in ("documents.jsonl", "document_ids.npy", "document_of.npy"):
                if self._check is not None:
                    self._check(name)
            entries = tuple(_decoder.decode_lines(self._path.read_bytes()))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise DamagedIndex(f"{self._path.name} of index {self._path.parent.name}: {error}.") from error
        if len(entries) != len(self.ids):
            raise DamagedIndex(f"{len(entries)} documents are described, {len(self.ids)} have an id.")
        return entries

    @cached_property
    def first_rows(self) -> dict[str, tuple[int, int]]:
        """First row and number of rows of every document whose rows stand together, by id."""
        if not len(self.document_of):
            return {}
        changes = np.flatnonzero(np.diff(self.document_of)) + 1
        starts = np.concatenate([[0], changes, [len(self.document_of)]])
        found: dict[str, tuple[int, int]] = {}
        for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            found.setdefault(bytes(self.ids[self.document_of[start]]).decode(), (start, end - start))
        return found

    def select(self, documents: NDArray[np.bool_]) -> RowSelection:
        """Return the rows of the documents that are true."""
        chosen = np.asarray(documents, dtype=np.bool_)
        if chosen.shape != (len(self.ids),):
            raise ValueError(f"{chosen.shape} truth values for {len(self.ids)} documents")
        mask: NDArray[np.bool_] = (
            chosen[self.document_of] if len(self.document_of) else np.zeros(0, dtype=np.bool_)
        )
        return RowSelection(
            mask=mask, count=int(np.count_nonzero(mask)), documents=chosen, document_of=self.document_of
        )

    def count_rows(self) -> list[tuple[str, int]]:
        """Return id and number of rows of every document that has any, in row order."""
        counts = np.bincount(self.document_of, minlength=len(self.ids))
        return [
            (bytes(each).decode(), int(count)) for each, count in zip(self.ids, counts, strict=False) if count
        ]


def checksum_rows(counts: Iterable[tuple[str, int]]) -> str:
    """Return a digest of which documents an index holds with how many passages, whatever their order."""
    state = hashlib.sha256()
    for document, count in sorted(counts):
        if count:
            state.update(f"{document} {count}\n".encode())
    return f"sha256:{state.hexdigest()}"


def _load(path: Path) -> NDArray[np.int32]:
    values: NDArray[np.int32] = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype != np.int32 or values.ndim != 1:
        raise ValueError(f"{path.name} holds something else")
    return values
