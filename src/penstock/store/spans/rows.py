"""Spans as columns: one table of column and SQL type, turned into NumPy arrays for DuckDB.

DuckDB reads a dictionary of arrays at about 20 µs a row; `executemany` takes a hundred times that.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import INPUT_CLASSES, LEAST_COST_EXPONENT, OUTPUT_CLASSES, TOKEN_CLASSES, Usage
from penstock.store.spans.excerpts import PayloadReader
from penstock.store.spans.json_text import joined_lines, json_texts
from penstock.store.spans.ledger import CACHE_STATE, RequestMarks, is_billed, mark_request
from penstock.store.spans.summaries import SpanFacts

_MAX_INT = 2**63 - 1
_MAX_COUNT = 2**53
_DTYPES = {"BIGINT": np.int64, "UBIGINT": np.uint64, "BOOLEAN": np.bool_}
_COUNTS = frozenset({*TOKEN_CLASSES, "http_status", "attempts", "passages"})
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_is_trace_id = re.compile("[0-9a-f]{32}").fullmatch
_is_span_id = re.compile("[0-9a-f]{16}").fullmatch
_HEX_DIGITS = b"0123456789abcdef"
_NO_USAGE = (None,) * (len(TOKEN_CLASSES) + 1)
_MAX_DIGITS = 18
_PREPARED = (
    "span_id",
    "parent_id",
    "completeness",
    "cost_usd",
    "preview",
    "search_text",
    "passages",
    "cache",
)
_prepared_cells = attrgetter(*_PREPARED)
_JSON = ("versions", "attributes", "events", "links", "scores")
_token_counts = attrgetter(*TOKEN_CLASSES)
_usage_cells: Callable[[Usage], tuple[Any, ...]] = attrgetter(*TOKEN_CLASSES, "estimated")
_USAGE = (*TOKEN_CLASSES, "usage_estimated")
_AT_ONCE = 256
_N_INPUT = len(INPUT_CLASSES)
_NO_OTHER_INPUT, _NO_OTHER_OUTPUT = (None,) * (len(INPUT_CLASSES) - 1), (None,) * (len(OUTPUT_CLASSES) - 1)
_RETRIEVING = frozenset({"retrieval", "rerank"})
N_HITS = "retrieval.n_hits"
RECOVERED = "penstock.recovered"
"""Attribute of spans that were put together from the journal of a worker that died."""
SEARCH_PARTS = "\x1e"
"""Stands between name, input and output in `search_text`, so that no phrase reaches across; older rows have newlines."""
ENDED_BEFORE = "penstock.ended_before_start"
"""Attribute of a span whose end was told as before its start: the end that was told. How long it took is unknown."""
OWN = 16
"""What a span of our own processes has ahead of any that was sent to us."""


Key = tuple[str, str]
"""Trace id and span id."""


class PreparedSpan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A span with everything the tables need worked out once."""

    span: Span
    key: Key
    span_id: int
    parent_id: int | None
    completeness: int
    cost_usd: Decimal | None
    preview: str | None
    search_text: str
    input: str | None
    output: str | None
    passages: int | None
    cache: str | None
    marks: RequestMarks | None
    """Set for spans that the ledger keeps."""


class Column(NamedTuple):
    """A column of a table and its SQL type."""

    name: str
    sql_type: str


def _columns(sql_type: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, sql_type) for name in names)


SPAN_COLUMNS: tuple[Column, ...] = (
    Column("trace_id", "UUID"),
    *_columns("UBIGINT", "span_id", "parent_id"),
    *_columns("VARCHAR", "name", "kind"),
    *_columns("BIGINT", "start_ns", "end_ns"),
    *_columns("VARCHAR", "status", "status_message", "error_code", "project", "service"),
    *_columns("VARCHAR", "key_id", "user_id", "session_id", "route", "provider", "model"),
    Column("http_status", "BIGINT"),
    Column("streamed", "BOOLEAN"),
    Column("attempts", "BIGINT"),
    *_columns("BIGINT", *TOKEN_CLASSES),
    Column("usage_estimated", "BOOLEAN"),
    Column("cost_usd", "DECIMAL(38,18)"),
    Column("cost_source", "VARCHAR"),
    *_columns("DOUBLE", "ttft_ms", "overhead_ms"),
    *_columns("VARCHAR", "versions", "attributes", "events"),
    Column("payload_dropped", "BOOLEAN"),
    Column("completeness", "BIGINT"),
    *_columns("VARCHAR", "preview", "search_text"),
    *_columns("VARCHAR", "environment", "release", "scope", "agent", "tool", "prompt", "cache"),
    *_columns("VARCHAR", "tags", "links", "scores"),
    *_columns("BIGINT", "n_links", "passages"),
)
"""Tables of older stores have the same columns in another order: always name them. `tags` is `joined_lines`."""

