"""Tables of the span store. No index: rows arrive in time order, so DuckDB's zone maps on `start_ns`
keep a lookup by trace to a few row groups once the trace's time range is known from `traces`."""

from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from penstock.store.spans.ledger import FILL_FROM_SPANS, create_ledger_statement
from penstock.store.spans.rows import OWN, PAYLOAD_COLUMNS, SPAN_COLUMNS, Column
from penstock.store.spans.summaries import SpanFacts, TraceSummary

SCHEMA_VERSION = 2
"""2: classes for images and hour-long cache writes, and the ledger."""

_SUMMARY_TYPES = {
    "trace_id": "UUID",
    "root_id": "UBIGINT",
    "duration_ms": "DOUBLE",
    "ttft_ms": "DOUBLE",
    "cost_usd": "DECIMAL(38,18)",
    **dict.fromkeys(
        (
            "start_ns",
            "first_ns",
            "last_ns",
            "n_spans",
            "n_model_calls",
            "n_unpriced",
            "input_tokens",
            "output_tokens",
        ),
        "BIGINT",
    ),
}
TRACE_COLUMNS: tuple[tuple[str, str], ...] = tuple(
    (name, _SUMMARY_TYPES.get(name, "VARCHAR")) for name in TraceSummary.__struct_fields__
)

_SUM_IN = ", ".join(INPUT_CLASSES)
_SUM_OUT = ", ".join(OUTPUT_CLASSES)
_FACT_SQL = {
    "trace_id": "replace(trace_id::VARCHAR, '-', '')",
    "input_tokens": f"list_sum([{_SUM_IN}])::BIGINT",
    "output_tokens": f"list_sum([{_SUM_OUT}])::BIGINT",
}
FACT_COLUMNS = ", ".join(_FACT_SQL.get(name, name) for name in SpanFacts.__struct_fields__)
"""Selects the fields of `SpanFacts` from the span table."""

RANK_SQL = f"completeness + CASE WHEN service = 'gateway' AND completeness < {OWN} THEN {OWN} ELSE 0 END"
"""The completeness of a stored span; files of earlier versions do not say there that a span is our own."""


def create_statements() -> list[str]:
    """Return the statements that make an empty store of this version."""
    traces = ", ".join(f"{name} {sql_type}" for name, sql_type in TRACE_COLUMNS)
    return [
        "CREATE TABLE store_meta (schema_version INTEGER)",
        f"INSERT INTO store_meta VALUES ({SCHEMA_VERSION})",  # noqa: S608 - our own number
        f"CREATE TABLE spans ({_definitions(SPAN_COLUMNS, compressed=('attributes', 'events', 'search_text'))})",
        f"CREATE TABLE payloads ({_definitions(PAYLOAD_COLUMNS, compressed=('input', 'output'))})",
        f"CREATE TABLE traces ({traces})",
        create_ledger_statement(),
    ]


def migration_statements(version: int) -> list[str]:
    """Return the statements that bring a store of an older version up to this one; empty if there is no way."""
    if version != 1:
        return []
    return [
        *(f"ALTER TABLE spans ADD COLUMN IF NOT EXISTS {name} BIGINT" for name in TOKEN_CLASSES),
        create_ledger_statement(),
        FILL_FROM_SPANS,
        f"UPDATE store_meta SET schema_version = {SCHEMA_VERSION}",  # noqa: S608 - our own number
    ]


def _definitions(columns: tuple[Column, ...], *, compressed: tuple[str, ...]) -> str:
    return ", ".join(
        f"{column.name} {column.sql_type}" + (" USING COMPRESSION zstd" if column.name in compressed else "")
        for column in columns
    )
