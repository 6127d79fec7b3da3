"""Tables of the span store. No index: rows arrive in time order, so DuckDB's zone maps on `start_ns`
keep a lookup by trace to a few row groups once the trace's time range is known from `traces`."""

from penstock.spec.spans import FOREIGN_MARK
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from penstock.store.spans.ledger import CACHE_STATE, FILL_FROM_SPANS, create_ledger_statement
from penstock.store.spans.rows import OWN, PAYLOAD_COLUMNS, SPAN_COLUMNS, Column
from penstock.store.spans.score_rows import create_scores_statement
from penstock.store.spans.summaries import SpanFacts, TraceSummary

SCHEMA_VERSION = 3
"""2: classes for images and hour-long cache writes, and the ledger. 3: scores, and what newer fields of spans hold."""

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
            "n_errors",
        ),
        "BIGINT",
    ),
    "has_scores": "BOOLEAN",
}
TRACE_COLUMNS: tuple[tuple[str, str], ...] = tuple(
    (name, _SUMMARY_TYPES.get(name, "VARCHAR")) for name in TraceSummary.__struct_fields__
)

INPUT_SQL = f"list_sum([{', '.join(INPUT_CLASSES)}])"
OUTPUT_SQL = f"list_sum([{', '.join(OUTPUT_CLASSES)}])"
"""Tokens in and out of a span, None where no class is known."""
_FACT_SQL = {
    "trace_id": "replace(trace_id::VARCHAR, '-', '')",
    "input_tokens": f"{INPUT_SQL}::BIGINT",
    "output_tokens": f"{OUTPUT_SQL}::BIGINT",
    "has_scores": "scores IS NOT NULL",
}
FACT_COLUMNS = ", ".join(
    f"{_FACT_SQL[name]} AS {name}" if name in _FACT_SQL else name for name in SpanFacts.__struct_fields__
)
"""Selects the fields of `SpanFacts` from the span table."""

_RANK_OUR_OWN = f"""
UPDATE spans SET completeness = completeness + {OWN}
WHERE service = 'gateway' AND completeness < {OWN} AND NOT coalesce(contains(attributes, '"{FOREIGN_MARK}":'), false)
"""  # noqa: S608 - names of ours
"""Files of earlier versions do not say in the completeness that a span is our own."""
_NEW_TEXTS = ("environment", "release", "scope", "agent", "tool", "prompt", "cache", "links", "scores")
_NEW_TRACE_TEXTS = ("environment", "release", "agent", "cache")
_FILL_CACHE = f"""
UPDATE spans SET cache = json_extract_string(attributes, '$."{CACHE_STATE}"') WHERE contains(attributes, '"{CACHE_STATE}"')
"""  # noqa: S608 - a name of ours
_FILL_CACHE_OF_TRACES = """
UPDATE traces SET cache = s.cache FROM spans s
WHERE s.cache IS NOT NULL AND s.trace_id = traces.trace_id AND s.span_id = traces.root_id
"""
_COUNT_PASSAGES = """
UPDATE spans SET passages = try_cast(json_extract_string(attributes, '$."retrieval.n_hits"') AS BIGINT)
WHERE kind = 'retrieval' AND contains(attributes, '"retrieval.n_hits"')
"""
_COUNT_ERRORS = """
UPDATE traces SET n_errors = s.n
FROM (SELECT trace_id, count(*) FILTER (WHERE status = 'error') AS n FROM spans GROUP BY trace_id) s
WHERE s.trace_id = traces.trace_id
"""
_FIND_COVERED = """
WITH RECURSIVE walk AS (
    SELECT trace_id, span_id AS call_id, parent_id AS here, 1 AS level FROM spans
    WHERE kind IN ('llm', 'embedding') AND parent_id IS NOT NULL
    UNION ALL
    SELECT w.trace_id, w.call_id, s.parent_id, w.level + 1 FROM walk w
    JOIN spans s ON s.trace_id = w.trace_id AND s.span_id = w.here
    WHERE s.parent_id IS NOT NULL AND w.level < 64
), upper AS (
    SELECT DISTINCT s.trace_id, s.span_id FROM walk w JOIN spans s ON s.trace_id = w.trace_id AND s.span_id = w.here
    WHERE s.kind IN ('llm', 'embedding') AND s.span_id <> w.call_id
)
UPDATE traces SET covered = u.ids
FROM (SELECT trace_id, string_agg(span_id::VARCHAR, ',' ORDER BY span_id) AS ids FROM upper GROUP BY trace_id) u
WHERE u.trace_id = traces.trace_id
"""


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
        create_scores_statement(),
    ]


def migration_statements(version: int) -> list[str]:
    """Return the statements that bring a store of an older version up to this one; empty if there is no way."""
    steps = {1: _from_1, 2: _from_2}
    if version not in steps:
        return []
    statements = [statement for number in range(version, SCHEMA_VERSION) for statement in steps[number]()]
    return [*statements, f"UPDATE store_meta SET schema_version = {SCHEMA_VERSION}"]  # noqa: S608 - our own number


def _from_1() -> list[str]:
    return [
        *(f"ALTER TABLE spans ADD COLUMN IF NOT EXISTS {name} BIGINT" for name in TOKEN_CLASSES),
        create_ledger_statement(),
        FILL_FROM_SPANS,
    ]


def _from_2() -> list[str]:
    return [
        *(f"ALTER TABLE spans ADD COLUMN IF NOT EXISTS {name} VARCHAR" for name in _NEW_TEXTS),
        "ALTER TABLE spans ADD COLUMN IF NOT EXISTS tags VARCHAR DEFAULT ''",
        "ALTER TABLE spans ADD COLUMN IF NOT EXISTS n_links BIGINT DEFAULT 0",
        "ALTER TABLE spans ADD COLUMN IF NOT EXISTS passages BIGINT",
        _RANK_OUR_OWN,
        _COUNT_PASSAGES,
        _FILL_CACHE,
        *(f"ALTER TABLE traces ADD COLUMN IF NOT EXISTS {name} VARCHAR" for name in _NEW_TRACE_TEXTS),
        "ALTER TABLE traces ADD COLUMN IF NOT EXISTS tags VARCHAR DEFAULT ''",
        "ALTER TABLE traces ADD COLUMN IF NOT EXISTS n_errors BIGINT",
        "ALTER TABLE traces ADD COLUMN IF NOT EXISTS has_scores BOOLEAN DEFAULT false",
        "ALTER TABLE traces ADD COLUMN IF NOT EXISTS covered VARCHAR DEFAULT ''",
        _FIND_COVERED,
        _COUNT_ERRORS,
        _FILL_CACHE_OF_TRACES,
        create_scores_statement(),
    ]


def _definitions(columns: tuple[Column, ...], *, compressed: tuple[str, ...]) -> str:
    return ", ".join(
        f"{column.name} {column.sql_type}" + (" USING COMPRESSION zstd" if column.name in compressed else "")
        for column in columns
    )
