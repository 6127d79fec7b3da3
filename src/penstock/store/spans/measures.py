"""Measures over the span store in DuckDB. Reads only; all numbers are of what is stored now."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.base.intervals import wilson_interval
from penstock.spec.measures import (
    SCORE,
    Example,
    MetricCell,
    MetricQuery,
    MetricRow,
    MetricTable,
)
from penstock.spec.search import All, Words
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.listing import at_one_moment
from penstock.store.spans.measure_columns import Fragment, source_sql
from penstock.store.spans.measure_parts import (
    NEEDS_ROOT,
    NEEDS_SUMS,
    Plan,
    mean_cell,
    plan_measures,
    rank_sql,
    weight_sql,
)
from penstock.store.spans.search_sql import compile_condition, find_reach
from penstock.store.spans.text_hits import TextHits, find_words

MAX_MEASURES = 16
MAX_DIMENSIONS = 4
MAX_GROUPS = 1000
MAX_SLICES = 2000
FEW_VALUES = frozenset(
    {
        "route",
        "model",
        "provider",
        "project",
        "environment",
        "kind",
        "status",
        "error_code",
        "service",
        "cache",
    }
)
"""Dimensions that have few values in any store, so that reading all groups costs no more than reading the first of them."""
_Key = tuple[Any, ...]


class DuckDBMeasures:
    """Measures in the span store's DuckDB file."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def measure(self, query: MetricQuery) -> MetricTable:
        """Return the measures of each group and slice; raise `InvalidInput` for a query that means nothing."""
        _check(query)
        plan = plan_measures(query.measures, query.subject)
        with self._file.cursor() as cursor, _words_found(self._file, cursor, query) as hits:
            return _Measurement(cursor, query, plan, hits).run()

    def find_examples(self, query: MetricQuery, *, limit: int, lowest: bool = False) -> list[Example]:
        """Return spans of the window that the query's first measure rests on, the worst (highest) first."""
        _check(query)
        name = query.measures[0]
        plan_measures((name,), query.subject)  # refuses what is no measure of the subject
        with self._file.cursor() as cursor, _words_found(self._file, cursor, query) as hits:
            source, values = _source(cursor, query, hits)
            if name.startswith(SCORE):
                weight, only, is_low = "sc.value", "sc.status = 'scored' AND sc.value IS NOT NULL", False
                joined, bound = _join_scores(query), [*values, name.removeprefix(SCORE)]
            else:
                weight, only, is_low = weight_sql(name)
                joined, bound = "m", values
            order = "ASC" if lowest or is_low else "DESC"
            known = f" AND ({weight}) IS NOT NULL" if weight != "NULL" else ""
            rows = cursor.execute(
                f"WITH m AS ({source}) SELECT replace(m.trace_id::VARCHAR, '-', ''), m.span_id, m.start_ns, {weight} AS w"  # noqa: S608 - names of ours
                f" FROM {joined} WHERE {only}{known} ORDER BY w {order} NULLS LAST, m.start_ns DESC, m.span_id LIMIT ?",
                [*bound, limit],
            ).fetchall()
        return [
            Example(trace_id=trace_id, span_id=f"{span_id:016x}", start_ns=start_ns, value=value)
            for trace_id, span_id, start_ns, value in rows
        ]

    def list_values(self, dimension: str, since_ns: int, until_ns: int, *, limit: int) -> list[str]:
        """Return what spans of the window have in a dimension, the most frequent first."""
        source, values = source_sql(
            "span", (since_ns, until_ns), ("true", []), [dimension], needs_root=False, needs_sums=False
        )
        with self._file.cursor() as cursor:
            rows = cursor.execute(
                f"SELECT d0, count(*) FROM ({source}) WHERE d0 IS NOT NULL GROUP BY d0 ORDER BY 2 DESC, 1 LIMIT ?",  # noqa: S608 - names of ours
                [*values, limit],
            ).fetchall()
        return [row[0] for row in rows]


