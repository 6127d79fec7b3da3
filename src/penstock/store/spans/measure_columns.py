"""What measures and dimensions are in the tables, for each subject: names of columns in, SQL out.

A source is a SELECT of one row a trace, call or span with the columns that measures are computed from, under the same
names whatever the subject. DuckDB reads only those that are used. The surprise: money and tokens stand on model calls,
and of two of them one above the other only the lower one is counted; `traces.covered` names the upper ones.
"""

from collections.abc import Sequence
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.spec.measures import DIMENSIONS, Subject
from penstock.spec.search_fields import ATTRIBUTE, METADATA, VERSION
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES

Fragment = tuple[str, list[Any]]
_SHORT = {"key": "key_id", "user": "user_id", "session": "session_id", "tag": "tags"}
_ANY = {"any_model": "model", "any_provider": "provider"}
"""Of a span what it says itself, of a trace what any of its spans says."""
_LISTED = frozenset({"tag", *_ANY})
"""Dimensions with several values in one column, as `\\nA\\nB\\n`."""
_OF_ROOT = frozenset({"service", "tool", "prompt"})
"""Dimensions of traces that stand with their root span alone."""
_INPUTS = ", ".join(INPUT_CLASSES)
_IS_CALL = (
    "(kind IN ('llm', 'embedding', 'attempt')"
    f" OR (kind = 'rerank' AND (cost_usd IS NOT NULL OR coalesce({_INPUTS}) IS NOT NULL)))"
)
"""As summaries of traces count them."""
_IS_HIT = "coalesce(cache IN ('hit', 'semantic', 'shared'), false)"
"""Answered here: such a call bears the tokens of the answer it repeats, but used none."""
_WAS_REFUSED = "coalesce(starts_with(error_code, 'PS-1') OR starts_with(error_code, 'PS-2'), false)"
"""Refused here: never sent, so that there is no usage to tell."""
_WINDOW = "start_ns >= ? AND start_ns < ?"
_COVERED = (
    "SELECT trace_id AS upper_trace, unnest(string_split(covered, ','))::UBIGINT AS upper_id FROM traces"
    " WHERE covered <> '' AND last_ns >= ? AND first_ns < ?"
)


def source_sql(
    subject: Subject,
    window: tuple[int, int],
    condition: Fragment,
    dimensions: Sequence[str],
    *,
    needs_root: bool,
    needs_sums: bool,
) -> Fragment:
    """Return the rows that are measured, with the dimensions as columns `d0`, `d1` …

    `needs_root` says that measures want what traces do not hold of their root, `needs_sums` that they want money or
    tokens. Raises `InvalidInput` for a dimension that is none.
    """
    picked, values = [], []
    for number, name in enumerate(dimensions):
        expression, bound = _dimension_sql(name, subject)
        picked.append(f", {expression} AS d{number}")
        values += bound
    if subject == "trace":
        joins = needs_root or any(name in _OF_ROOT or "." in name for name in dimensions)
        sql, more = _of_traces("".join(picked), window, condition, joins_root=joins)
    elif subject == "call":
        sql, more = _of_calls("".join(picked), window, condition)
    else:
        sql, more = _of_spans("".join(picked), window, condition, needs_sums=needs_sums)
    for number, name in enumerate(dimensions):
        if name not in _LISTED or (name in _ANY and subject != "trace"):
            continue
        tags = f"CASE WHEN coalesce(d{number}, '') = '' THEN [NULL] ELSE list_distinct(string_split(trim(d{number}, chr(10)), chr(10))) END"
        sql = f"SELECT * EXCLUDE (d{number}), unnest({tags}) AS d{number} FROM ({sql})"  # noqa: S608 - names of ours
    return sql, [*values, *more]


def _dimension_sql(name: str, subject: Subject) -> Fragment:
    root = "r_" if subject == "trace" else ""
    if name.startswith((ATTRIBUTE, METADATA)):
        return f"json_extract_string({root}attributes, ?)", [_pointer(name.removeprefix(ATTRIBUTE))]
    if name.startswith(VERSION):  # a stored version may name its digest too: 3@sha256:…
        version = f"split_part(json_extract_string({root}versions, ?), '@', 1)"
        return version, [_pointer(name.removeprefix(VERSION))]
    if name not in DIMENSIONS:
        raise InvalidInput(f"One cannot group by {name[:80]!r}.", hint=f"Known: {', '.join(DIMENSIONS)}.")
    column = _SHORT.get(name, name)
    if name in _ANY:
        column = f"{_ANY[name]}s" if subject == "trace" else _ANY[name]
    return (f"{root}{column}" if name in _OF_ROOT else column), []


