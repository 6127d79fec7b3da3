"""Reading SQL of sessions and users: one narrow pass that finds a page of ids, then all there is about these few.

Values are always bound; only names from this file are spliced. The surprise: a cursor carries the end of the first
page's window, so that turns which come while somebody turns pages cannot lift a session over the edge between two.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.scores import SpanScore
from penstock.store.spans.duckdb_file import DuckDBFile
from penstock.store.spans.errors import InvalidCursor
from penstock.store.spans.rows import is_hex, plain_decimal
from penstock.store.spans.session_types import (
    N_SLICES,
    ScoreSum,
    SessionOrder,
    SessionPage,
    SessionQuery,
    SessionRow,
    Turn,
    TurnPage,
    UserPage,
    UserQuery,
    UserRow,
)

MAX_PAGE = 500
MAX_TURNS = 200
MAX_PAYLOAD = 64_000
"""Characters of JSON; a longer payload is not shown among the turns of a session."""
_MAX_NS = 2**63 - 1
_Subject = Literal["session_id", "user_id"]
_IS_TURN = "kind <> 'evaluation'"
_RANK: dict[SessionOrder, tuple[str, str]] = {
    "recent": ("max(start_ns)", "BIGINT"),
    "dearest": ("coalesce(sum(cost_usd), -1)", "DECIMAL(38,18)"),
    "longest": ("count(*)", "BIGINT"),
    "failed": ("count(*) FILTER (WHERE status = 'error')", "BIGINT"),
}
"""What sessions and users are ordered by, and its type."""
_SUMS = (
    "count(*), count(*) FILTER (WHERE status = 'error'), min(start_ns), max(start_ns),"
    " sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT, sum(cost_usd), coalesce(sum(n_unpriced), 0)::BIGINT"
)
_TURN_FIELDS = Turn.__struct_fields__[: Turn.__struct_fields__.index("input")]
_TURN_SQL = {"trace_id": "replace(t.trace_id::VARCHAR, '-', '')"}
_SCORE_FIELDS = (
    "name",
    "value",
    "label",
    "status",
    "source",
    "scorer",
    "identifier",
    "comment",
    "time_ns",
    "session_id",
)


class DuckDBSessions:
    """Sessions and users in the span store's file. See `Sessions` for what the methods promise."""

    def __init__(self, file: DuckDBFile) -> None:
        self._file = file

    def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of sessions; raise `InvalidCursor` for a foreign cursor."""
        with self._file.cursor() as cursor:
            page = _find_page(cursor, "session_id", query)
            rows = {row.session_id: row for row in _session_rows(cursor, page)}
            return SessionPage(
                rows=[rows[each] for each in page.ids if each in rows], next_cursor=page.next_cursor
            )

    def get_session(self, session_id: str) -> SessionRow | None:
        """Return a session with the sums over all of its turns, or None when it has none."""
        with self._file.cursor() as cursor:
            found = _session_rows(cursor, _Found(ids=[session_id], until_ns=_MAX_NS))
            return found[0] if found else None

    def list_turns(self, session_id: str, *, limit: int, cursor: str | None = None) -> TurnPage:
        """Return turns of a session, oldest first; raise `InvalidCursor` for a foreign cursor."""
        size = max(1, min(limit, MAX_TURNS))
        after = _read_turn_cursor(cursor) if cursor is not None else (-1, "0" * 32)
        with self._file.cursor() as reader:
            turns = _turns(reader, session_id, after, size + 1)
        shown = turns[:size]
        more = _write_cursor([shown[-1].start_ns, shown[-1].trace_id]) if len(turns) > size else None
        return TurnPage(turns=shown, next_cursor=more)

    def list_users(self, query: UserQuery) -> UserPage:
        """Return one page of users; raise `InvalidCursor` for a foreign cursor."""
        with self._file.cursor() as cursor:
            page = _find_page(cursor, "user_id", query)
            if not page.ids:
                return UserPage(rows=[])
            since_ns = query.since_ns if query.since_ns is not None else _first_ns(cursor, page)
            rows = {row.user_id: row for row in _user_rows(cursor, page, since_ns)}
            return UserPage(
                rows=[rows[each] for each in page.ids if each in rows],
                next_cursor=page.next_cursor,
                since_ns=since_ns,
                until_ns=page.until_ns,
            )


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of one page, and the end of the window that holds for this page and all after it."""

    ids: list[str]
    until_ns: int
    next_cursor: str | None = None


