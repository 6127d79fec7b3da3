"""Upkeep of the DuckDB file: what is too old goes in small steps, what somebody asks to have erased at once.

A deleted row leaves its bytes in the file until `compact` has written it anew; only then a search through the file finds
nothing more of it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.store.spans.append import refresh_summaries
from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.read_rows import READ_COLUMNS, span_of_row
from penstock.store.spans.rows import column_array, is_hex
from penstock.store.spans.upkeep_types import Compaction, Expired, RetentionRule, Subject, SubjectRows

SLICE_ROWS = 60_000
"""Rows that compaction sorts at once: with their texts some hundred megabytes."""
_TABLES = ("spans", "payloads", "traces", "scores", "ledger", "store_meta")
_HEX = "replace(trace_id::VARCHAR, '-', '')"
_OF_SUBJECT = {
    "user": "SELECT trace_id FROM spans WHERE user_id = ? UNION SELECT trace_id FROM traces WHERE user_id = ?",
    "session": "SELECT trace_id FROM spans WHERE session_id = ? UNION SELECT trace_id FROM traces WHERE session_id = ?",
}
_JUDGED_BY = {"user": "scorer = ?", "session": "session_id = ?"}
_NAMED_IN_LEDGER = {"user": "user_id = ?", "session": "session_id = ?"}

_IS_FOREIGN = f"coalesce(contains(attributes, '\"{FOREIGN_MARK}\":'), false)"
_HAS_TEXT = f"""(status_message IS NOT NULL
    OR coalesce(contains(events, '"reason":'), false)
    OR (coalesce(contains(events, '"attributes":'), false) AND {_IS_FOREIGN})
    OR coalesce(contains(scores, '"comment":') OR contains(scores, '"evidence":'), false))"""
"""Whether a span without payload holds what somebody wrote. JSON has quotes escaped, so texts look like no member."""


def _patched(column: str, patch: str) -> str:
    """Return a list of JSON objects with a merge patch applied to each; nothing of a list that cannot be read."""
    members = f"from_json({column}, '[\"JSON\"]')"
    return f"TRY(to_json(list_transform({members}, lambda each: json_merge_patch(each, {patch})))::VARCHAR)"


BARE_EVENTS = _patched(
    "events",
    f"""CASE WHEN {_IS_FOREIGN} THEN '{{"attributes":null}}' ELSE '{{"attributes":{{"reason":null}}}}' END""",
)
BARE_SCORES = _patched("scores", """'{"comment":null,"evidence":null}'""")


class DuckDBUpkeep:
    """Upkeep over the shared file. See `SpanUpkeep` for what the methods promise."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def expire(self, rules: Sequence[RetentionRule], *, max_spans: int = 20_000) -> Expired:
        """Delete what the rules call too old, whole traces first, about `max_spans` rows at once."""
        own = [rule.project for rule in rules if rule.project is not None]
        n_payloads = n_spans = n_traces = 0
        with self._file.transaction() as cursor:
            for rule in rules:
                condition, values = _project_condition(rule.project, own)
                if rule.spans_before_ns is not None and n_spans < max_spans:
                    found = _expire_traces(
                        cursor, condition, values, rule.spans_before_ns, max_spans - n_spans
                    )
                    n_traces, n_spans = n_traces + found[0], n_spans + found[1]
                if rule.payloads_before_ns is not None and n_payloads < max_spans:
                    n_payloads += _expire_payloads(
                        cursor, condition, values, rule.payloads_before_ns, max_spans - n_payloads
                    )
        return Expired(
            n_payloads=n_payloads,
            n_spans=n_spans,
            n_traces=n_traces,
            is_done=n_spans < max_spans and n_payloads < max_spans,
        )

    def find_subject(self, subject: Subject) -> SubjectRows:
        """Return what is stored of the subject."""
        with self._file.cursor() as cursor:
            _gather_subject(cursor, subject)
            return _count_subject(cursor, subject)

    def erase(self, subject: Subject) -> SubjectRows:
        """Delete all of it in one transaction; the ledger keeps sums of money that lead to nobody."""
        with self._file.transaction() as cursor:
            _gather_subject(cursor, subject)
            found = _count_subject(cursor, subject)
            touched = {
                row[0]
                for row in cursor.execute(
                    f"SELECT {_HEX} FROM doomed_spans ANTI JOIN subject USING (trace_id) UNION"  # noqa: S608 - names of ours
                    f" SELECT {_HEX} FROM judged ANTI JOIN subject USING (trace_id) WHERE trace_id IS NOT NULL"
                ).fetchall()
            }
            for table in ("spans", "payloads", "traces"):
                run(cursor, f"DELETE FROM {table} WHERE trace_id IN (FROM subject)")  # noqa: S608 - names of ours
            for table in ("spans", "payloads"):
                run(
                    cursor,
                    f"DELETE FROM {table} USING doomed_spans d"  # noqa: S608 - names of ours
                    f" WHERE {table}.trace_id = d.trace_id AND {table}.span_id = d.span_id",
                )
            run(cursor, "DELETE FROM scores WHERE score_id IN (SELECT score_id FROM judged)")
            _strip_ledger(cursor, subject)
            refresh_summaries(cursor, touched)
        return found

    def compact(self) -> Compaction:
        """Write the file anew, in order of time. Spans wait in the spool meanwhile; readers go on until the swap."""
        before = self._file.path.stat().st_size
        n_spans = 0

        def build(cursor: Any, schema: str) -> None:
            nonlocal n_spans
            n_spans = _copy_sorted(cursor, schema)

        self._file.rebuild(build)
        return Compaction(size_before=before, size_after=self._file.path.stat().st_size, n_spans=n_spans)

    def back_up(self, destination: Path) -> int:
        """Copy the file, as of now, to a path that does not exist."""
        return self._file.copy_to(destination)


