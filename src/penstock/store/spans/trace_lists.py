"""Lists of traces and of spans in DuckDB: pages, counts, and the values that a field has. See the port `TraceLists`."""

from typing import Any

from penstock.spec.search_fields import ATTRIBUTE, BY_NAME, METADATA, SCORE, VERSION
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.field_sql import SPAN_SQL, sum_sql
from penstock.store.spans.listing import Listing, count_rows, read_page
from penstock.store.spans.queries import ROW_COLUMNS, trace_row
from penstock.store.spans.rows import plain_decimal
from penstock.store.spans.text_known import KnownTexts
from penstock.store.spans.types import Count, SpanPage, SpanQuery, SpanRow, TracePage, TraceQuery

MONEY = "DECIMAL(38,18)"
TRACES = Listing(
    subject="trace",
    table="traces",
    orders={
        "newest": ("traces.start_ns", "BIGINT"),
        "oldest": ("traces.start_ns", "BIGINT"),
        "slowest": ("traces.duration_ms", "DOUBLE"),
        "dearest": ("traces.cost_usd", MONEY),
        "longest": (sum_sql(("input_tokens", "output_tokens")).format(row="traces"), "BIGINT"),
    },
    ids=(("trace_id", "UUID"),),
)
SPANS = Listing(
    subject="span",
    table="spans",
    orders={
        "newest": ("spans.start_ns", "BIGINT"),
        "oldest": ("spans.start_ns", "BIGINT"),
        "slowest": ("(spans.end_ns - spans.start_ns)", "BIGINT"),
        "dearest": ("spans.cost_usd", MONEY),
        "longest": (sum_sql(TOKEN_CLASSES).format(row="spans"), "BIGINT"),
    },
    ids=(("trace_id", "UUID"), ("span_id", "UBIGINT")),
)
_SPAN_FIELDS = SpanRow.__struct_fields__
_SPAN_EXPRESSIONS = {
    "trace_id": "replace(spans.trace_id::VARCHAR, '-', '')",
    "duration_ms": "(spans.end_ns - spans.start_ns) / 1e6",
    "input_tokens": sum_sql(INPUT_CLASSES).format(row="spans"),
    "output_tokens": sum_sql(OUTPUT_CLASSES).format(row="spans"),
}
_SPAN_COLUMNS = ", ".join(_SPAN_EXPRESSIONS.get(name, f"spans.{name}") for name in _SPAN_FIELDS)
N_SAMPLED = 100_000
"""How many of the newest spans tell which values a field has."""
N_SAMPLED_JSON = 5_000


class DuckDBTraceLists:
    """Lists of what a `DuckDBFile` holds."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def list_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of traces; raise `InvalidCursor` for a foreign cursor."""
        with self._file.cursor() as cursor:
            return list_traces(cursor, query, self._file.known_texts)

    def list_spans(self, query: SpanQuery) -> SpanPage:
        """Return one page of spans; raise `InvalidCursor` for a foreign cursor."""
        with self._file.cursor() as cursor:
            rows, following = read_page(cursor, SPANS, _SPAN_COLUMNS, query, self._file.known_texts)
        return SpanPage(rows=[_span_row(row) for row in rows], next_cursor=following)

    def count(self, query: TraceQuery | SpanQuery) -> Count:
        """Return how many there are, counting up to a bound."""
        with self._file.cursor() as cursor:
            listing = TRACES if isinstance(query, TraceQuery) else SPANS
            return count_rows(cursor, listing, query, self._file.known_texts)

    def complete(self, field: str, start: str, *, limit: int) -> list[tuple[str, int]]:
        """Return the values of `field` that begin with `start`, and how often the newest spans have each."""
        with self._file.cursor() as cursor:
            return _complete(cursor, field, start, limit)


def list_traces(cursor: Any, query: TraceQuery, known: KnownTexts) -> TracePage:
    """Return one page of traces."""
    rows, following = read_page(cursor, TRACES, ROW_COLUMNS, query, known)
    return TracePage(rows=[trace_row(row) for row in rows], next_cursor=following)


def _span_row(row: tuple[Any, ...]) -> SpanRow:
    fields = dict(zip(_SPAN_FIELDS, row, strict=True))
    fields["span_id"] = f"{fields['span_id']:016x}"
    fields["parent_id"] = None if fields["parent_id"] is None else f"{fields['parent_id']:016x}"
    fields["cost_usd"] = plain_decimal(fields["cost_usd"])
    return SpanRow(**fields)


def _complete(cursor: Any, field: str, start: str, limit: int) -> list[tuple[str, int]]:
    newest = "WHERE rowid > (SELECT max(rowid) FROM spans) - ?"
    bound: list[Any] = [N_SAMPLED]
    if field == SCORE:
        source, bound = "SELECT name AS v FROM scores", []
    elif field.startswith(SCORE):
        source, bound = "SELECT label AS v FROM scores WHERE name = ?", [field.removeprefix(SCORE)]
    elif field in {ATTRIBUTE, VERSION}:
        column = "attributes" if field == ATTRIBUTE else "versions"
        source, bound = f"SELECT unnest(json_keys({column})) AS v FROM spans {newest}", [N_SAMPLED_JSON]  # noqa: S608 - names of ours
    elif field == METADATA:
        names = f"SELECT unnest(json_keys(attributes)) AS k FROM spans {newest}"  # noqa: S608 - names of ours
        source = (
            f"SELECT substr(k, {len(METADATA) + 1}) AS v FROM ({names}) WHERE starts_with(k, '{METADATA}')"  # noqa: S608 - names of ours
        )
        bound = [N_SAMPLED_JSON]
    elif field.startswith((ATTRIBUTE, METADATA, VERSION)):
        prefix, column = (VERSION, "versions") if field.startswith(VERSION) else (ATTRIBUTE, "attributes")
        pointer = "/" + field.removeprefix(prefix).replace("~", "~0").replace("/", "~1")
        source = f"SELECT json_extract_string({column}, ?) AS v FROM spans {newest}"  # noqa: S608 - names of ours
        bound = [pointer, N_SAMPLED_JSON]
    else:
        known = BY_NAME.get(field)
        if known is None or known.type not in {"text", "choice", "tag"} or known.name not in SPAN_SQL:
            return []
        column = SPAN_SQL[known.name].format(row="spans")
        if known.type == "tag":
            column = f"unnest(string_split({column}, chr(10)))"
        source = f"SELECT {column} AS v FROM spans {newest}"  # noqa: S608 - names of ours
    found: list[tuple[str, int]] = cursor.execute(
        f"SELECT v, count(*) AS n FROM ({source}) WHERE v <> '' AND starts_with(lower(v), lower(?))"  # noqa: S608 - names of ours
        " GROUP BY v ORDER BY n DESC, v LIMIT ?",
        [*bound, start, limit],
    ).fetchall()
    return found