def _of_traces(picked: str, window: tuple[int, int], condition: Fragment, *, joins_root: bool) -> Fragment:
    where, bound = condition
    sql = (
        "SELECT trace_id, root_id AS span_id, start_ns, status, false AS lost, duration_ms AS took_ms, ttft_ms, cache,"
        " session_id, user_id, cost_usd, n_unpriced,"
        f" CASE WHEN {_IS_HIT} THEN 0 ELSE input_tokens END AS n_in,"
        f" CASE WHEN {_IS_HIT} THEN 0 ELSE output_tokens END AS n_out,"
        f" n_model_calls > 0 AND NOT ({_WAS_REFUSED})"
        " AND (input_tokens IS NULL OR (output_tokens IS NULL AND kind NOT IN ('embedding', 'rerank'))) AS is_mute"
    )
    rows = f"SELECT * FROM traces WHERE {_WINDOW} AND kind <> 'evaluation' AND ({where})"  # noqa: S608 - names of ours
    if not joins_root:
        return f"{sql}{picked} FROM ({rows})", [*window, *bound]
    roots = (
        "SELECT span_id AS r_id, trace_id AS r_trace, service AS r_service, tool AS r_tool, prompt AS r_prompt,"  # noqa: S608 - names of ours
        " versions AS r_versions, attributes AS r_attributes, overhead_ms, attempts"
        f" FROM spans WHERE {_WINDOW}"
    )
    joined = f"({rows}) LEFT JOIN ({roots}) ON r_id = root_id AND r_trace = trace_id"
    return f"{sql}, overhead_ms, attempts{picked} FROM {joined}", [*window, *bound, *window]


def _of_calls(picked: str, window: tuple[int, int], condition: Fragment) -> Fragment:
    where, bound = condition
    columns = _span_columns("kind = 'attempt'", "true")
    rows = f"SELECT * FROM spans WHERE {_WINDOW} AND {_IS_CALL} AND ({where})"  # noqa: S608 - names of ours
    sql = f"SELECT {columns}{picked} FROM ({rows}) ANTI JOIN ({_COVERED}) ON upper_id = span_id AND upper_trace = trace_id"  # noqa: S608 - names of ours
    return sql, [*window, *bound, *window]


def _of_spans(picked: str, window: tuple[int, int], condition: Fragment, *, needs_sums: bool) -> Fragment:
    where, bound = condition
    rows = f"SELECT * FROM spans WHERE {_WINDOW} AND kind <> 'evaluation' AND ({where})"  # noqa: S608 - names of ours
    if not needs_sums:
        return f"SELECT {_span_columns('false', 'true')}{picked} FROM ({rows})", [*window, *bound]  # noqa: S608 - names of ours
    columns = _span_columns("false", f"({_IS_CALL} AND upper_id IS NULL)")
    sql = f"SELECT {columns}{picked} FROM ({rows}) LEFT JOIN ({_COVERED}) ON upper_id = span_id AND upper_trace = trace_id"  # noqa: S608 - names of ours
    return sql, [*window, *bound, *window]


def _span_columns(lost: str, is_call: str) -> str:
    classes = ", ".join(f"{_counted(name, is_call)} AS {name}" for name in TOKEN_CLASSES)
    given, written = _known(INPUT_CLASSES), _known(OUTPUT_CLASSES)
    return (
        f"trace_id, span_id, start_ns, status, {lost} AS lost, (end_ns - start_ns) / 1e6 AS took_ms, ttft_ms, cache,"
        f" session_id, user_id, overhead_ms, attempts, CASE WHEN {is_call} THEN cost_usd END AS cost_usd,"
        f" ({is_call} AND cost_usd IS NULL)::INT AS n_unpriced,"
        f" {_counted(_sum(INPUT_CLASSES), is_call, given)} AS n_in,"
        f" {_counted(_sum(OUTPUT_CLASSES), is_call, written)} AS n_out,"
        f" CASE WHEN {written} THEN {_sum(OUTPUT_CLASSES)} END AS n_written,"
        f" {is_call} AND kind <> 'attempt' AND NOT ({given} AND ({written} OR kind IN ('embedding', 'rerank')))"
        f" AND NOT {_WAS_REFUSED} AS is_mute, {classes}"
    )


def _counted(expression: str, is_call: str, known: str | None = None) -> str:
    known = known or f"{expression} IS NOT NULL"
    return f"CASE WHEN {is_call} AND {known} THEN CASE WHEN {_IS_HIT} THEN 0 ELSE {expression} END END"


def _known(names: Sequence[str]) -> str:
    return f"coalesce({', '.join(names)}) IS NOT NULL"


def _sum(names: Sequence[str]) -> str:
    return " + ".join(f"coalesce({name}, 0)" for name in names)


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