PAYLOAD_COLUMNS: tuple[Column, ...] = (
    Column("trace_id", "UUID"),
    Column("span_id", "UBIGINT"),
    Column("start_ns", "BIGINT"),
    *_columns("VARCHAR", "input", "output"),
)


def find_fault(span: Span) -> str | None:
    """Return why `span` cannot be stored, or None when it can."""
    if not _is_trace_id(span.trace_id) or span.trace_id == _NO_TRACE:
        return "trace_id is not 32 lower-case hex characters, or all zero"
    if not _is_span_id(span.span_id) or span.span_id == _NO_SPAN:
        return "span_id is not 16 lower-case hex characters, or all zero"
    if span.parent_id is not None and (not _is_span_id(span.parent_id) or span.parent_id == _NO_SPAN):
        return "parent_id is not 16 lower-case hex characters"
    if not 0 <= span.start_ns <= _MAX_INT or not (span.end_ns is None or 0 <= span.end_ns <= _MAX_INT):
        return "its times are not nanoseconds since the epoch"
    counts = (span.attempts, span.http_status)
    if span.usage is not None:
        counts += _token_counts(span.usage)
    known = [count for count in counts if count is not None]
    if known and (min(known) < 0 or max(known) >= _MAX_COUNT):
        return "a count is negative or beyond 2^53"
    return None


def are_sound(spans: Sequence[Span]) -> bool:
    """Return whether `find_fault` finds nothing in any of `spans`: a tenth of the time of asking it of each."""
    trace_ids = {span.trace_id for span in spans}
    span_ids = [span.span_id for span in spans]
    span_ids += [span.parent_id for span in spans if span.parent_id is not None]
    starts = [span.start_ns for span in spans]
    ends = [span.end_ns for span in spans if span.end_ns is not None]
    counts = [span.attempts for span in spans] + [span.http_status for span in spans]
    usages = [span.usage for span in spans if span.usage is not None]
    known = list(filter(None, chain(counts, *map(_token_counts, usages))))  # 0 is sound too
    return (
        _are_hex(trace_ids, 32)
        and _are_hex(span_ids, 16)
        and _NO_TRACE not in trace_ids
        and _NO_SPAN not in span_ids
        and 0 <= min(starts, default=0) <= max(starts, default=0) <= _MAX_INT
        and 0 <= min(ends, default=0) <= max(ends, default=0) <= _MAX_INT
        and 0 <= min(known, default=0) <= max(known, default=0) < _MAX_COUNT
    )


def _are_hex(texts: Collection[str], size: int) -> bool:
    """Return whether each of `texts` is `size` lower-case hex characters."""
    joined = "".join(texts)
    is_sized = set(map(len, texts)) <= {size}
    return is_sized and joined.isascii() and not joined.encode().translate(None, _HEX_DIGITS)


def is_hex(text: str, size: int) -> bool:
    """Return whether `text` is `size` lower-case hex characters and not all zeros."""
    return len(text) == size and not text.strip("0123456789abcdef") and text.strip("0") != ""


def completeness_of(span: Span) -> int:
    """Return how much is known of a span; of two records of one span the higher one is kept.

    What was put together from a dead worker's journal is worth less than any record of its own, and what somebody
    sent under the ids of a span of ours is worth less than that.
    """
    attributes = span.attributes
    own = 0 if FOREIGN_MARK in attributes else OWN
    if RECOVERED in attributes:
        return own
    return (
        own
        + (8 if span.end_ns is not None else 0)
        + (4 if span.status != "unset" else 0)
        + (2 if span.usage is not None else 0)
        + (1 if span.input is not None or span.output is not None else 0)
    )