class _Measurement:
    """The answer to one query in the making."""

    def __init__(self, cursor: Any, query: MetricQuery, plan: Plan, hits: Mapping[Words, int]) -> None:
        self._cursor = cursor
        self._query = query
        self._plan = plan
        self._source, self._values = _source(cursor, query, hits)
        self._keys = [f"d{number}" for number in range(len(query.by))]

    def run(self) -> MetricTable:
        """Return rows by rank of their group, within a group by time."""
        if not self._keys:
            found = self._rows([], is_cut=False)
            n_matched = sum(row.n for row in found)
            return MetricTable(rows=found, n_groups=int(bool(found)), n_matched=n_matched)
        if self._query.bucket_ns is not None and FEW_VALUES.issuperset(self._query.by):
            return self._ranked_slices()
        # of slices the groups must be known first; without slices one reading gives both
        whole = () if self._query.bucket_ns is not None else self._plan.expressions
        top, n_groups, n_matched = self._rank(whole)
        if not top:
            return MetricTable(rows=[], n_groups=0, n_matched=0)
        is_cut = n_groups > len(top)
        rows = self._rows(
            [*top], is_cut=is_cut, found=[(*key, *values) for key, values in top.items()] if whole else None
        )
        return MetricTable(rows=rows, n_groups=n_groups, n_matched=n_matched)

    def _ranked_slices(self) -> MetricTable:
        """Return slices and groups from one reading of all groups: for dimensions of which there are few.

        What groups are ranked by are sums, which add up over slices.
        """
        n, weight = self._plan.expressions[0], rank_sql(self._query.measures[0])
        rows = self._select("m", [*self._plan.expressions, weight, n], ())
        ranks: dict[_Key, tuple[Any, int]] = {}
        for row in rows:
            weighed, counted = ranks.get(row[: len(self._keys)], (0, 0))
            ranks[row[: len(self._keys)]] = (weighed + row[-2], counted + row[-1])
        names = sorted(ranks, key=lambda key: [(part is None, part or "") for part in key])
        top = sorted(names, key=lambda key: ranks[key], reverse=True)[: self._query.limit]
        is_cut = len(top) < len(ranks)
        kept = {*top} if is_cut else ranks
        found = [row[:-2] for row in rows if row[: len(self._keys)] in kept]
        return MetricTable(
            rows=self._rows(top, is_cut=is_cut, found=found),
            n_groups=len(ranks),
            n_matched=sum(counted for _, counted in ranks.values()),
        )

    def _rank(self, expressions: Sequence[str]) -> tuple[dict[_Key, _Key], int, int]:
        """Return the groups that are answered with the values of `expressions`, how many groups there are, of how many."""
        keys, n = ", ".join(self._keys), self._plan.expressions[0]
        listed = "".join(f", {expression}" for expression in expressions)
        rows = self._cursor.execute(
            f"SELECT {keys}{listed}, {rank_sql(self._query.measures[0])} AS weight, {n} AS n, count(*) OVER (),"  # noqa: S608 - names of ours
            f" (sum({n}) OVER ())::BIGINT FROM ({self._source}) GROUP BY {keys}"
            f" ORDER BY weight DESC, n DESC, {keys} LIMIT ?",
            [*self._values, self._query.limit],
        ).fetchall()
        width = len(self._keys)
        found = {row[:width]: row[width : width + len(expressions)] for row in rows}
        return found, rows[0][-2] if rows else 0, rows[0][-1] if rows else 0

    def _rows(
        self, top: Sequence[_Key], *, is_cut: bool, found: Sequence[_Key] | None = None
    ) -> list[MetricRow]:
        if found is None:
            found = self._select("m", self._plan.expressions, top if is_cut else ())
        scores = {
            name: {
                tuple(row[: self._n_keys]): row[self._n_keys :]
                for row in self._select_scores(name, top, is_cut)
            }
            for name in self._query.measures
            if name.startswith(SCORE)
        }
        places = {key: number for number, key in enumerate(top)}
        dimensions, is_sliced = len(self._keys), self._query.bucket_ns is not None
        rows = [row for row in found if any(row[self._n_keys :])]
        rows.sort(key=lambda row: (places.get(row[:dimensions], 0), row[dimensions] if is_sliced else 0))
        return [self._row(row, scores) for row in rows]

    def _row(self, row: _Key, scores: dict[str, dict[_Key, Any]]) -> MetricRow:
        key, values = row[: self._n_keys], row[self._n_keys :]
        cells = self._plan.cells(values)
        cells.update((name, _score_cell(found.get(key))) for name, found in scores.items())
        width = self._query.bucket_ns
        return MetricRow(
            cells={name: cells[name] for name in self._query.measures},
            n=values[0],
            group=dict(zip(self._query.by, key, strict=False)),
            start_ns=None if width is None else key[-1] * width,
        )

    @property
    def _n_keys(self) -> int:
        return len(self._keys) + (self._query.bucket_ns is not None)

    def _select_scores(self, name: str, top: Sequence[_Key], is_cut: bool) -> list[_Key]:
        known = "sc.status = 'scored' AND sc.value IS NOT NULL"
        sums = [
            *(f"{function}(sc.value) FILTER (WHERE {known})" for function in ("avg", "stddev_samp", "count")),
            f"count(*) FILTER (WHERE {known} AND sc.value IN (0, 1))",
            f"count(*) FILTER (WHERE NOT ({known}) AND sc.label IS NULL)",
        ]
        joined = _join_scores(self._query)
        return self._select(joined, sums, top if is_cut else (), [name.removeprefix(SCORE)])

    def _select(
        self, rows: str, expressions: Sequence[str], top: Sequence[_Key], bound: Sequence[Any] = ()
    ) -> list[_Key]:
        """Return group, slice and the values of `expressions` over `rows`, of the groups of `top` or of all."""
        keys, values = list(self._keys), [*self._values]
        if self._query.bucket_ns is not None:
            keys.append(f"m.start_ns // {self._query.bucket_ns}")
        values += bound
        if top:
            names = [f"t{number}" for number in range(len(self._keys))]
            one = f"({', '.join('?::VARCHAR' for _ in names)})"
            same = " AND ".join(
                f"{a} IS NOT DISTINCT FROM {b}" for a, b in zip(names, self._keys, strict=True)
            )
            rows += f" JOIN (VALUES {', '.join([one] * len(top))}) AS top({', '.join(names)}) ON {same}"
            values += [value for key in top for value in key]
        grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
        found: list[_Key] = self._cursor.execute(
            f"WITH m AS ({self._source}) SELECT {', '.join([*keys, *expressions])} FROM {rows}{grouped}",  # noqa: S608 - names of ours
            values,
        ).fetchall()
        return found


