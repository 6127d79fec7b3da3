"""The summary of a large trace, computed by the engine: the same that `summarise_trace` says of the same spans.

Only ids and parents come into Python, to find the model calls that have no other below them.
"""

from typing import Any

from penstock.store.spans.json_text import joined_lines, split_lines
from penstock.store.spans.rows import column_array
from penstock.store.spans.schema import FACT_COLUMNS, INPUT_SQL
from penstock.store.spans.summaries import (
    ATTEMPT,
    EVALUATION,
    INHERITED,
    MODEL_KINDS,
    RERANK,
    SpanFacts,
    TraceSummary,
    find_leaf_ids,
    join_covered,
    make_summary,
)

_KINDS = ", ".join(f"'{kind}'" for kind in sorted(MODEL_KINDS))
_IS_CALL = (
    f"(kind IN ({_KINDS}) OR (kind = '{RERANK}' AND (cost_usd IS NOT NULL OR {INPUT_SQL} IS NOT NULL)))"
)
_IS_JUDGEMENT = f"(kind = '{EVALUATION}' AND scores IS NOT NULL)"
_RANK = (
    "CASE WHEN parent_id IS NULL THEN 0 WHEN parent_id NOT IN (SELECT span_id FROM large) THEN 1 ELSE 2 END"
)


def summarise_large_trace(cursor: Any, trace_id: str, *, is_judged: bool) -> TraceSummary:
    """Return the summary of a trace from all of its stored rows."""
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE everything AS SELECT {FACT_COLUMNS}, {_IS_CALL} AS is_call,"  # noqa: S608 - names of ours
        f" {_IS_JUDGEMENT} AS is_judgement FROM spans WHERE trace_id = ?::UUID",
        [trace_id],
    ).fetchall()
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE large AS FROM everything"
        " WHERE NOT is_judgement OR NOT EXISTS (FROM everything WHERE NOT is_judgement)"
    ).fetchall()
    names = ", ".join(SpanFacts.__struct_fields__)
    first = f"SELECT {names} FROM large ORDER BY {_RANK}, start_ns, span_id LIMIT 1"  # noqa: S608 - names of ours
    root = SpanFacts(*cursor.execute(first).fetchall()[0])
    covered = _mark_leaves(cursor)
    n_spans, first_ns, last_ns, has_scores = cursor.execute(
        "SELECT count(*), min(start_ns), max(start_ns), bool_or(has_scores) FROM everything"
    ).fetchall()[0]
    n_leaves, n_priced, cost, given, written = cursor.execute(
        f"SELECT count(*), count(cost_usd), sum(cost_usd), {_sum_sql('input_tokens')}, {_sum_sql('output_tokens')}"  # noqa: S608 - names of ours
        " FROM large SEMI JOIN leaves USING (span_id)"
    ).fetchall()[0]
    told = ", ".join(
        f"arg_min({name}, (start_ns, span_id)) FILTER ({name} IS NOT NULL)" for name in INHERITED
    )
    row = cursor.execute(
        f"SELECT count(*) FILTER (status = 'error'), {told} FROM large"  # noqa: S608 - names of ours
    ).fetchall()[0]
    return make_summary(
        root,
        told={
            name: value if getattr(root, name) is None else getattr(root, name)
            for name, value in zip(INHERITED, row[1:], strict=True)
        },
        reach=(first_ns, last_ns),
        models=joined_lines(_distinct(cursor, "model")),
        providers=joined_lines(_distinct(cursor, "provider")),
        tags=joined_lines(sorted({tag for text in _distinct(cursor, "tags") for tag in split_lines(text)})),
        n_spans=n_spans,
        n_model_calls=n_leaves,
        n_unpriced=n_leaves - n_priced,
        input_tokens=given,
        output_tokens=written,
        cost_usd=cost,
        n_errors=row[0],
        has_scores=is_judged or has_scores,
        covered=covered,
    )


def _mark_leaves(cursor: Any) -> str:
    """Fill the table `leaves` with the ids of the leaf model calls and of the attempts; return the covered calls."""
    parents = dict(cursor.execute("SELECT span_id, parent_id FROM large").fetchall())
    calls = [row[0] for row in cursor.execute("SELECT span_id FROM large WHERE is_call").fetchall()]
    attempts = [
        row[0] for row in cursor.execute("SELECT span_id FROM large WHERE kind = ?", [ATTEMPT]).fetchall()
    ]
    leaf_calls = find_leaf_ids(sorted(calls), parents)
    leaves = [*leaf_calls, *attempts]
    cursor.register("raw_leaves", {"span_id": column_array("UBIGINT", leaves)})
    cursor.execute("CREATE OR REPLACE TEMP TABLE leaves AS SELECT span_id FROM raw_leaves").fetchall()
    cursor.unregister("raw_leaves")
    return join_covered(calls, set(leaf_calls))


def _distinct(cursor: Any, column: str) -> list[str]:
    rows = cursor.execute(
        f"SELECT DISTINCT {column} FROM large WHERE {column} <> '' ORDER BY {column}"  # noqa: S608 - a name of ours
    ).fetchall()
    return [row[0] for row in rows]


def _sum_sql(column: str) -> str:
    """Return the sum as far as a column can hold it; `least` alone would make a number of an unknown sum."""
    return f"CASE WHEN count({column}) > 0 THEN least(sum({column}), 9223372036854775807)::BIGINT END"