class DuckDBScan:
    """Going through all spans of the shared file. See `SpanScan` for what the methods promise."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def scan_foreign(
        self, before_version: int, after: tuple[int, str, str] | None, *, limit: int
    ) -> tuple[list[Span], tuple[int, str, str] | None]:
        """Return the next spans that an older mapping read, and their last (start, trace id, span id)."""
        start_ns, trace_id, span_id = after or (-1, "0" * 32, "0" * 16)
        with self._file.cursor() as cursor:
            rows = cursor.execute(
                f"SELECT {READ_COLUMNS} FROM spans WHERE start_ns >= ?"  # noqa: S608 - names of ours
                " AND (start_ns, spans.trace_id, span_id) > (?, ?::UUID, ?::UBIGINT)"
                f" AND contains(attributes, '\"{FOREIGN_MARK}\"')"
                f" AND try_cast(json_extract_string(attributes, '$.\"{FOREIGN_MARK}\"') AS BIGINT) < ?"
                " ORDER BY start_ns, spans.trace_id, span_id LIMIT ?",
                [start_ns, start_ns, trace_id, int(span_id, 16), before_version, limit],
            ).fetchall()
        spans = [span_of_row(row) for row in rows]
        if len(spans) < limit:
            return spans, None
        return spans, (spans[-1].start_ns, spans[-1].trace_id, spans[-1].span_id)


def _project_condition(project: str | None, own: Sequence[str]) -> tuple[str, list[Any]]:
    if project is not None:
        return "project = ?", [project]
    return (f"project NOT IN ({', '.join('?' * len(own))})", list(own)) if own else ("true", [])


def _expire_traces(
    cursor: Any, condition: str, values: Sequence[Any], before_ns: int, max_spans: int
) -> tuple[int, int]:
    """Delete whole traces, oldest first, until about `max_spans` spans are gone."""
    old = (
        "SELECT *, sum(n_spans) OVER (ORDER BY last_ns, trace_id) - n_spans AS n_before FROM traces"  # noqa: S608 - names of ours
        f" WHERE last_ns < ? AND {condition}"
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE expired AS"  # noqa: S608 - names of ours
        f" SELECT trace_id, n_spans, first_ns, last_ns FROM ({old}) WHERE n_before < ?",
        [before_ns, *values, max_spans],
    ).fetchall()
    n_traces, first_ns, last_ns = cursor.execute(
        "SELECT count(*), min(first_ns), max(last_ns) FROM expired"
    ).fetchall()[0]
    if not n_traces:
        return 0, 0
    n_spans = 0
    for table in ("payloads", "spans"):
        n_spans = cursor.execute(
            f"DELETE FROM {table} WHERE trace_id IN (SELECT trace_id FROM expired) AND start_ns BETWEEN ? AND ?",  # noqa: S608 - names of ours
            [first_ns, last_ns],
        ).fetchall()[0][0]
    for column in ("trace_id", "by_trace_id"):
        run(cursor, f"DELETE FROM scores WHERE {column} IN (SELECT trace_id FROM expired)")  # noqa: S608 - names of ours
    run(cursor, "DELETE FROM traces WHERE trace_id IN (SELECT trace_id FROM expired)")
    return n_traces, n_spans


def _expire_payloads(
    cursor: Any, condition: str, values: Sequence[Any], before_ns: int, max_spans: int
) -> int:
    """Take from spans what people wrote and models said; raw attributes stay as long as the span.

    That is payloads, previews, the text that search looks at, messages of errors, what events of foreign spans hold, and
    comments and evidence of scores.
    """
    # The join is only for rules of single projects: payloads do not say whose they are.
    theirs = f"SELECT trace_id, span_id FROM spans WHERE start_ns < ? AND {condition}"  # noqa: S608 - names of ours
    of_project = "" if condition == "true" else f"SEMI JOIN ({theirs}) USING (trace_id, span_id)"
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE expired AS SELECT trace_id, span_id, start_ns FROM (SELECT trace_id, span_id,"  # noqa: S608 - names of ours
        f" start_ns FROM payloads {of_project} WHERE start_ns < ? UNION SELECT trace_id, span_id, start_ns FROM spans"
        f" WHERE start_ns < ? AND {condition} AND {_HAS_TEXT}) LIMIT ?",
        [*([before_ns, *values] if of_project else []), before_ns, before_ns, *values, max_spans],
    ).fetchall()
    n_spans, first_ns, last_ns = cursor.execute(
        "SELECT count(*), min(start_ns), max(start_ns) FROM expired"
    ).fetchall()[0]
    if not n_spans:
        return 0
    reach = [first_ns, last_ns]
    cursor.execute(
        "DELETE FROM payloads p USING expired e WHERE p.trace_id = e.trace_id AND p.span_id = e.span_id"
        " AND p.start_ns BETWEEN ? AND ?",
        reach,
    ).fetchall()
    cursor.execute(
        "UPDATE spans s SET payload_dropped = true, preview = NULL, search_text = lower(name),"  # noqa: S608 - names of ours
        f" status_message = NULL, events = {BARE_EVENTS}, scores = {BARE_SCORES} FROM expired e"
        " WHERE s.trace_id = e.trace_id AND s.span_id = e.span_id AND s.start_ns BETWEEN ? AND ?",
        reach,
    ).fetchall()
    run(
        cursor,
        "UPDATE scores s SET comment = NULL, evidence = NULL FROM expired e"
        " WHERE s.by_trace_id = e.trace_id AND s.by_span_id = e.span_id",
    )
    run(
        cursor,
        "UPDATE traces SET preview = NULL FROM expired e"
        " WHERE traces.trace_id = e.trace_id AND traces.root_id = e.span_id AND preview IS NOT NULL",
    )
    return int(n_spans)


def _gather_subject(cursor: Any, subject: Subject) -> None:
    """Fill `subject` (whole traces), `judged` (scores that go) and `doomed_spans` (their carriers) for this cursor."""
    trace_ids = [subject.id] if subject.kind == "trace" and is_hex(subject.id, 32) else []
    if subject.kind in _OF_SUBJECT:
        found = cursor.execute(_OF_SUBJECT[subject.kind], [subject.id, subject.id]).fetchall()
        trace_ids = [str(row[0]) for row in found]
    cursor.register("raw_ids", {"trace_id": column_array("UUID", trace_ids)})
    run(cursor, "CREATE OR REPLACE TEMP TABLE subject AS SELECT trace_id::UUID AS trace_id FROM raw_ids")
    cursor.unregister("raw_ids")
    by, values = _JUDGED_BY.get(subject.kind, "false"), [subject.id] if subject.kind in _JUDGED_BY else []
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE judged AS SELECT score_id, trace_id, by_trace_id, by_span_id FROM scores"  # noqa: S608 - names of ours
        f" WHERE trace_id IN (FROM subject) OR by_trace_id IN (FROM subject) OR {by}",
        values,
    ).fetchall()
    run(
        cursor,
        "CREATE OR REPLACE TEMP TABLE doomed_spans AS SELECT DISTINCT s.trace_id, s.span_id FROM judged j"
        " JOIN spans s ON s.trace_id = j.by_trace_id AND s.span_id = j.by_span_id"
        " WHERE s.kind = 'evaluation' AND s.trace_id NOT IN (FROM subject)",
    )


def _count_subject(cursor: Any, subject: Subject) -> SubjectRows:
    def count(table: str) -> int:
        found = cursor.execute(
            f"SELECT count(*) FROM {table} t WHERE trace_id IN (FROM subject)"  # noqa: S608 - names of ours
            " OR EXISTS (FROM doomed_spans d WHERE d.trace_id = t.trace_id AND d.span_id = t.span_id)"
        ).fetchall()
        return int(found[0][0])

    named = _NAMED_IN_LEDGER.get(subject.kind)
    n_ledger = cursor.execute(
        f"SELECT count(*) FROM ledger WHERE trace_id IN (FROM subject) OR {named or 'false'}",  # noqa: S608 - names of ours
        [subject.id] if named else [],
    ).fetchall()[0][0]
    rows = cursor.execute(f"SELECT {_HEX} FROM subject ORDER BY 1").fetchall()  # noqa: S608 - names of ours
    return SubjectRows(
        trace_ids=[row[0] for row in rows],
        n_spans=count("spans"),
        n_payloads=count("payloads"),
        n_scores=cursor.execute("SELECT count(*) FROM judged").fetchall()[0][0],
        n_ledger_rows=n_ledger,
    )


def _strip_ledger(cursor: Any, subject: Subject) -> None:
    """Take out of the ledger who it was, and what is derived from what they wrote; money and model stay."""
    named = _NAMED_IN_LEDGER.get(subject.kind)
    cursor.execute(
        "UPDATE ledger SET user_id = NULL, session_id = NULL, step = NULL, request_digest = NULL,"  # noqa: S608 - names of ours
        f" prefix_digest = NULL, prefix_tokens = NULL WHERE trace_id IN (FROM subject) OR {named or 'false'}",
        [subject.id] if named else [],
    ).fetchall()


def _copy_sorted(cursor: Any, schema: str) -> int:
    """Copy all tables into `schema`, spans and payloads in order of time, slice by slice; return the number of spans."""
    n_spans = 0
    for table in _TABLES:
        order = {"spans": "start_ns", "payloads": "start_ns", "traces": "start_ns"}.get(table)
        n_rows = cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]  # noqa: S608 - names of ours
        if order is None:
            run(cursor, f"INSERT INTO {schema}.{table} BY NAME SELECT * FROM {table}")  # noqa: S608 - names of ours
        else:
            for low, high in _slices(cursor, table, n_rows):
                cursor.execute(
                    f"INSERT INTO {schema}.{table} BY NAME SELECT * FROM {table}"  # noqa: S608 - names of ours
                    f" WHERE start_ns >= ? AND start_ns < ? ORDER BY {order}",
                    [low, high],
                ).fetchall()
        n_copied = cursor.execute(f"SELECT count(*) FROM {schema}.{table}").fetchall()[0][0]  # noqa: S608 - names of ours
        assert n_copied == n_rows, f"{table}: {n_copied} of {n_rows} rows were copied"
        n_spans = n_rows if table == "spans" else n_spans
    return n_spans


def _slices(cursor: Any, table: str, n_rows: int) -> list[tuple[int, int]]:
    """Return ranges of starts with about `SLICE_ROWS` rows each that cover the table."""
    n_slices = max(1, -(-n_rows // SLICE_ROWS))
    marks = [number / n_slices for number in range(1, n_slices)]
    inner: list[int] = []
    if marks:
        found = cursor.execute(f"SELECT quantile_disc(start_ns, {marks}) FROM {table}").fetchall()  # noqa: S608 - numbers of ours
        inner = sorted(set(found[0][0]))
    edges = [-1, *inner, 2**63 - 1]
    return list(pairwise(edges))