def _check(query: MetricQuery) -> None:
    if not 1 <= len(query.measures) <= MAX_MEASURES:
        raise InvalidInput(f"A query asks for 1 to {MAX_MEASURES} measures.")
    if len(query.by) > MAX_DIMENSIONS or len(set(query.by)) < len(query.by):
        raise InvalidInput(f"One can group by at most {MAX_DIMENSIONS} different dimensions.")
    if not 1 <= query.limit <= MAX_GROUPS:
        raise InvalidInput(f"A query answers 1 to {MAX_GROUPS} groups.")
    if not 0 <= query.since_ns < query.until_ns < 2**63:
        raise InvalidInput("The window is empty.", hint="It must begin before it ends.")
    if query.bucket_ns is not None and (
        query.bucket_ns < 1_000_000_000 or (query.until_ns - query.since_ns) // query.bucket_ns > MAX_SLICES
    ):
        raise InvalidInput(f"Slices must be a second or more, and at most {MAX_SLICES}.")


@contextmanager
def _words_found(file: DuckDBFile, cursor: Any, query: MetricQuery) -> Iterator[Mapping[Words, int]]:
    """Look for the words that a query asks of whole traces once, and yield their places in `text_hits`."""
    words = find_words(query.where) if query.subject == "trace" else ()
    if not words:
        yield {}
        return
    mark = file.known_texts.mark()
    with at_one_moment(cursor):
        hits = TextHits(cursor, words, file.known_texts, mark)
        hits.cover(query.since_ns, query.until_ns)
        yield hits.places


def _source(cursor: Any, query: MetricQuery, hits: Mapping[Words, int]) -> Fragment:
    condition: Fragment = ("true", [])
    if query.where != All():
        subject: Any = "trace" if query.subject == "trace" else "span"
        reach = find_reach(cursor, query.since_ns, query.until_ns)
        condition = compile_condition(query.where, subject, reach=reach, hits=hits)
    return source_sql(
        query.subject,
        (query.since_ns, query.until_ns),
        condition,
        query.by,
        needs_root=not NEEDS_ROOT.isdisjoint(query.measures),
        needs_sums=not NEEDS_SUMS.isdisjoint(query.measures),
    )


def _join_scores(query: MetricQuery) -> str:
    """Return the source joined with the scores of one name: of traces those of any of its spans, too."""
    on = "sc.trace_id = m.trace_id" + ("" if query.subject == "trace" else " AND sc.span_id = m.span_id")
    return f"m JOIN (SELECT * FROM scores WHERE name = ?) sc ON {on}"  # noqa: S608 - names of ours


def _score_cell(found: Any) -> MetricCell:
    if found is None:
        return MetricCell(value=None, n=0)
    mean, spread, n, n_binary, n_undefined = found
    if n and n_binary == n:  # yes or no: a share
        low, high = wilson_interval(round(mean * n), n) or (None, None)
        return MetricCell(value=mean, n=n, n_left_out=n_undefined, low=low, high=high)
    return mean_cell(mean, spread, n, n_undefined)
