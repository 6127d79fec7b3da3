"""What lists of traces and of spans share: orders, pages by keyset, cursors.

A page begins behind the last row of the page before, by its value and its id, so rows that arrive or go in between
neither repeat nor hide a row that stays as it is.

A search of text in order of time goes through windows of growing size and stops when the page is full. It reads in one
transaction, so that what is found by its text and what is listed are of the same moment.
"""

import base64
import binascii
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import duckdb
import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search import All, Condition, Words
from penstock.store.spans.duckdb_file import run
from penstock.store.spans.errors import InvalidCursor, SearchTooSlow
from penstock.store.spans.search_sql import Subject, compile_condition, find_reach
from penstock.store.spans.text_hits import FIRST_SLICE, TextHits, find_words, slices_of
from penstock.store.spans.text_known import KnownTexts
from penstock.store.spans.text_sql import Fragment
from penstock.store.spans.types import Count, SpanQuery, TraceQuery

MAX_PAGE = 1000
MAX_COUNT = 10_000
MAX_SEARCH_S = 30.0
_END = 2**63 - 1


class Listing(NamedTuple):
    """One kind of list."""

    subject: Subject
    table: str
    orders: Mapping[str, tuple[str, str]]
    """By order: the expression to sort by and its SQL type. All but `oldest` go downwards."""
    ids: tuple[tuple[str, str], ...]
    """Columns that make a row unique, and their SQL types; they settle ties."""


def read_page(
    cursor: Any, listing: Listing, columns: str, query: TraceQuery | SpanQuery, known: KnownTexts
) -> tuple[list[tuple[Any, ...]], str | None]:
    """Return the rows of one page (without the values that order them) and the cursor of the next."""
    limit = max(1, min(query.limit, MAX_PAGE))
    key, _ = listing.orders[query.order]
    direction = "ASC" if query.order == "oldest" else "DESC"
    after, bound = ("true", []) if query.cursor is None else _after(listing, query.order, query.cursor)
    ids = [name for name, _ in listing.ids]
    ordering = ", ".join(f"{name} {direction} NULLS LAST" for name in (key, *ids))
    marks = ", ".join(f"{name}::VARCHAR" for name in (key, *ids))
    rows: list[tuple[Any, ...]] = []
    mark = known.mark()
    with at_one_moment(cursor):
        for sql, values in _in_slices(cursor, listing, query, known, mark):
            rows += cursor.execute(
                f"SELECT {columns}, {marks} FROM {listing.table} WHERE {sql} AND {after} ORDER BY {ordering} LIMIT ?",  # noqa: S608 - names of ours
                [*values, *bound, limit + 1 - len(rows)],
            ).fetchall()
            if len(rows) > limit:
                break
    n_marks = 1 + len(ids)
    page = [row[:-n_marks] for row in rows[:limit]]
    following = _write_cursor(query.order, rows[limit - 1][-n_marks:]) if len(rows) > limit else None
    return page, following


def count_rows(
    cursor: Any,
    listing: Listing,
    query: TraceQuery | SpanQuery,
    known: KnownTexts,
    *,
    bound: int = MAX_COUNT,
) -> Count:
    """Return how many rows satisfy the query, up to `bound`."""
    found = 0
    query = msgspec.structs.replace(query, order="newest", cursor=None)
    mark = known.mark()
    with at_one_moment(cursor):
        for sql, values in _in_slices(cursor, listing, query, known, mark):
            found += cursor.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM {listing.table} WHERE {sql} LIMIT ?)",  # noqa: S608 - names of ours
                [*values, bound + 1 - found],
            ).fetchall()[0][0]
            if found > bound:
                break
    return Count(n=min(found, bound), is_more=found > bound)


@contextmanager
def at_one_moment(cursor: Any) -> Iterator[None]:
    """Read the same state within; what was put into temporary tables is gone afterwards.

    A search that takes too long is ended, so that it cannot hold up all others.
    """
    timer = threading.Timer(MAX_SEARCH_S, cursor.interrupt)
    timer.daemon = True
    timer.start()
    run(cursor, "BEGIN")
    try:
        yield
    except (
        duckdb.InvalidInputException
    ) as error:  # a regular expression that RE2 refuses, mostly for its size
        raise InvalidInput(f"The search cannot be carried out: {error}") from error
    except (
        duckdb.ConversionException
    ) as error:  # what a search compares is bound as it is, so it was the cursor
        raise _foreign_cursor() from error
    except duckdb.InterruptException as error:
        raise SearchTooSlow(
            f"The search takes longer than {MAX_SEARCH_S:.0f} seconds.",
            hint="Look at a shorter time, or ask for less at once.",
        ) from error
    finally:
        timer.cancel()
        with suppress(duckdb.Error):  # a failed statement ends it
            run(cursor, "ROLLBACK")


