"""Spans into one Parquet file: written in parts that fit into memory, which are then made one file.

The span store's own connection may touch no other file; this one is opened for the export and knows nothing else. The
surprise: the engine moves 2,048 rows at a time whatever they weigh, so rows that lie in a table of its own, with payloads of
some hundred kilobytes, do not fit into any bound; parts of few rows do.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import msgspec

from penstock.spec.spans import Span
from penstock.spec.usage import TOKEN_CLASSES
from penstock.store.spans.rows import column_array, money_text

_encode = msgspec.json.Encoder(decimal_format="string").encode


def _json(value: Any) -> str | None:
    return None if value in (None, [], {}) else _encode(value).decode()


def _payload(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()


def _same(name: str) -> Callable[[Span], Any]:
    return lambda span: getattr(span, name)


def _count(name: str) -> Callable[[Span], Any]:
    return lambda span: None if span.usage is None else getattr(span.usage, name)


PARQUET_COLUMNS: tuple[tuple[str, str, Callable[[Span], Any]], ...] = (
    *((name, "VARCHAR", _same(name)) for name in ("trace_id", "span_id", "parent_id", "name", "kind")),
    *((name, "BIGINT", _same(name)) for name in ("start_ns", "end_ns")),
    ("duration_ms", "DOUBLE", _same("duration_ms")),
    *(
        (name, "VARCHAR", _same(name))
        for name in (
            *(
                "status",
                "status_message",
                "error_code",
                "project",
                "service",
                "environment",
                "release",
                "scope",
            ),
            *(
                "key_id",
                "user_id",
                "session_id",
                "route",
                "provider",
                "model",
                "agent",
                "tool",
                "prompt",
                "cache",
            ),
        )
    ),
    *((name, "BIGINT", _same(name)) for name in ("http_status", "attempts")),
    ("streamed", "BOOLEAN", _same("streamed")),
    *((name, "BIGINT", _count(name)) for name in TOKEN_CLASSES),
    ("cost_usd", "DECIMAL(38,18)", lambda span: money_text(span.cost_usd)),
    ("cost_source", "VARCHAR", _same("cost_source")),
    *((name, "DOUBLE", _same(name)) for name in ("ttft_ms", "overhead_ms")),
    *(
        (name, "VARCHAR", lambda span, name=name: _json(getattr(span, name)))
        for name in ("tags", "versions", "attributes", "events", "links", "scores")
    ),
    *(
        (name, "VARCHAR", lambda span, name=name: _payload(getattr(span, name)))
        for name in ("input", "output")
    ),
    ("payload_dropped", "BOOLEAN", _same("payload_dropped")),
)
"""Columns of the file: name, type, and where the value comes from. Nested values are JSON text."""


PART_ROWS = 8192
PART_BYTES = 16 * 1024 * 1024
"""Text in a part and in a row group of the file, unless a single span has more."""


class ParquetFile:
    """Gathers spans and writes them, in their order, to `path` when it is closed without error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Path(tempfile.mkdtemp(prefix=".penstock-export-", dir=path.parent))
        # in order of coming with one thread, though nothing is kept back to put it in order
        self._connection = duckdb.connect(
            config={"memory_limit": "256MB", "threads": 1, "preserve_insertion_order": False}
        )
        self._rows: list[tuple[Any, ...]] = []
        self._n_bytes = 0
        self._parts: list[Path] = []

    def write(self, spans: Sequence[Span]) -> None:
        """Add spans."""
        for span in spans:
            row = tuple(value_of(span) for _, _, value_of in PARQUET_COLUMNS)
            n_bytes = sum(len(value) for value in row if isinstance(value, str))
            if self._rows and (len(self._rows) >= PART_ROWS or self._n_bytes + n_bytes > PART_BYTES):
                self._write_part()
            self._rows.append(row)
            self._n_bytes += n_bytes

    def _write_part(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in PARQUET_COLUMNS)
        arrays = {
            name: column_array(kind, list(values))
            for (name, kind, _), values in zip(PARQUET_COLUMNS, columns, strict=True)
        }
        self._connection.register("incoming", arrays)
        casts = ", ".join(f"{name}::{kind} AS {name}" for name, kind, _ in PARQUET_COLUMNS)
        part = self._folder / f"part-{len(self._parts)}.parquet"
        self._copy(f"SELECT {casts} FROM incoming", part, "COMPRESSION lz4_raw")  # noqa: S608 - names of ours
        self._connection.unregister("incoming")
        self._rows, self._n_bytes = [], 0
        self._parts.append(part)

    def _copy(self, query: str, path: Path, options: str) -> None:
        self._connection.execute(
            f"COPY ({query}) TO {_quoted(path)} (FORMAT parquet, ROW_GROUP_SIZE_BYTES {PART_BYTES}, {options})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write_part()
                made = self._folder / "spans.parquet"
                parts = ", ".join(map(_quoted, self._parts))
                self._copy(f"SELECT * FROM read_parquet([{parts}])", made, "COMPRESSION zstd")  # noqa: S608 - paths of ours
                made.replace(self._path)
        finally:
            self._connection.close()
            shutil.rmtree(self._folder, ignore_errors=True)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
