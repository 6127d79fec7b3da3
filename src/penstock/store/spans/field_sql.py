"""What each field of the search language is in the tables of the span store, and how it is compared.

Every value is bound. Several values in one column stand as `\\nA\\nB\\n`, so that one substring test asks for one.
"""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search import Compare
from penstock.spec.search_fields import ATTRIBUTE, SCORE, VERSION, FieldType
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES
from penstock.store.spans.text_sql import Fragment

_ORDERED = {"=": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NEVER: Fragment = ("false", [])


def sum_sql(names: tuple[str, ...]) -> str:
    """Return the sum of columns of `{row}`, NULL where none of them is known."""
    columns = [f"{{row}}.{name}" for name in names]
    total = " + ".join(f"coalesce({column}, 0)" for column in columns)
    return f"CASE WHEN coalesce({', '.join(columns)}) IS NULL THEN NULL ELSE {total} END"


SPAN_SQL: dict[str, str] = {
    **{
        name: f"{{row}}.{name}"
        for name in (
            *("name", "kind", "status", "error_code", "model", "provider", "route", "project", "environment"),
            *("release", "service", "scope", "agent", "tool", "prompt", "cache", "http_status", "attempts"),
            *("streamed", "passages"),
        )
    },
    "duration": "(({row}.end_ns - {row}.start_ns) / 1e6)",
    "ttft": "{row}.ttft_ms",
    "overhead": "{row}.overhead_ms",
    "start": "{row}.start_ns",
    "age": "{row}.start_ns",
    "cost": "{row}.cost_usd",
    "tokens": sum_sql(TOKEN_CLASSES),
    "input_tokens": sum_sql(INPUT_CLASSES),
    "output_tokens": sum_sql(OUTPUT_CLASSES),
    "cached_tokens": "{row}.input_cache_read",
    "user": "{row}.user_id",
    "session": "{row}.session_id",
    "key": "{row}.key_id",
    "tag": "{row}.tags",
    "links": "{row}.n_links",
    "dropped": "{row}.payload_dropped",
    "trace": "{row}.trace_id",
    "span": "{row}.span_id",
}
"""Fields of one span."""

TRACE_SQL: dict[str, str] = {
    **{
        name: f"{{row}}.{name}"
        for name in (
            *("name", "kind", "status", "error_code", "route", "project", "environment", "release", "cache"),
            *("input_tokens", "output_tokens"),
        )
    },
    "duration": "{row}.duration_ms",
    "ttft": "{row}.ttft_ms",
    "start": "{row}.start_ns",
    "age": "{row}.start_ns",
    "cost": "{row}.cost_usd",
    "tokens": sum_sql(("input_tokens", "output_tokens")),
    "model": "{row}.models",
    "provider": "{row}.providers",
    "user": "{row}.user_id",
    "session": "{row}.session_id",
    "key": "{row}.key_id",
    "tag": "{row}.tags",
    "trace": "{row}.trace_id",
    "spans": "{row}.n_spans",
    "errors": "{row}.n_errors",
    "model_calls": "{row}.n_model_calls",
    "unpriced": "{row}.n_unpriced",
}
"""Fields that the row of a trace answers; of the others one of its spans is asked."""
TRACE_LISTS = frozenset({"model", "provider", "tag"})
"""Columns of a trace's row with several values."""
_ID_DIGITS = {"trace": 32, "span": 16}


def compare_sql(column: str, kind: FieldType, part: Compare, *, is_list: bool, now_ns: int) -> Fragment:
    """Return `part` as a condition on `column`; `!=` is the caller's to negate."""
    operator, value = part.operator, part.value
    if kind == "id":
        return _compare_id(column, part)
    if operator == "exists":
        return (f"{column} <> ''" if is_list else f"{column} IS NOT NULL"), []
    if value is None:
        raise _unfit(part)
    if kind == "age":
        if operator not in _MIRRORED or not _is_number(value):
            raise _unfit(part)
        return f"{column} {_MIRRORED[operator]} ?", [now_ns - int(float(value) * 1_000_000)]
    if is_list:
        return _compare_list(column, part)
    if operator in _ORDERED:
        is_right = isinstance(value, bool) if kind == "flag" else kind not in _NUMERIC or _is_number(value)
        if not is_right or (operator != "=" and kind not in _NUMERIC):
            raise _unfit(part)
        return f"{column} {_ORDERED[operator]} ?", [
            value if kind in _NUMERIC or kind == "flag" else str(value)
        ]
    return _compare_text(column, part)


def attribute_sql(row: str, part: Compare) -> Fragment:
    """Return a condition on one attribute of the span `row`; metadata stand there under `metadata.NAME`."""
    name = part.field.removeprefix(ATTRIBUTE)
    mark = msgspec.json.encode(name).decode()
    sql, values = _compare_json(f"json_extract_string({row}.attributes, ?)", part)
    pointer = _pointer(name)
    # Reading JSON costs far more than looking whether the name is in it at all.
    return f"(contains({row}.attributes, ?) AND {sql})", [mark, pointer, *values]


def version_sql(row: str, part: Compare) -> Fragment:
    """Return a condition on the version of one asset that shaped the span `row`."""
    pointer = _pointer(part.field.removeprefix(VERSION))
    column = f"json_extract_string({row}.versions, ?)"
    if part.operator == "=":
        # a stored version may name its digest too: 3@sha256:…
        return f"split_part({column}, '@', 1) = ?", [pointer, str(part.value)]
    if part.operator == "exists":
        return f"{column} IS NOT NULL", [pointer]
    sql, values = _compare_text(column, part)
    return sql, [pointer, *values]


def score_sql(part: Compare) -> Fragment:
    """Return a condition on a row `c` of the score table: the score of this name, compared by value or label."""
    name = part.field.removeprefix(SCORE)
    if part.operator == "exists":
        return ("c.name = ?", [name]) if name else ("true", [])
    if _is_number(part.value) and part.operator in _ORDERED:
        return f"c.name = ? AND c.value {_ORDERED[part.operator]} ?", [name, part.value]
    if part.operator == "=":
        return "c.name = ? AND c.label = ?", [name, str(part.value)]
    sql, values = _compare_text("c.label", part)
    return f"c.name = ? AND {sql}", [name, *values]


_NUMERIC = frozenset({"number", "money", "duration", "time"})


def _compare_text(column: str, part: Compare) -> Fragment:
    if part.operator == "contains":
        return f"contains(lower({column}), lower(?))", [str(part.value)]
    if part.operator == "starts":
        return f"starts_with(lower({column}), lower(?))", [str(part.value)]
    if part.operator == "matches":
        return f"regexp_matches({column}, ?)", [str(part.value)]
    raise _unfit(part)


def _compare_list(column: str, part: Compare) -> Fragment:
    value = str(part.value)
    if part.operator == "=":
        return f"contains({column}, ?)", [f"\n{value}\n"]
    if part.operator == "contains":
        return f"contains(lower({column}), lower(?))", [value]
    if part.operator == "starts":
        return f"contains(lower({column}), lower(?))", ["\n" + value]
    if part.operator == "matches":
        each = f"unnest(string_split({column}, chr(10)))"
        return f"EXISTS (SELECT 1 FROM (SELECT {each} AS v) WHERE v <> '' AND regexp_matches(v, ?))", [value]  # noqa: S608 - names of ours
    raise _unfit(part)


def _compare_json(column: str, part: Compare) -> Fragment:
    operator, value = part.operator, part.value
    if operator == "exists":
        return f"{column} IS NOT NULL", []
    if operator in _ORDERED and _is_number(value):
        return f"try_cast({column} AS DOUBLE) {_ORDERED[operator]} ?", [value]
    if operator == "=":
        return f"{column} = ?", [str(value).lower() if isinstance(value, bool) else str(value)]
    return _compare_text(column, part)


def _compare_id(column: str, part: Compare) -> Fragment:
    digits = _ID_DIGITS["trace" if column.endswith("trace_id") else "span"]
    if part.operator == "exists":
        return "true", []
    text = str(part.value).lower().replace("-", "")
    whole = part.operator == "=" and len(text) == digits
    if not (whole or part.operator == "starts") or len(text) > digits or text.strip("0123456789abcdef"):
        return _NEVER
    first, last = text.ljust(digits, "0"), text.ljust(digits, "f")
    if digits == 16:
        return f"{column} BETWEEN ? AND ?", [int(first, 16), int(last, 16)]
    return f"{column} BETWEEN ?::UUID AND ?::UUID", [first, last]


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unfit(part: Compare) -> InvalidInput:
    return InvalidInput(
        f"{part.field} cannot be asked with {part.operator!r} and {part.value!r}.", field=part.field
    )