def _in_slices(
    cursor: Any, listing: Listing, query: TraceQuery | SpanQuery, known: KnownTexts, mark: int
) -> Iterator[Fragment]:
    """Yield the conditions of a query, window by window in its order, so that one can stop when there is enough.

    Only searches of text are worth it, and only orders of time can stop early.
    """
    words = find_words(query.where)
    if not words:
        yield _filter_rows(cursor, listing, query, {})
        return
    hits = TextHits(cursor, words, known, mark) if listing.subject == "trace" else None
    for since_ns, until_ns in _windows(cursor, listing, query):
        if hits is not None:
            hits.cover(since_ns, until_ns)
        part = msgspec.structs.replace(query, since_ns=since_ns, until_ns=until_ns)
        yield _filter_rows(cursor, listing, part, {} if hits is None else hits.places)


def _windows(cursor: Any, listing: Listing, query: TraceQuery | SpanQuery) -> Iterator[tuple[int, int]]:
    since_ns, until_ns = query.since_ns or 0, _END if query.until_ns is None else query.until_ns
    if query.order not in {"newest", "oldest"}:
        yield since_ns, until_ns
        return
    is_upward = query.order == "oldest"
    if query.cursor is not None:
        mark = int(_read_cursor(query.cursor, query.order, 1 + len(listing.ids))[0] or 0)
        since_ns, until_ns = (
            (max(since_ns, mark), until_ns) if is_upward else (since_ns, min(until_ns, mark + 1))
        )
    first = FIRST_SLICE if listing.subject == "trace" else FIRST_SLICE * 5
    yield from slices_of(cursor, listing.table, since_ns, until_ns, is_upward=is_upward, first=first)


def _filter_rows(
    cursor: Any, listing: Listing, query: TraceQuery | SpanQuery, hits: Mapping[Words, int]
) -> Fragment:
    """Return the window and the condition of a query as SQL."""
    pieces: list[str] = []
    values: list[Any] = []
    for sign, moment in ((">=", query.since_ns), ("<", query.until_ns)):
        if moment is not None:
            pieces.append(f"{listing.table}.start_ns {sign} ?")
            values.append(moment)
    reach = find_reach(cursor, query.since_ns, query.until_ns) if _needs_reach(query.where) else None
    sql, bound = compile_condition(query.where, listing.subject, reach=reach, hits=hits)
    return " AND ".join([*pieces, sql]), [*values, *bound]


def _needs_reach(where: Condition) -> bool:
    """Return whether other rows than the one in question may be asked."""
    return where != All()


def _after(listing: Listing, order: str, text: str) -> Fragment:
    """Return the condition that a row comes after the one that `text` marks."""
    key, *ids = _read_cursor(text, order, 1 + len(listing.ids))
    column, key_type = listing.orders[order]
    sign = ">" if order == "oldest" else "<"
    names = ", ".join(f"{listing.table}.{name}" for name, _ in listing.ids)
    marks = ", ".join(f"?::{sql_type}" for _, sql_type in listing.ids)
    later = f"({names}) {sign} ({marks})"
    if key is None:
        return f"({column} IS NULL AND {later})", ids
    bound = f"?::{key_type}"
    return (
        f"({column} {sign} {bound} OR ({column} = {bound} AND {later}) OR {column} IS NULL)",
        [key, key, *ids],
    )


def _write_cursor(order: str, marks: Sequence[str | None]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([order, *marks])).decode().rstrip("=")


def _read_cursor(text: str, order: str, size: int) -> list[str | None]:
    try:
        padded = text + "=" * (-len(text) % 4)
        found = msgspec.json.decode(base64.urlsafe_b64decode(padded.encode()), type=list[str | None])
    except (binascii.Error, UnicodeError, ValueError, msgspec.MsgspecError):
        found = []
    if len(found) != size + 1 or found[0] != order or None in found[2:]:
        raise _foreign_cursor()
    return found[1:]


def _foreign_cursor() -> InvalidCursor:
    return InvalidCursor("The cursor is not from this list.", hint="Begin again without one.")