def _find_page(cursor: Any, subject: _Subject, query: SessionQuery | UserQuery) -> _Found:
    rank, rank_type = _RANK[query.order]
    until_ns, after = _start_of(cursor, query)
    limit = max(1, min(query.limit, MAX_PAGE))
    where = [f"{subject} IS NOT NULL", _IS_TURN, "start_ns < ?"]
    values: list[Any] = [until_ns]
    having: list[str] = []
    tests: list[Any] = []
    if query.text:
        where.append(f"contains(lower({subject}), lower(?))")
        values.append(query.text)
    if query.user_id is not None and subject == "user_id":
        where.append("user_id = ?")
        values.append(query.user_id)
    elif query.user_id is not None:
        having.append("bool_or(user_id = ?)")
        tests.append(query.user_id)
    if query.since_ns is not None and subject == "user_id":
        where.append("start_ns >= ?")
        values.append(query.since_ns)
    elif query.since_ns is not None:
        having.append("max(start_ns) >= ?")
        tests.append(query.since_ns)
    if after is not None:
        having.append(f"({rank} < ?::{rank_type} OR ({rank} = ?::{rank_type} AND {subject} > ?))")
        tests += [after[0], *after]
    rows = cursor.execute(
        f"SELECT {subject}, {rank}::{rank_type}::VARCHAR FROM traces WHERE {' AND '.join(where)} GROUP BY {subject}"  # noqa: S608 - names of ours
        f" {'HAVING ' + ' AND '.join(having) if having else ''} ORDER BY {rank} DESC, {subject} LIMIT ?",
        [*values, *tests, limit + 1],
    ).fetchall()
    shown = rows[:limit]
    last = shown[-1] if len(rows) > limit else None
    return _Found(
        ids=[row[0] for row in shown],
        until_ns=until_ns,
        next_cursor=_write_cursor([query.order, until_ns, last[1], last[0]]) if last else None,
    )


def _start_of(cursor: Any, query: SessionQuery | UserQuery) -> tuple[int, tuple[str, str] | None]:
    """Return the window's end and after which value and id the page begins."""
    if query.cursor is None:
        if query.until_ns is not None:
            return query.until_ns, None
        newest = cursor.execute("SELECT max(start_ns) FROM traces").fetchall()[0][0]
        return 0 if newest is None else min(newest + 1, _MAX_NS), None
    match _read_cursor(query.cursor):
        case [order, int(until_ns), str(value), str(last)] if order == query.order and _is_number(value):
            return until_ns, (value, last)
    raise _foreign()


def _session_rows(cursor: Any, page: _Found) -> list[SessionRow]:
    rows = cursor.execute(
        f"SELECT session_id, {_SUMS}, sum(n_spans)::BIGINT, sum(duration_ms),"  # noqa: S608 - names of ours
        " list(DISTINCT user_id) FILTER (WHERE user_id IS NOT NULL), arg_min(preview, start_ns),"
        f" arg_max(preview, start_ns) FROM traces WHERE {_IS_TURN} AND start_ns < ?"
        " AND session_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY session_id",
        [page.until_ns, page.ids],
    ).fetchall()
    scores = _score_sums(cursor, "session_id", page, 0)
    return [
        SessionRow(
            session_id=session_id,
            n_turns=n_turns,
            n_failed=n_failed,
            first_ns=first_ns,
            last_ns=last_ns,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost_usd=plain_decimal(cost),
            n_unpriced=n_unpriced,
            n_spans=n_spans,
            busy_ms=busy_ms,
            users=sorted(users or ())[:5],
            n_users=len(users or ()),
            preview=first,
            last_preview=last,
            scores=scores.get(session_id, []),
        )
        for (
            session_id,
            n_turns,
            n_failed,
            first_ns,
            last_ns,
            tokens_in,
            tokens_out,
            cost,
            n_unpriced,
            n_spans,
            busy_ms,
            users,
            first,
            last,
        ) in rows
    ]


