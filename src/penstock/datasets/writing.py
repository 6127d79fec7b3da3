"""Writes the rows of a version: compressed frames that can be opened one by one, their index, and the facts, in one pass.

Memory holds one frame and the table of ids. A row without an id gets one from its fields; a second row of equal fields gets the
same with `~2` after it, so that ids stay the same as long as the order of equal rows does.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import zstandard

from penstock.base.errors import InvalidInput
from penstock.base.json_text import clean_text
from penstock.datasets.errors import EmptyDataset
from penstock.datasets.id_table import IdTable
from penstock.datasets.rows import MAX_ROW_BYTES, derive_id, encode_row, row_content
from penstock.datasets.types import RowProblem
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow

FRAME_BYTES = 1024 * 1024
FRAME_ROWS = 2000
LEVEL = 3
INDEX_FILE = "rows.index.json"
MAX_SPLITS = 1000
MAX_TAGS = 10_000
MAX_NAMES = 200
"""Names of fields that facts list."""
_ID_PLACE = "id"


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One frame of the file: where it begins, and which row is its first."""

    offset: int
    first_row: int


class RowIndex(msgspec.Struct, frozen=True, kw_only=True):
    """Where the frames of a file of rows are."""

    n_rows: int
    n_bytes: int
    """Of the compressed file."""
    frames: list[Frame]


class RowWriter:
    """Writes rows to `path`; use as a context manager. `add` returns a problem instead of writing a row twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._compress = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress
        self._state = hashlib.sha256()
        self._ids, self._groups = IdTable(), IdTable()
        self._repeats: dict[str, int] = {}
        self._frames: list[Frame] = []
        self._held: list[bytes] = []
        self._held_bytes = self._offset = self.n_rows = 0
        self._fields: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()
        self._n_grouped = 0

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: DatasetRow, place: str = "") -> DatasetRow | RowProblem:
        """Return the row as it was written, with its id; or what is wrong, when its id is there already."""
        try:
            if not row.id:
                row = msgspec.structs.replace(row, id=self._free_id(row))
            line, content = encode_row(row) + b"\n", row_content(row) + b"\n"
        except (UnicodeEncodeError, ValueError, TypeError, OverflowError) as error:
            return RowProblem(
                place=place, message=f"cannot be kept as JSON: {error}", reason="value that cannot be kept"
            )
        if len(line) > MAX_ROW_BYTES:
            return RowProblem(
                place=place,
                message=f"has {len(line):,} bytes, at most {MAX_ROW_BYTES:,} are one row",
                reason="row too large",
            )
        before = self._ids.add(row.id, self.n_rows)
        if before is not None:
            return RowProblem(
                place=place,
                column=_ID_PLACE,
                message=f"the id {row.id!r} was there before, in row {before + 1:,} that was read",
                reason="duplicate id",
            )
        self._state.update(content)
        if self._held and (self._held_bytes + len(line) > FRAME_BYTES or len(self._held) >= FRAME_ROWS):
            self._flush()
        self._held.append(line)
        self._held_bytes += len(line)
        self.n_rows += 1
        self._count(row)
        return row

    def finish(self) -> RowIndex:
        """Write what is held and return the index; raise `EmptyDataset` when there was no row."""
        if not self.n_rows:
            raise EmptyDataset("There is not one row.", hint="A version of a dataset needs at least one.")
        self._flush()
        self._file.flush()
        return RowIndex(n_rows=self.n_rows, n_bytes=self._offset, frames=self._frames)

    def facts(
        self,
        form: DatasetFormat,
        *,
        sources: Iterable[Mapping[str, Any]] = (),
        steps: Iterable[Mapping[str, Any]] = (),
        left_out: Mapping[str, int] | None = None,
        licence: str | None = None,
        description: str = "",
    ) -> DatasetFacts:
        """Return what was written, counted."""
        names = sorted(self._fields, key=lambda name: (-self._fields[name], name))[:MAX_NAMES]
        return DatasetFacts(
            format=form,
            n_rows=self.n_rows,
            rows_digest=f"sha256:{self._state.hexdigest()}",
            fields=[clean_text(name) for name in names],
            splits={name: self._splits[name] for name in sorted(self._splits)},
            n_groups=len(self._groups) if self._n_grouped else None,
            tags={clean_text(name): self._tags[name] for name in sorted(self._tags)[:MAX_NAMES]},
            sources=[dict(each) for each in sources],
            steps=[dict(each) for each in steps],
            left_out=dict(left_out or {}),
            license=licence,
            description=clean_text(description),
        )

    def _free_id(self, row: DatasetRow) -> str:
        base = derive_id(row.fields)
        if self._ids.find(base) is None:
            return base
        number = self._repeats.get(base, 1) + 1
        while self._ids.find(f"{base}~{number}") is not None:
            number += 1
        self._repeats[base] = number
        return f"{base}~{number}"

    def _count(self, row: DatasetRow) -> None:
        for name in row.fields:
            self._fields[name] += 1
        for name in row.metadata:
            if len(self._fields) < MAX_TAGS:
                self._fields[f"metadata.{name}"] += 1
        self._splits[row.split or ""] += 1
        if len(self._splits) > MAX_SPLITS:
            raise InvalidInput(
                f"There are more than {MAX_SPLITS:,} splits; that column tells something else.",
                hint="Map another column: --map split=COLUMN.",
            )
        for tag in row.tags:
            self._tags[tag] += 1
        if len(self._tags) > MAX_TAGS:
            raise InvalidInput(
                f"There are more than {MAX_TAGS:,} tags; that column tells something else.",
                hint="Map another column: --map tags=COLUMN.",
            )
        if row.group is not None:
            self._n_grouped += 1
            self._groups.add(row.group, self.n_rows)

    def _flush(self) -> None:
        if not self._held:
            return
        self._frames.append(Frame(offset=self._offset, first_row=self.n_rows - len(self._held)))
        data = self._compress(b"".join(self._held))
        self._file.write(data)
        self._offset += len(data)
        self._held, self._held_bytes = [], 0


def encode_index(index: RowIndex) -> bytes:
    """Return the index as it is stored beside the rows."""
    return msgspec.json.encode(index)


def source_entry(kind: str, source: str, n_rows: int, n_left_out: int, digest: str | None) -> dict[str, Any]:
    """Return one entry of `DatasetFacts.sources`."""
    entry: dict[str, Any] = {"kind": kind, "source": source, "n_rows": n_rows, "n_left_out": n_left_out}
    return entry if digest is None else {**entry, "digest": digest}


def merge_counts(many: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts by name."""
    total: Counter[str] = Counter()
    for each in many:
        total.update(each)
    return dict(total)
