"""Spans into one Parquet file: gathered in a database file of their own, so that memory stays small, then written at once.

The span store's own connection may touch no other file; this one is opened for the export and knows nothing else.
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


class ParquetFile:
    """Gathers spans and writes them to `path` when it is closed without error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Path(tempfile.mkdtemp(prefix=".penstock-export-", dir=path.parent))
        self._connection = duckdb.connect(
            str(self._folder / "rows.duckdb"), config={"memory_limit": "256MB", "threads": 1}
        )
        columns = ", ".join(f"{name} {kind}" for name, kind, _ in PARQUET_COLUMNS)
        self._connection.execute(f"CREATE TABLE rows ({columns})")

    def write(self, spans: Sequence[Span]) -> None:
        """Add spans."""
        arrays = {
            name: column_array(kind, [value_of(span) for span in spans])
            for name, kind, value_of in PARQUET_COLUMNS
        }
        self._connection.register("incoming", arrays)
        casts = ", ".join(f"{name}::{kind}" for name, kind, _ in PARQUET_COLUMNS)
        self._connection.execute(f"INSERT INTO rows SELECT {casts} FROM incoming")  # noqa: S608 - names of ours
        self._connection.unregister("incoming")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                made = self._folder / "spans.parquet"
                self._connection.execute(
                    "COPY rows TO '" + str(made).replace("'", "''") + "' (FORMAT parquet, COMPRESSION zstd)"
                )
                made.replace(self._path)
        finally:
            self._connection.close()
            shutil.rmtree(self._folder, ignore_errors=True)