def prepare_span(span: Span, reader: PayloadReader | None = None) -> PreparedSpan:
    """Work out what the tables hold of one span that has no fault; `reader` remembers payloads that come again."""
    reader = reader or PayloadReader()
    if span.end_ns is not None and span.end_ns < span.start_ns:  # two clocks, or one that was put back
        marked = {**span.attributes, ENDED_BEFORE: span.end_ns}
        span = msgspec.structs.replace(span, end_ns=None, attributes=marked)
    given, answer = reader.read(span.input), reader.read(span.output)
    cost = span.cost_usd
    return PreparedSpan(
        span=span,
        key=(span.trace_id, span.span_id),
        span_id=int(span.span_id, 16),
        parent_id=None if span.parent_id is None else int(span.parent_id, 16),
        completeness=completeness_of(span),
        cost_usd=cost if cost is not None and _fits_money(cost) else None,
        preview=reader.preview(given),
        search_text=f"{span.name}{SEARCH_PARTS}{given.excerpt}{SEARCH_PARTS}{answer.excerpt}",
        input=given.text,
        output=answer.text,
        passages=count_passages(span, answer.value) if span.kind in _RETRIEVING else None,
        cache=span.cache or cache_state_of(span),
        marks=mark_request(given.value, span.attributes) if is_billed(span) else None,
    )


def span_arrays(rows: Sequence[PreparedSpan]) -> dict[str, Any]:
    """Return the rows as one array per column of the span table, ready for `register`; what nobody says is left out."""
    spans = [row.span for row in rows]
    cells: dict[str, Sequence[Any]] = _columns_of(spans, msgspec.structs.astuple, Span.__struct_fields__)
    cells.update(usage_columns(cells["usage"]))
    cells.update(_columns_of(rows, _prepared_cells, _PREPARED))
    cells["cost_usd"] = [money_text(cost) for cost in cells["cost_usd"]]
    cells["n_links"] = [len(links) for links in cells["links"]]
    cells["tags"] = [joined_lines(tags) if tags else "" for tags in cells["tags"]]
    for name in _JSON:
        cells[name] = json_texts(cells[name])
    return {
        name: count_array(cells[name]) if name in _COUNTS else column_array(sql_type, cells[name])
        for name, sql_type in SPAN_COLUMNS
        if any_told(cells[name])
    }


def _columns_of(
    items: Sequence[Any], cells_of: Callable[[Any], tuple[Any, ...]], names: Sequence[str]
) -> dict[str, Sequence[Any]]:
    """Return what `cells_of` tells of each item by name, a few items at a time: thousands at once fall out of the cache."""
    columns: list[list[Any]] = [[] for _ in names]
    for first in range(0, len(items), _AT_ONCE):
        rows = map(cells_of, items[first : first + _AT_ONCE])
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
    return dict(zip(names, columns, strict=True))


def usage_columns(usages: Sequence[Usage | None]) -> dict[str, Sequence[Any]]:
    """Return the tokens by class, and `usage_estimated`."""
    return _columns_of(usages, _cells_of_usage, _USAGE)


def _cells_of_usage(usage: Usage | None) -> tuple[Any, ...]:
    return _NO_USAGE if usage is None else _usage_cells(usage)


def any_told(values: Sequence[Any]) -> bool:
    """Return whether any of `values` is known."""
    if not values or values[0] is not None:
        return bool(values)
    return list(values) != [None] * len(values)  # a tenth of the time of looking at each


def count_passages(span: Span, answer: Any) -> int | None:
    """Return how many documents a retrieval found, or None when it does not say."""
    told = span.attributes.get(N_HITS)
    if isinstance(told, int) and 0 <= told < 2**53:
        return told
    found = answer.get("documents") if isinstance(answer, dict) else answer
    return len(found) if isinstance(found, list) else None


