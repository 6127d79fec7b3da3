"""What pages, REST and the command line ask about many traces or spans: lists, counts, completion."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search_fields import FIELDS, PREFIXES
from penstock.store.spans.port import TraceLists
from penstock.store.spans.types import Count, SpanPage, SpanQuery, TracePage, TraceQuery
from penstock.traces.search import Completion, complete

N_VALUES = 20
REMEMBERED_S = 20.0
MAX_REMEMBERED = 200
_Query = TypeVar("_Query", TraceQuery, SpanQuery)


class FieldInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the search language, for people."""

    name: str
    type: str
    help: str
    example: str
    aliases: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    of_trace: str = "any"


class TraceListService:
    """Lists, counts and completes over a span store. Every method may be called from any thread."""

    def __init__(self, lists: TraceLists, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lists = lists
        self._clock = clock
        self._remembered: dict[tuple[str, str], tuple[float, Sequence[tuple[str, int]]]] = {}

    def list_traces(self, query: TraceQuery | None = None) -> TracePage:
        """Return one page of traces; raise `InvalidInput` for a window that ends before it begins."""
        return self._lists.list_traces(_checked(query or TraceQuery()))

    def list_spans(self, query: SpanQuery | None = None) -> SpanPage:
        """Return one page of spans; raise `InvalidInput` for a window that ends before it begins."""
        return self._lists.list_spans(_checked(query or SpanQuery()))

    def count(self, query: TraceQuery | SpanQuery) -> Count:
        """Return how many satisfy the query, up to a bound."""
        checked = _checked(query) if isinstance(query, TraceQuery) else _checked(query)  # noqa: RUF034 - two types, two calls
        return self._lists.count(checked)

    def complete(self, text: str, cursor: int) -> list[Completion]:
        """Return what can stand at `cursor` of a search, with values that the newest spans have."""
        return complete(text, cursor, values=self._values)

    def _values(self, field: str, start: str) -> Sequence[tuple[str, int]]:
        """Ask the store at most once in a while for the same: people type one letter after the other."""
        key, now = (field, start), self._clock()
        known = self._remembered.get(key)
        if known is not None and now - known[0] < REMEMBERED_S:
            return known[1]
        found = self._lists.complete(field, start, limit=N_VALUES)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = (now, found)
        return found


def list_fields() -> list[FieldInfo]:
    """Return every field that a search can ask for, and the beginnings of names that are not in the table."""
    fields = [
        FieldInfo(
            name=field.name,
            type=field.type,
            help=field.help,
            example=field.example,
            aliases=field.aliases,
            values=field.values,
            of_trace=field.of_trace,
        )
        for field in FIELDS
    ]
    open_names = [
        FieldInfo(name=f"{start}…", type="any", help=text, example=example)
        for start, text, example in PREFIXES
    ]
    return fields + open_names


def _checked(query: _Query) -> _Query:
    if query.since_ns is not None and query.until_ns is not None and query.since_ns > query.until_ns:
        raise InvalidInput("The time window ends before it begins.", hint="Swap `since` and `until`.")
    return query
