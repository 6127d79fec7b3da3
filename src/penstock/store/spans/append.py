"""Writing spans within one transaction: what is new or better, its payloads, its ledger rows, its scores, its traces.

There is no index. `traces` is asked first which traces are known (a few bytes a trace), and only their spans are
compared with what comes in. The surprise: traces beyond `LARGE_TRACE` spans are summed up by the engine, because
bringing 50,000 spans into Python for each of the appends that such a trace takes would take longer than the trace.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.spans import Span
from penstock.store.spans.duckdb_file import run
from penstock.store.spans.excerpts import PayloadReader
from penstock.store.spans.large_traces import summarise_large_trace
from penstock.store.spans.ledger_rows import Parents, update_ledger
from penstock.store.spans.rows import (
    OWN,
    PAYLOAD_COLUMNS,
    SPAN_COLUMNS,
    Key,
    PreparedSpan,
    are_sound,
    column_array,
    facts_of,
    find_fault,
    money_text,
    payload_arrays,
    prepare_span,
    select_list,
    span_arrays,
)
from penstock.store.spans.schema import FACT_COLUMNS, TRACE_COLUMNS
from penstock.store.spans.score_rows import delete_scores_of, judged_traces, mark_judged, update_scores
from penstock.store.spans.summaries import SpanFacts, TraceSummary, summarise_trace

LARGE_TRACE = 2000
"""Spans of a trace from which on the engine sums them up."""
_TRACE_NAMES = ", ".join(name for name, _ in TRACE_COLUMNS)
_HEX = "replace(trace_id::VARCHAR, '-', '')"


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A trace that has rows already, and the range of starts in which they are."""

    first_ns: int
    last_ns: int
    n_spans: int


class _Stored(msgspec.Struct, frozen=True, gc=False):
    """What decides whether a stored span is replaced."""

    completeness: int
    judged_ns: int
    project: str


def prepare_spans(spans: Iterable[Span]) -> list[PreparedSpan]:
    """Return the best record of each span, ready to be written; raise `InvalidInput` for one that cannot be stored."""
    spans = list(spans)
    if not are_sound(spans):
        _refuse(spans)
    best: dict[Key, PreparedSpan] = {}
    reader = PayloadReader()
    for span in spans:
        prepared = prepare_span(span, reader)
        other = best.setdefault(prepared.key, prepared)
        if other is prepared:
            continue
        is_theirs = span.is_foreign and span.project != other.span.project
        if not is_theirs and rank_of(prepared) > rank_of(other):
            best[prepared.key] = prepared
    return list(best.values())


def _refuse(spans: Sequence[Span]) -> None:
    """Raise `InvalidInput` for the first span that has a fault."""
    for span in spans:
        fault = find_fault(span)
        if fault is not None:
            raise InvalidInput(f"Span {span.span_id!r} cannot be stored: {fault}.", trace_id=span.trace_id)


