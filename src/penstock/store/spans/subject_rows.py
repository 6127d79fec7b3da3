"""What upkeep reads beside spans: counts of what is too old, ledger rows and judgements of a subject, its calls in time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.store.spans.duckdb_file import DuckDBFile, run
from penstock.store.spans.rows import column_array, is_hex
from penstock.store.spans.upkeep_types import CallWindow, Expired, RetentionRule, Subject

_LEDGER_OF = {"user": "user_id = ?", "session": "session_id = ?"}
_SCORES_OF = {"user": "scorer = ?", "session": "session_id = ?"}
_IDS = {
    "user": "SELECT DISTINCT user_id FROM {0} WHERE user_id IS NOT NULL",
    "session": "SELECT DISTINCT session_id FROM {0} WHERE session_id IS NOT NULL",
    "trace": "SELECT DISTINCT replace(trace_id::VARCHAR, '-', '') FROM {0}",
}


class DuckDBSubjectRows:
    """Reads over the shared file. See `SubjectReader`."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def count_old(self, rules: Sequence[RetentionRule]) -> Expired:
        """Return what these rules would delete now; nothing is changed."""
        own = [rule.project for rule in rules if rule.project is not None]
        n_payloads = n_spans = n_traces = 0
        with self._file.cursor() as cursor:
            for rule in rules:
                condition, values = _project_condition(rule.project, own)
                gone = "false"
                if rule.spans_before_ns is not None:
                    gone = f"last_ns < {int(rule.spans_before_ns)}"
                    found = _one(
                        cursor,
                        f"SELECT count(*), coalesce(sum(n_spans), 0)::BIGINT FROM traces WHERE {gone} AND {condition}",  # noqa: S608 - names of ours
                        values,
                    )
                    n_traces, n_spans = n_traces + found[0], n_spans + found[1]
                if rule.payloads_before_ns is not None:
                    before = int(rule.payloads_before_ns)
                    n_payloads += _one(
                        cursor,
                        "SELECT count(*) FROM payloads"  # noqa: S608 - names of ours
                        f" SEMI JOIN (SELECT trace_id, span_id FROM spans WHERE start_ns < {before} AND {condition}"
                        f" AND trace_id NOT IN (SELECT trace_id FROM traces WHERE {gone}))"
                        f" USING (trace_id, span_id) WHERE start_ns < {before}",
                        values,
                    )[0]
        return Expired(n_payloads=n_payloads, n_spans=n_spans, n_traces=n_traces, is_done=True)

    def read_ledger(self, subject: Subject, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the ledger's rows that name the subject or are of its traces, oldest first."""
        own = _LEDGER_OF.get(subject.kind, "false")
        where = f"trace_id IN (FROM wanted) OR {own} ORDER BY start_ns, span_id"
        yield from self._read_rows("ledger", where, subject, trace_ids)

    def read_scores(self, subject: Subject, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the judgements of its traces, of its session, and those it made itself, oldest first."""
        own = _SCORES_OF.get(subject.kind, "false")
        of_traces = "trace_id IN (FROM wanted) OR by_trace_id IN (FROM wanted)"
        where = f"{of_traces} OR {own} ORDER BY time_ns, score_id"
        yield from self._read_rows("scores", where, subject, trace_ids)

    def find_calls(self, trace_ids: Sequence[str]) -> list[CallWindow]:
        """Return when the gateway was asked in these traces, by project and route."""
        with self._file.cursor() as cursor:
            _take_ids(cursor, trace_ids)
            rows = cursor.execute(
                "SELECT project, route, start_ns, end_ns FROM spans SEMI JOIN wanted USING (trace_id)"
                " WHERE service = 'gateway' AND route IS NOT NULL ORDER BY project, route, start_ns"
            ).fetchall()
        found: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
        for project, route, start_ns, end_ns in rows:
            found.setdefault((project, route), []).append((start_ns, end_ns))
        return [
            CallWindow(project=project, route=route, spans_ns=spans)
            for (project, route), spans in found.items()
        ]

    def find_ids(self, kind: str, is_wanted: Callable[[str], bool]) -> list[str]:
        """Return the users, sessions or traces of which anything is stored and for which `is_wanted` says so."""
        with self._file.cursor() as cursor:
            ids: set[str] = set()
            for table in ("spans", "traces", "ledger"):
                ids.update(row[0] for row in cursor.execute(_IDS[kind].format(table)).fetchall())
        return sorted(each for each in ids if is_wanted(each))

    def _read_rows(
        self, table: str, where: str, subject: Subject, trace_ids: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        with self._file.cursor() as cursor:
            _take_ids(cursor, trace_ids)
            cursor.execute(f"SELECT * FROM {table} WHERE {where}", [subject.id] if "?" in where else [])  # noqa: S608 - names of ours
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
        for row in rows:
            yield {
                name: _plain(name, value) for name, value in zip(names, row, strict=True) if value is not None
            }


def _plain(name: str, value: Any) -> Any:
    """Return a cell as JSON knows it, ids as everywhere else."""
    if name.endswith("trace_id"):
        return str(value).replace("-", "")
    if name.endswith("span_id") or name == "parent_id":
        return f"{value:016x}"
    if name in {"versions", "rates", "evidence"}:
        return msgspec.json.decode(value) if value else {}
    return value


def _take_ids(cursor: Any, trace_ids: Sequence[str]) -> None:
    ids = [each for each in trace_ids if is_hex(each, 32)]
    cursor.register("raw_wanted", {"trace_id": column_array("UUID", ids)})
    run(cursor, "CREATE OR REPLACE TEMP TABLE wanted AS SELECT trace_id::UUID AS trace_id FROM raw_wanted")
    cursor.unregister("raw_wanted")


def _project_condition(project: str | None, own: Sequence[str]) -> tuple[str, list[Any]]:
    if project is not None:
        return "project = ?", [project]
    return (f"project NOT IN ({', '.join('?' * len(own))})", list(own)) if own else ("true", [])


def _one(cursor: Any, sql: str, values: Sequence[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] = cursor.execute(sql, list(values)).fetchall()[0]
    return row
