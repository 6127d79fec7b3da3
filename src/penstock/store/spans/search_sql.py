"""Search trees to DuckDB's SQL: `compile_condition` turns a condition into a boolean expression and its values.

Values are always bound; only names of our own are spliced. A leaf is NULL where a field is unknown, which counts as
false; whatever is negated is made two-valued first, so "not" means "does not hold" and never "unknown".

Relations become joins with sets of ids that are found once, not questions per row. `Reach` narrows these sets to the
stretch of time in which the spans of the wanted traces lie.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any, Literal

from penstock.base.clock import now_ns as read_clock
from penstock.base.errors import InvalidInput
from penstock.spec.search import All, Compare, Condition, Either, Negated, Related, Words
from penstock.spec.search_fields import ATTRIBUTE, BY_NAME, METADATA, SCORE, VERSION
from penstock.store.spans.field_sql import (
    SPAN_SQL,
    TRACE_LISTS,
    TRACE_SQL,
    attribute_sql,
    compare_sql,
    score_sql,
    version_sql,
)
from penstock.store.spans.text_sql import Fragment, text_condition

Subject = Literal["trace", "span"]
Reach = tuple[int, int]
"""Earliest and latest `start_ns` of the spans that can matter."""
MAX_PARTS = 200
MAX_DEPTH = 16
MAX_LEVELS = 64
"""How far `descendant` and `ancestor` look: trees of calls are shallow, cycles have no end."""
_HOLDS_FOR_NONE = {
    "=": lambda wanted: wanted == 0,
    "!=": lambda wanted: wanted != 0,
    "<": lambda wanted: wanted > 0,
    "<=": lambda wanted: wanted >= 0,
    ">": lambda wanted: wanted < 0,
    ">=": lambda wanted: wanted <= 0,
}
_COUNTED = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def compile_condition(
    condition: Condition,
    subject: Subject,
    *,
    reach: Reach | None = None,
    now_ns: int | None = None,
    hits: Mapping[Words, int] | None = None,
) -> tuple[str, list[Any]]:
    """Return the condition as SQL over the unaliased table `traces` or `spans`, and its values in order.

    `hits` are words whose traces stand in the table `text_hits` already, by their place there.
    Raises `InvalidInput` for a condition with unknown fields or of unreasonable size.
    """
    check_size(condition)
    compiler = _Compiler(reach, read_clock() if now_ns is None else now_ns, hits or {})
    return compiler.compile(condition, "traces" if subject == "trace" else "spans", subject)


def check_size(condition: Condition) -> None:
    """Raise `InvalidInput` when a condition has too many parts or is nested too deep."""
    n_parts, level = 0, [condition]
    for _ in range(MAX_DEPTH):
        n_parts += len(level)
        if n_parts > MAX_PARTS:
            raise InvalidInput(f"The search has more than {MAX_PARTS} parts.", hint="Ask in several steps.")
        level = [below for part in level for below in _parts_of(part)]
        if not level:
            return
    raise InvalidInput(f"The search is nested deeper than {MAX_DEPTH} levels.", hint="Ask in several steps.")


def find_reach(cursor: Any, since_ns: int | None, until_ns: int | None) -> Reach | None:
    """Return where the spans lie of the traces that have any in `[since_ns, until_ns)`; None for "anywhere"."""
    if since_ns is None and until_ns is None:
        return None
    found = cursor.execute(
        "SELECT min(first_ns), max(last_ns) FROM traces WHERE last_ns >= ? AND first_ns < ?",
        [since_ns or 0, 2**63 - 1 if until_ns is None else until_ns],
    ).fetchall()[0]
    return (0, 0) if found[0] is None else (found[0], found[1])


def _parts_of(condition: Condition) -> tuple[Condition, ...]:
    if isinstance(condition, All | Either):
        return condition.parts
    if isinstance(condition, Negated | Related):
        return (condition.condition,)
    return ()


class _Compiler:
    """One compilation: gives each subquery a name of its own."""

    def __init__(self, reach: Reach | None, now_ns: int, hits: Mapping[Words, int]) -> None:
        self._hits = hits
        self._reach = reach
        self._now_ns = now_ns
        self._names = count(1)

    def compile(self, condition: Condition, row: str, subject: Subject) -> Fragment:
        """Return the condition on `row`, a trace or a span."""
        if isinstance(condition, All):
            return self._join(condition.parts, "AND", row, subject)
        if isinstance(condition, Either):
            return self._join(condition.parts, "OR", row, subject)
        if isinstance(condition, Negated):
            return _negate(self.compile(condition.condition, row, subject))
        if isinstance(condition, Related):
            return self._relate(condition, row, subject)
        if isinstance(condition, Compare) and condition.operator == "!=":
            equal = Compare(field=condition.field, operator="=", value=condition.value)
            return _negate(self.compile(equal, row, subject))
        return self._leaf(condition, row, subject)

    def _join(self, parts: tuple[Condition, ...], word: str, row: str, subject: Subject) -> Fragment:
        if not parts:
            return ("true" if word == "AND" else "false"), []
        pieces = [self.compile(part, row, subject) for part in parts]
        values = [value for _, bound in pieces for value in bound]
        return f"({f' {word} '.join(sql for sql, _ in pieces)})", values

    def _leaf(self, leaf: Compare | Words, row: str, subject: Subject) -> Fragment:
        if subject == "span":
            return self._span_leaf(leaf, row)
        if isinstance(leaf, Words):
            if leaf in self._hits:
                found = "SELECT h.trace_id FROM text_hits h WHERE h.place = ?"
                return f"{row}.trace_id IN ({found})", [self._hits[leaf]]
            return self._any_span(leaf, row)
        if leaf.field.startswith(SCORE):
            sql, values = score_sql(leaf)
            return f"{row}.trace_id IN (SELECT c.trace_id FROM scores c WHERE {sql})", values  # noqa: S608 - names of ours
        if leaf.field.startswith((ATTRIBUTE, METADATA, VERSION)):
            return self._any_span(leaf, row)
        field = BY_NAME.get(leaf.field)
        if field is not None and field.name in TRACE_SQL:
            column = TRACE_SQL[field.name].format(row=row)
            is_list = field.name in TRACE_LISTS
            return compare_sql(column, field.type, leaf, is_list=is_list, now_ns=self._now_ns)
        if field is not None and field.of_trace == "root":
            return self.compile(Related(relation="root", condition=leaf), row, subject)
        return self._any_span(leaf, row)

    def _any_span(self, leaf: Condition, row: str) -> Fragment:
        return self.compile(Related(relation="any", condition=leaf), row, "trace")

    def _span_leaf(self, leaf: Compare | Words, row: str) -> Fragment:
        if isinstance(leaf, Words):
            return text_condition(leaf, row)
        if leaf.field.startswith((ATTRIBUTE, METADATA)):
            return attribute_sql(row, leaf)
        if leaf.field.startswith(VERSION):
            return version_sql(row, leaf)
        pair = f"({row}.trace_id, {row}.span_id)"
        if leaf.field.startswith(SCORE):
            sql, values = score_sql(leaf)
            return f"{pair} IN (SELECT c.trace_id, c.span_id FROM scores c WHERE {sql})", values  # noqa: S608 - names of ours
        field = BY_NAME.get(leaf.field)
        if field is None:
            raise InvalidInput(f"A search knows no field {leaf.field!r}.", field=leaf.field)
        if field.type == "payload":
            if leaf.operator != "exists":
                return text_condition(Words(text=str(leaf.value), where=field.name), row)  # type: ignore[arg-type]  # input or output
            return (
                f"{pair} IN (SELECT p.trace_id, p.span_id FROM payloads p WHERE p.{field.name} IS NOT NULL)",  # noqa: S608 - names of ours
                [],
            )
        if field.name in SPAN_SQL:
            column = SPAN_SQL[field.name].format(row=row)
            return compare_sql(column, field.type, leaf, is_list=field.name == "tag", now_ns=self._now_ns)
        sql, values = compare_sql(
            TRACE_SQL[field.name].format(row="w"), field.type, leaf, is_list=False, now_ns=self._now_ns
        )
        return f"{row}.trace_id IN (SELECT w.trace_id FROM traces w WHERE {sql})", values  # noqa: S608 - names of ours

    def _relate(self, part: Related, row: str, subject: Subject) -> Fragment:
        key, keys, values = self._related_keys(part, row, subject)
        if key is None:
            return ("true" if _HOLDS_FOR_NONE[part.operator](part.count) else "false"), []
        names = "trace_id, span_id" if ", " in key else "trace_id"
        if (part.operator, part.count) in {(">=", 1), (">", 0), ("!=", 0)}:
            return f"{key} IN (SELECT {names} FROM ({keys}))", values  # noqa: S608 - names of ours
        counted = f"SELECT {names} FROM ({keys}) GROUP BY ALL HAVING count(*) {_COUNTED[part.operator]} ?"  # noqa: S608 - names of ours
        if not _HOLDS_FOR_NONE[part.operator](part.count):
            return f"{key} IN ({counted})", [*values, part.count]
        unfit = f"SELECT {names} FROM ({keys}) GROUP BY ALL HAVING NOT (count(*) {_COUNTED[part.operator]} ?)"  # noqa: S608 - names of ours
        return _negate((f"{key} IN ({unfit})", [*values, part.count]))

    def _related_keys(self, part: Related, row: str, subject: Subject) -> tuple[str | None, str, list[Any]]:
        """Return which row is asked for, the query of the rows that have such a span (once each), and its values."""
        inner = f"s{next(self._names)}"
        sql, values = self.compile(part.condition, inner, "span")
        if self._reach is not None:
            sql, values = f"{inner}.start_ns BETWEEN ? AND ? AND {sql}", [*self._reach, *values]
        own = f"({row}.trace_id, {row}.{'root_id' if subject == 'trace' else 'span_id'})"
        source = f"FROM spans {inner} WHERE {sql}"
        joined = f"FROM spans {inner} JOIN traces r ON r.trace_id = {inner}.trace_id AND r.root_id"
        relation = part.relation
        if relation == "any":
            return f"{row}.trace_id", f"SELECT {inner}.trace_id {source}", values
        if relation == "root":
            keys = f"SELECT {inner}.trace_id {joined} = {inner}.span_id WHERE {sql}"
            return f"{row}.trace_id", keys, values
        if relation == "child":
            keys = f"SELECT {inner}.trace_id, {inner}.parent_id AS span_id {source}"
            return own, f"{keys} AND {inner}.parent_id IS NOT NULL", values
        if subject == "trace":
            if relation == "descendant":  # whatever hangs elsewhere, such as below a lost span, counts too
                return (
                    f"{row}.trace_id",
                    f"SELECT {inner}.trace_id {joined} <> {inner}.span_id WHERE {sql}",
                    values,
                )
            return None, "", []
        if relation == "parent":
            keys = f"SELECT {inner}.trace_id, {inner}.span_id {source}"
            return f"({row}.trace_id, {row}.parent_id)", keys, values
        found = f"SELECT {inner}.trace_id, {inner}.span_id, {inner}.parent_id {source}"
        if self._reach is None:
            return own, _walk(relation, found, ""), values
        return own, _walk(relation, found, " AND start_ns BETWEEN ? AND ?"), [*values, *self._reach]


def _walk(relation: str, found: str, within: str) -> str:
    """Return the query of all spans above (`descendant`) or below (`ancestor`) the found ones, once for each."""
    first, step = ("parent_id", "e.parent_id") if relation == "descendant" else ("span_id", "e.span_id")
    link = "e.span_id = w.here" if relation == "descendant" else "e.parent_id = w.here"
    return (
        "WITH RECURSIVE found AS MATERIALIZED ("  # noqa: S608 - names of ours
        f"{found}), edges AS MATERIALIZED (SELECT trace_id, span_id, parent_id FROM spans"
        f" WHERE parent_id IS NOT NULL AND trace_id IN (SELECT trace_id FROM found){within}),"
        f" walk AS (SELECT trace_id, span_id AS origin, {first} AS here, 1 AS level FROM found"
        f" UNION ALL SELECT w.trace_id, w.origin, {step}, w.level + 1 FROM walk w"
        f" JOIN edges e ON e.trace_id = w.trace_id AND {link} WHERE w.level <= {MAX_LEVELS})"
        " SELECT DISTINCT trace_id, here AS span_id, origin FROM walk"
        f" WHERE here IS NOT NULL AND {'true' if relation == 'descendant' else 'level > 1'}"
    )


def _negate(fragment: Fragment) -> Fragment:
    sql, values = fragment
    return f"NOT coalesce({sql}, false)", values