class Append:
    """One append of `rows` (each span once). With `replaces` a stored span gives way whatever is known of it."""

    def __init__(self, cursor: Any, rows: Sequence[PreparedSpan], *, replaces: bool = False) -> None:
        self._cursor = cursor
        self._rows = rows
        self._replaces = replaces
        self._known: dict[str, _Known] = {}
        self._facts: dict[Key, SpanFacts] = {}
        """Of the spans of known traces that are not large."""

    def run(self) -> int:
        """Insert what is new or better, bring the touched traces up to date, count the new."""
        self._find_known()
        stored = self._find_stored() if self._known else {}
        fresh = [row for row in self._rows if row.key not in stored]
        better = [row for row in self._rows if row.key in stored and self._is_better(row, stored[row.key])]
        written = fresh + better
        if not written:
            return 0
        if better:
            self._delete_spans(better)
        self._insert_spans(written)
        self._facts.update((row.key, facts_of(row)) for row in written if not self._is_large(row.key[0]))
        update_ledger(self._cursor, written, self._find_parents(written), set(self._known), self._first_ns)
        judged = update_scores(self._cursor, written)
        self._replace_summaries({row.key[0] for row in written})
        if judged:
            mark_judged(self._cursor, judged)
        return len(fresh)

    @property
    def written_from(self) -> int:
        """The start before which no span is added, replaced or taken away; to be asked after `run`."""
        starts = [row.span.start_ns for row in self._rows]
        return min(*starts, self._first_ns) if self._known else min(starts)

    @property
    def _first_ns(self) -> int:
        return min((known.first_ns for known in self._known.values()), default=0)

    @property
    def _last_ns(self) -> int:
        return max((known.last_ns for known in self._known.values()), default=0)

    def _is_large(self, trace_id: str) -> bool:
        known = self._known.get(trace_id)
        return known is not None and known.n_spans > LARGE_TRACE

    def _find_known(self) -> None:
        self._register_ids("batch", {row.key[0] for row in self._rows})
        rows = self._cursor.execute(
            f"SELECT {_HEX}, first_ns, last_ns, n_spans FROM traces SEMI JOIN batch USING (trace_id)"  # noqa: S608 - names of ours
        ).fetchall()
        self._known = {row[0]: _Known(*row[1:]) for row in rows}

    def _find_stored(self) -> dict[Key, _Stored]:
        """Return what is stored of the batch's spans; the facts of all spans of known small traces come with it."""
        stored: dict[Key, _Stored] = {}
        small = [trace_id for trace_id in self._known if not self._is_large(trace_id)]
        if small:
            self._register_ids("small", small)
            for row in self._cursor.execute(
                f"SELECT {FACT_COLUMNS}, completeness FROM spans SEMI JOIN small USING (trace_id)"  # noqa: S608 - names of ours
                " WHERE start_ns BETWEEN ? AND ?",
                [self._first_ns, self._last_ns],
            ).fetchall():
                facts = SpanFacts(*row[:-1])
                key = (facts.trace_id, f"{facts.span_id:016x}")
                self._facts[key] = facts
                stored[key] = _Stored(row[-1], facts.end_ns or 0 if facts.has_scores else 0, facts.project)
        coming = [row for row in self._rows if self._is_large(row.key[0])]
        if coming:
            _register_keys(self._cursor, "coming", [(row.key[0], row.span_id) for row in coming])
            for trace_id, span_id, *told in self._cursor.execute(
                f"SELECT {_HEX}, span_id, completeness, CASE WHEN scores IS NULL THEN 0 ELSE coalesce(end_ns, 0) END,"  # noqa: S608 - names of ours
                " project FROM spans SEMI JOIN coming USING (trace_id, span_id) WHERE start_ns BETWEEN ? AND ?",
                [self._first_ns, self._last_ns],
            ).fetchall():
                stored[(trace_id, f"{span_id:016x}")] = _Stored(*told)
        return stored

    def _is_better(self, row: PreparedSpan, stored: _Stored) -> bool:
        """Say whether a record takes a stored one's place: ids are known to many, so never one of another project."""
        rank = (min(stored.completeness, OWN), stored.judged_ns, stored.completeness)
        is_theirs = row.span.is_foreign and row.span.project != stored.project
        return self._replaces or (not is_theirs and rank_of(row) > rank)

    def _register_ids(self, name: str, trace_ids: Iterable[str]) -> None:
        self._cursor.register("raw_ids", {"trace_id": column_array("UUID", list(trace_ids))})
        run(
            self._cursor,
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT trace_id::UUID AS trace_id FROM raw_ids",  # noqa: S608 - a name of ours
        )
        self._cursor.unregister("raw_ids")

    def _delete_spans(self, rows: Sequence[PreparedSpan]) -> None:
        _register_keys(self._cursor, "doomed", [(row.key[0], row.span_id) for row in rows])
        for table in ("spans", "payloads", "ledger"):
            self._cursor.execute(
                f"DELETE FROM {table} USING doomed WHERE {table}.span_id = doomed.span_id"  # noqa: S608 - names of ours
                f" AND {table}.trace_id = doomed.trace_id AND {table}.start_ns BETWEEN ? AND ?",
                [self._first_ns, self._last_ns],
            ).fetchall()
        delete_scores_of(self._cursor, "doomed")

    def _insert_spans(self, rows: Sequence[PreparedSpan]) -> None:
        with_payload = [row for row in rows if row.input is not None or row.output is not None]
        for table, columns, arrays_of, chosen in (
            ("spans", SPAN_COLUMNS, span_arrays, rows),
            ("payloads", PAYLOAD_COLUMNS, payload_arrays, with_payload),
        ):
            if chosen:
                arrays = arrays_of(chosen)
                told = [column for column in columns if column.name in arrays]
                self._cursor.register("incoming", arrays)
                names = ", ".join(column.name for column in told)
                run(
                    self._cursor,
                    f"INSERT INTO {table} ({names}) SELECT {select_list(told)} FROM incoming",  # noqa: S608 - names of ours
                )
                self._cursor.unregister("incoming")

    def _find_parents(self, written: Sequence[PreparedSpan]) -> Parents:
        """Return kind and name of the parents of billed rows, as far as they are stored."""
        if all(row.marks is None for row in written):
            return {}
        parents: dict[Key, tuple[str, str]] = {row.key: (row.span.kind, row.span.name) for row in written}
        parents.update((key, (facts.kind, facts.name)) for key, facts in self._facts.items())
        missing = [
            (row.key[0], row.parent_id)
            for row in written
            if row.marks is not None and row.parent_id is not None and self._is_large(row.key[0])
        ]
        for trace_id, parent_id in missing:
            found = self._cursor.execute(
                "SELECT kind, name FROM spans WHERE trace_id = ?::UUID AND span_id = ? AND start_ns BETWEEN ? AND ?",
                [trace_id, parent_id, self._first_ns, self._last_ns],
            ).fetchall()
            parents.update({(trace_id, f"{parent_id:016x}"): found[0]} if found else {})
        return parents

    def _replace_summaries(self, touched: Collection[str]) -> None:
        by_trace: dict[str, list[SpanFacts]] = {}
        for (trace_id, _), item in self._facts.items():
            if trace_id in touched:
                by_trace.setdefault(trace_id, []).append(item)
        known = [trace_id for trace_id in self._known if trace_id in touched]
        if known:
            self._register_ids("outdated", known)
            run(self._cursor, "DELETE FROM traces WHERE trace_id IN (FROM outdated)")
        judged = judged_traces(self._cursor, "batch")
        summaries = [
            summarise_trace(spans, is_judged=trace_id in judged) for trace_id, spans in by_trace.items()
        ]
        summaries += [
            summarise_large_trace(self._cursor, trace_id, is_judged=trace_id in judged)
            for trace_id in known
            if self._is_large(trace_id)
        ]
        insert_summaries(self._cursor, summaries)


