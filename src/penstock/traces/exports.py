"""Spans out of the store, page by page: as JSON lines, as OTLP that replays, as Parquet.

A search for traces gives all spans of each; one for spans gives just these. Memory holds a page at a time, and between
pages everybody else has their turn.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, get_args

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search import Compare
from penstock.spec.spans import Span
from penstock.store.spans.parquet_file import ParquetFile
from penstock.store.spans.port import SpanExport, TraceLists
from penstock.store.spans.types import SpanQuery, TraceQuery, TraceRow
from penstock.telemetry.otlp_out import encode_otlp_json

ExportFormat = Literal["jsonl", "otlp", "parquet"]
FORMATS: tuple[str, ...] = get_args(ExportFormat)
MEDIA_TYPES: dict[str, str] = {
    "jsonl": "application/x-ndjson",
    "otlp": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
PAGE = 200
MAX_SPANS = 1000
"""Spans that are read at once, unless one trace alone has more in a page of its own."""
MAX_BYTES = 16 * 1024 * 1024
"""Text that is read at once, unless a single span has more."""
Key = tuple[str, str]
_CHUNK = 1024 * 1024
_encode = msgspec.json.Encoder(decimal_format="string").encode


class ExportService:
    """Reads what a search finds with everything that belongs to it."""

    def __init__(
        self,
        lists: TraceLists,
        spans: SpanExport,
        hold_folder: Callable[[], AbstractContextManager[Path]] | None = None,
    ) -> None:
        """`hold_folder` gives a folder for files under way, in which nobody clears up meanwhile."""
        self._lists = lists
        self._spans = spans
        self._hold_folder = hold_folder or _hold_temporary

    def read(self, query: TraceQuery | SpanQuery) -> Iterator[list[Span]]:
        """Yield spans with their payloads, in pages; the first page is read when it is asked for."""
        if isinstance(query, SpanQuery):
            yield from self._read_spans(query)
            return
        asked = msgspec.structs.replace(query, limit=PAGE)
        while True:
            page = self._lists.list_traces(asked)
            yield from self._read_traces(page.rows)
            if page.next_cursor is None:
                return
            asked = msgspec.structs.replace(asked, cursor=page.next_cursor)

    def write(self, query: TraceQuery | SpanQuery, form: str) -> Iterator[bytes]:
        """Yield the bytes of the export; raise `InvalidInput` for a format that there is not."""
        if form not in FORMATS:
            raise InvalidInput(f"There is no export as {form!r}.", hint=f"Use {', '.join(FORMATS)}.")
        pages = self.read(query)
        if form == "parquet":
            return _parquet(pages, self._hold_folder)
        return _lines(pages, is_otlp=form == "otlp")

    def _read_spans(self, query: SpanQuery) -> Iterator[list[Span]]:
        asked = msgspec.structs.replace(query, limit=PAGE)
        while True:
            page = self._lists.list_spans(asked)
            if page.rows:
                keys = [(row.trace_id, row.span_id) for row in page.rows]
                yield from self._read_groups(self._spans.weigh_spans(keys))
            if page.next_cursor is None:
                return
            asked = msgspec.structs.replace(asked, cursor=page.next_cursor)

    def _read_traces(self, rows: list[TraceRow]) -> Iterator[list[Span]]:
        waiting: list[str] = []
        n_spans = 0
        for row in rows:
            if row.n_spans > MAX_SPANS:
                where = Compare(field="trace", operator="=", value=row.trace_id)
                yield from self._read_spans(SpanQuery(where=where, order="oldest"))
                continue
            if waiting and n_spans + row.n_spans > MAX_SPANS:
                yield from self._read_groups(self._spans.weigh_traces(waiting))
                waiting, n_spans = [], 0
            waiting.append(row.trace_id)
            n_spans += row.n_spans
        if waiting:
            yield from self._read_groups(self._spans.weigh_traces(waiting))

    def _read_groups(self, weighed: Iterable[tuple[str, str, int]]) -> Iterator[list[Span]]:
        """Yield the spans in groups of about `MAX_BYTES`."""
        keys: list[Key] = []
        n_bytes = 0
        for trace_id, span_id, size in weighed:
            if keys and n_bytes + size > MAX_BYTES:
                yield self._spans.read_spans(keys)
                keys, n_bytes = [], 0
            keys.append((trace_id, span_id))
            n_bytes += size
        if keys:
            yield self._spans.read_spans(keys)


@contextmanager
def _hold_temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _lines(pages: Iterable[list[Span]], *, is_otlp: bool) -> Iterator[bytes]:
    for spans in pages:
        if spans:
            yield (
                encode_otlp_json(spans) + b"\n"
                if is_otlp
                else b"".join(_encode(span) + b"\n" for span in spans)
            )


def _parquet(
    pages: Iterable[list[Span]], hold_folder: Callable[[], AbstractContextManager[Path]]
) -> Iterator[bytes]:
    with hold_folder() as held, tempfile.TemporaryDirectory(prefix="export-", dir=held) as folder:
        path = Path(folder) / "spans.parquet"
        with ParquetFile(path) as file:
            for spans in pages:
                if spans:
                    file.write(spans)
        with path.open("rb") as made:
            while chunk := made.read(_CHUNK):
                yield chunk