def cache_state_of(span: Span) -> str | None:
    """Return what the gateway noted of its cache on a span of before spans had a field for it."""
    state = span.attributes.get(CACHE_STATE)
    return state if isinstance(state, str) else None


def payload_arrays(rows: Sequence[PreparedSpan]) -> dict[str, Any]:
    """Return the rows as one array per column of the payload table."""
    cells: dict[str, list[Any]] = {
        "trace_id": [row.span.trace_id for row in rows],
        "span_id": [row.span_id for row in rows],
        "start_ns": [row.span.start_ns for row in rows],
        "input": [row.input for row in rows],
        "output": [row.output for row in rows],
    }
    return {
        name: column_array(sql_type, cells[name])
        for name, sql_type in PAYLOAD_COLUMNS
        if any_told(cells[name])
    }


def _fits_money(cost: Decimal) -> bool:
    """Return whether an amount fits its column, which has 20 digits before the point and 18 behind it."""
    return cost.is_finite() and (not cost or LEAST_COST_EXPONENT <= cost.adjusted() < _MAX_DIGITS)


def money_text(cost: Decimal | None) -> str | None:
    """Return an amount as the text that DuckDB casts to its column, or None."""
    if not cost:
        return None if cost is None else "0"  # whatever its exponent
    text = str(cost)  # half the time of a format, and the same where it has no exponent
    return f"{cost:f}" if "E" in text else text


def facts_of(row: PreparedSpan) -> SpanFacts:
    """Return what the trace's summary needs of a span, as `FACT_COLUMNS` would read it back."""
    span = row.span
    given, written = (None, None) if span.usage is None else _tokens_of(span.usage)
    return SpanFacts(  # by position: a third of the time, and this runs for every span
        span.trace_id,
        row.span_id,
        row.parent_id,
        span.name,
        span.kind,
        span.start_ns,
        span.end_ns,
        span.status,
        span.error_code,
        span.project,
        span.key_id,
        span.user_id,
        span.session_id,
        span.route,
        span.provider,
        span.model,
        span.ttft_ms,
        given,
        written,
        row.cost_usd,
        row.preview,
        span.environment,
        span.release,
        span.agent,
        row.cache,
        joined_lines(span.tags) if span.tags else "",
        bool(span.scores),
    )


def _tokens_of(usage: Usage) -> tuple[int | None, int | None]:
    """Return `input_tokens` and `output_tokens`: mostly there is one class of each, and nothing to sum."""
    counts = _token_counts(usage)
    given = counts[0] if counts[1:_N_INPUT] == _NO_OTHER_INPUT else usage.input_tokens
    return given, counts[_N_INPUT] if counts[_N_INPUT + 1 :] == _NO_OTHER_OUTPUT else usage.output_tokens


def column_array(sql_type: str, values: Sequence[Any]) -> Any:
    """Return `values` (None is NULL) as the array that DuckDB reads as `sql_type`, or casts to it."""
    if sql_type in _DTYPES:
        dtype = _DTYPES[sql_type]
        if None not in values:
            return np.array(values, dtype=dtype)
        mask = [value is None for value in values]
        return np.ma.masked_array(np.array([value or 0 for value in values], dtype=dtype), mask=mask)
    if sql_type == "DOUBLE":
        return np.array(values, dtype=np.float64)  # None becomes NaN, and DuckDB reads NaN as NULL
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def count_array(values: Sequence[int | None]) -> Any:
    """Return counts as `column_array` does, in half the time: they are below 2^53, so a float holds each exactly."""
    floats = np.array(values, dtype=np.float64)
    mask = np.isnan(floats)
    return np.ma.masked_array(np.where(mask, 0.0, floats).astype(np.int64), mask=mask)


def select_list(columns: Iterable[Column]) -> str:
    """Return the expressions that turn registered arrays into the columns."""
    return ", ".join(
        "lower(search_text)" if column.name == "search_text" else f"{column.name}::{column.sql_type}"
        for column in columns
    )


def plain_decimal(value: Decimal | None) -> Decimal | None:
    """Return the same amount without the trailing zeros of its column."""
    if value is None:
        return None
    return Decimal(0) if not value else Decimal(f"{value.normalize():f}")