def refresh_summaries(cursor: Any, trace_ids: Collection[str]) -> None:
    """Bring the rows of these traces up to date after something was taken away from them; empty traces have none."""
    for trace_id in trace_ids:
        cursor.execute("DELETE FROM traces WHERE trace_id = ?::UUID", [trace_id]).fetchall()
        left = cursor.execute("SELECT count(*) FROM spans WHERE trace_id = ?::UUID", [trace_id]).fetchall()
        judged = cursor.execute("SELECT count(*) FROM scores WHERE trace_id = ?::UUID", [trace_id]).fetchall()
        if left[0][0]:
            insert_summaries(cursor, [summarise_large_trace(cursor, trace_id, is_judged=judged[0][0] > 0)])


def insert_summaries(cursor: Any, summaries: Sequence[TraceSummary]) -> None:
    """Add rows of traces that have none."""
    columns = list(zip(*map(msgspec.structs.astuple, summaries), strict=True))
    arrays = {}
    for (name, sql_type), values in zip(TRACE_COLUMNS, columns, strict=True):
        is_money = sql_type.startswith("DECIMAL")
        arrays[name] = column_array(sql_type, [money_text(value) for value in values] if is_money else values)
    cursor.register("incoming", arrays)
    casts = ", ".join(f"{name}::{sql_type}" for name, sql_type in TRACE_COLUMNS)
    run(cursor, f"INSERT INTO traces ({_TRACE_NAMES}) SELECT {casts} FROM incoming")  # noqa: S608 - names of ours
    cursor.unregister("incoming")


def rank_of(row: PreparedSpan) -> tuple[int, int, int]:
    """Return what decides between two records of one span: the later judgement, else the more complete record."""
    own = min(row.completeness, OWN)
    return (own, row.span.end_ns or 0 if row.span.scores else 0, row.completeness)


def keep_payloads(cursor: Any, spans: Sequence[Span]) -> list[Span]:
    """Return the spans with the stored payload wherever they bring none, marked when it was dropped."""
    poor = [
        (span.trace_id, int(span.span_id, 16)) for span in spans if span.input is None or span.output is None
    ]
    if not poor:
        return list(spans)
    _register_keys(cursor, "poor", poor)
    reach = cursor.execute(
        "SELECT min(first_ns), max(last_ns) FROM traces WHERE trace_id IN (SELECT trace_id FROM poor)"
    ).fetchall()[0]
    within = "SEMI JOIN poor USING (trace_id, span_id) WHERE start_ns BETWEEN ? AND ?"
    payloads = {
        (row[0], f"{row[1]:016x}"): row[2:]
        for row in cursor.execute(
            f"SELECT {_HEX}, span_id, input, output FROM payloads {within}",  # noqa: S608 - names of ours
            reach,
        ).fetchall()
    }
    dropped = {
        (row[0], f"{row[1]:016x}")
        for row in cursor.execute(
            f"SELECT {_HEX}, span_id FROM spans {within} AND payload_dropped",  # noqa: S608 - names of ours
            reach,
        ).fetchall()
    }
    return [_with_payload(span, payloads, dropped) for span in spans]


def _with_payload(span: Span, payloads: Mapping[Key, Sequence[str | None]], dropped: Collection[Key]) -> Span:
    given, answer = payloads.get((span.trace_id, span.span_id), (None, None))
    return msgspec.structs.replace(
        span,
        input=msgspec.Raw(given.encode()) if span.input is None and given is not None else span.input,
        output=msgspec.Raw(answer.encode()) if span.output is None and answer is not None else span.output,
        payload_dropped=span.payload_dropped or (span.trace_id, span.span_id) in dropped,
    )


def _register_keys(cursor: Any, name: str, keys: Sequence[tuple[str, int]]) -> None:
    """Make a temporary table of trace and span ids."""
    ids = {
        "trace_id": column_array("UUID", [trace_id for trace_id, _ in keys]),
        "span_id": column_array("UBIGINT", [span_id for _, span_id in keys]),
    }
    cursor.register("raw_keys", ids)
    run(
        cursor,
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT trace_id::UUID AS trace_id, span_id FROM raw_keys",  # noqa: S608 - a name of ours
    )
    cursor.unregister("raw_keys")