def _user_rows(cursor: Any, page: _Found, since_ns: int) -> list[UserRow]:
    width = max(1, -(-(page.until_ns - since_ns) // N_SLICES))
    rows = cursor.execute(
        f"SELECT user_id, {_SUMS}, count(DISTINCT session_id),"  # noqa: S608 - names of ours
        " quantile_cont(duration_ms, 0.95) FILTER (WHERE status <> 'error'),"
        " list((start_ns - ?) // ?), list((start_ns - ?) // ?) FILTER (WHERE status = 'error')"
        f" FROM traces WHERE {_IS_TURN} AND start_ns >= ? AND start_ns < ?"
        " AND user_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY user_id",
        [since_ns, width, since_ns, width, since_ns, page.until_ns, page.ids],
    ).fetchall()
    scores = _score_sums(cursor, "user_id", page, since_ns)
    return [
        UserRow(
            user_id=user_id,
            n_traces=n_traces,
            n_failed=n_failed,
            first_ns=first_ns,
            last_ns=last_ns,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost_usd=plain_decimal(cost),
            n_unpriced=n_unpriced,
            n_sessions=n_sessions,
            p95_ms=p95_ms,
            calls=_count(slots),
            failed=_count(bad),
            scores=scores.get(user_id, []),
        )
        for (
            user_id,
            n_traces,
            n_failed,
            first_ns,
            last_ns,
            tokens_in,
            tokens_out,
            cost,
            n_unpriced,
            n_sessions,
            p95_ms,
            slots,
            bad,
        ) in rows
    ]


def _turns(cursor: Any, session_id: str, after: tuple[int, str], limit: int) -> list[Turn]:
    fields = ", ".join(_TURN_SQL.get(name, f"t.{name}") for name in _TURN_FIELDS)
    rows = cursor.execute(
        f"SELECT {fields} FROM traces t WHERE session_id = ? AND {_IS_TURN}"  # noqa: S608 - names of ours
        " AND (start_ns > ? OR (start_ns = ? AND trace_id > ?::UUID)) ORDER BY start_ns, t.trace_id LIMIT ?",
        [session_id, after[0], after[0], after[1], limit],
    ).fetchall()
    if not rows:
        return []
    found = [dict(zip(_TURN_FIELDS, row, strict=True)) for row in rows]
    payloads = _payloads(cursor, found)
    scores = _scores_of_traces(cursor, [each["trace_id"] for each in found])
    turns = []
    for each in found:
        given, answer, is_large = payloads.get((each["trace_id"], each["root_id"]), (None, None, False))
        each["root_id"] = f"{each['root_id']:016x}"
        each["cost_usd"] = plain_decimal(each["cost_usd"])
        turns.append(
            Turn(
                **each, input=given, output=answer, is_large=is_large, scores=scores.get(each["trace_id"], [])
            )
        )
    return turns


def _payloads(cursor: Any, turns: Sequence[dict[str, Any]]) -> dict[tuple[str, int], tuple[Any, Any, bool]]:
    """Return what went in and out of the roots, without what is too long to be read in a list."""
    starts = [each["start_ns"] for each in turns]
    rows = cursor.execute(
        "SELECT replace(trace_id::VARCHAR, '-', ''), span_id,"
        " CASE WHEN length(input) <= ? THEN input END, CASE WHEN length(output) <= ? THEN output END,"
        " coalesce(length(input) > ?, false) OR coalesce(length(output) > ?, false)"
        " FROM payloads WHERE start_ns BETWEEN ? AND ?"
        " AND trace_id IN (SELECT unnest(?::UUID[])) AND span_id IN (SELECT unnest(?::UBIGINT[]))",
        [
            *[MAX_PAYLOAD] * 4,
            min(starts),
            max(starts),
            [each["trace_id"] for each in turns],
            [each["root_id"] for each in turns],
        ],
    ).fetchall()
    return {(row[0], row[1]): (_decoded(row[2]), _decoded(row[3]), row[4]) for row in rows}


def _score_sums(cursor: Any, subject: _Subject, page: _Found, since_ns: int) -> dict[str, list[ScoreSum]]:
    """Return the judgements of the traces of each session or user, and of sessions as a whole, by name."""
    if not page.ids:
        return {}
    of_session = (
        " UNION ALL SELECT session_id, name, value FROM scores WHERE trace_id IS NULL"
        " AND session_id IN (SELECT unnest(?::VARCHAR[]))"
    )
    rows = cursor.execute(
        f"SELECT who, name, count(*), avg(value) FROM (SELECT t.{subject} AS who, s.name, s.value FROM scores s"  # noqa: S608 - names of ours
        f" JOIN traces t ON t.trace_id = s.trace_id WHERE t.{subject} IN (SELECT unnest(?::VARCHAR[]))"
        f" AND t.start_ns >= ? AND t.start_ns < ?{of_session if subject == 'session_id' else ''})"
        " GROUP BY who, name ORDER BY who, name",
        [page.ids, since_ns, page.until_ns, *([page.ids] if subject == "session_id" else [])],
    ).fetchall()
    found: dict[str, list[ScoreSum]] = {}
    for who, name, n, mean in rows:
        found.setdefault(who, []).append(ScoreSum(name=name, n=n, mean=mean))
    return found


def _scores_of_traces(cursor: Any, trace_ids: Iterable[str]) -> dict[str, list[SpanScore]]:
    rows = cursor.execute(
        f"SELECT replace(trace_id::VARCHAR, '-', ''), span_id, {', '.join(_SCORE_FIELDS)} FROM scores"  # noqa: S608 - names of ours
        " WHERE trace_id IN (SELECT unnest(?::UUID[])) ORDER BY time_ns, name",
        [list(trace_ids)],
    ).fetchall()
    found: dict[str, list[SpanScore]] = {}
    for trace_id, span_id, *cells in rows:
        fields = dict(zip(_SCORE_FIELDS, cells, strict=True))
        score = SpanScore(
            trace_id=trace_id, span_id=f"{span_id:016x}" if isinstance(span_id, int) else span_id, **fields
        )
        found.setdefault(trace_id, []).append(score)
    return found


def _first_ns(cursor: Any, page: _Found) -> int:
    found = cursor.execute(
        f"SELECT min(start_ns) FROM traces WHERE {_IS_TURN} AND user_id IN (SELECT unnest(?::VARCHAR[]))",  # noqa: S608 - names of ours
        [page.ids],
    ).fetchall()
    return int(found[0][0] or 0)


def _count(slots: list[int] | None) -> list[int]:
    counts = [0] * N_SLICES
    for slot in slots or ():
        counts[min(max(int(slot), 0), N_SLICES - 1)] += 1
    return counts


def _decoded(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _write_cursor(parts: list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def _read_cursor(text: str) -> list[Any]:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, UnicodeError):
        raise _foreign() from None
    return found if isinstance(found, list) else []


def _read_turn_cursor(text: str) -> tuple[int, str]:
    match _read_cursor(text):
        case [int(start_ns), str(trace_id)] if 0 <= start_ns <= _MAX_NS and is_hex(trace_id, 32):
            return start_ns, trace_id
    raise _foreign()


def _is_number(text: str) -> bool:
    try:
        return len(text) < 60 and abs(Decimal(text)) < _MAX_NS
    except ArithmeticError:
        return False


def _foreign() -> InvalidCursor:
    return InvalidCursor("The cursor is not from this list.", hint="Begin again without one.")
