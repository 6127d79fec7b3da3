"""The span store's ports: what collectors write to and readers ask. Types in and out, no engine's words."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from penstock.spec.measures import Example, MetricQuery, MetricTable
from penstock.spec.spans import Span
from penstock.store.spans.ledger_types import CostDimension, CostQuery, CostRow, LedgerRow, Traffic
from penstock.store.spans.session_types import (
    SessionPage,
    SessionQuery,
    SessionRow,
    TurnPage,
    UserPage,
    UserQuery,
)
from penstock.store.spans.skeleton import Skeleton
from penstock.store.spans.traffic_queries import TrafficBy, TrafficRow
from penstock.store.spans.types import (
    Count,
    Overview,
    Payload,
    ScoreQuery,
    ScoreRow,
    SpanPage,
    SpanQuery,
    TracePage,
    TraceQuery,
    TraceRow,
)
from penstock.store.spans.upkeep_types import (
    CallWindow,
    Compaction,
    Expired,
    RetentionRule,
    Subject,
    SubjectRows,
)


class SpanSink(Protocol):
    """The writing half: what a collector needs."""

    def append(self, spans: Sequence[Span]) -> int:
        """Store spans and return how many were new; all of them are durable and searchable on return.

        A span is known by (trace_id, span_id). The same record again changes nothing; a more complete
        record of the same span (its end, its status, its payload became known) replaces the old one.
        """
        ...

    def rewrite(self, spans: Sequence[Span]) -> int:
        """Store spans as they are in place of what is stored of them; return how many were new.

        For those who know better than the record, such as a newer mapping. Where a span brings no input or output, the
        stored one stays.
        """
        ...


class TraceReader(Protocol):
    """Single traces. Every method may be called from any thread."""

    def get_summary(self, trace_id: str) -> TraceRow | None:
        """Return the trace's row as lists show it, or None when unknown."""
        ...

    def get_skeleton(self, trace_id: str) -> Skeleton:
        """Return what drawing the tree of a trace needs, as columns; of no spans when it is unknown."""
        ...

    def get_trace(self, trace_id: str) -> list[Span]:
        """Return the trace's spans by start time, without payloads; empty when unknown."""
        ...

    def get_spans(self, trace_id: str, span_ids: Sequence[str]) -> list[Span]:
        """Return those of the trace's spans, by start time, without payloads; unknown ids are left out."""
        ...

    def get_payload(self, trace_id: str, span_id: str) -> Payload:
        """Return what went in and out of one span; raise `NotFound` when the span is unknown."""
        ...


class ScoreReader(Protocol):
    """Judgements of spans, traces and sessions. Every method may be called from any thread."""

    def list_scores(self, query: ScoreQuery) -> list[ScoreRow]:
        """Return the judgements that match, the latest first."""
        ...


class SpanUpkeep(Protocol):
    """What is done to stored spans as a whole. Every method may be called from any thread, while spans come in."""

    def expire(self, rules: Sequence[RetentionRule], *, max_spans: int) -> Expired:
        """Delete what the rules say is too old, no more than about `max_spans` at once; call again until it is done.

        Traces go as a whole, when their last span is too old. Rows of the ledger stay.
        """
        ...

    def find_subject(self, subject: Subject) -> SubjectRows:
        """Return what is stored of a user, session or trace."""
        ...

    def erase(self, subject: Subject) -> SubjectRows:
        """Delete what `find_subject` finds and return what that was.

        The ledger keeps what was paid, without user, session and traces of the content. The file may hold the bytes
        until `compact`.
        """
        ...

    def compact(self) -> Compaction:
        """Write everything anew in order of time; nothing of what was deleted is left in the file."""
        ...

    def back_up(self, destination: Path) -> int:
        """Write a copy of the store as it is now to a new file and return its size in bytes."""
        ...


class SubjectReader(Protocol):
    """What upkeep has to know beside spans. Every method may be called from any thread."""

    def count_old(self, rules: Sequence[RetentionRule]) -> Expired:
        """Return what `SpanUpkeep.expire` would delete in all."""
        ...

    def read_ledger(self, subject: Subject, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the ledger's rows that name the subject or are of these traces, oldest first, as JSON values."""
        ...

    def read_scores(self, subject: Subject, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the judgements of these traces, of the session, and those a user made, oldest first, as JSON values."""
        ...

    def find_calls(self, trace_ids: Sequence[str]) -> list[CallWindow]:
        """Return when the gateway was asked in these traces, by project and route."""
        ...

    def find_ids(self, kind: str, is_wanted: Callable[[str], bool]) -> list[str]:
        """Return the users, sessions or traces of which anything is stored and that are wanted."""
        ...


class SpanScan(Protocol):
    """Going through stored spans. May be called from any thread."""

    def scan_foreign(
        self, before_version: int, after: tuple[int, str, str] | None, *, limit: int
    ) -> tuple[list[Span], tuple[int, str, str] | None]:
        """Return spans that somebody sent and an older mapping read, oldest first, and where to go on (None: the end)."""
        ...


class SpanStore(SpanSink, TraceReader, Protocol):
    """Durable, searchable spans. Every method may be called from any thread."""

    def list_traces(self, query: TraceQuery) -> TracePage:
        """Return traces, newest first. Following `next_cursor` never repeats or skips a trace."""
        ...

    def overview(self, since_ns: int, until_ns: int) -> Overview:
        """Return counts, money and latency of the traces that started in `[since_ns, until_ns)`."""
        ...

    def list_route_traffic(self, by: TrafficBy, since_ns: int, until_ns: int) -> list[TrafficRow]:
        """Return the calls of each route, or the requests to each provider, in `[since_ns, until_ns)`."""
        ...


class Ledger(Protocol):
    """What was billed, one row a call, kept when traces are deleted. Every method may be called from any thread."""

    def sum_costs(self, query: CostQuery, by: Sequence[CostDimension]) -> list[CostRow]:
        """Return the sums of each group, the dearest first; one row of everything where `by` is empty."""
        ...

    def find_billed(self, identity: str) -> list[LedgerRow]:
        """Return the billed calls of a trace (32 hex characters), or the one of a span (16); empty when unknown."""
        ...

    def list_traffic(self, query: CostQuery, *, limit: int) -> list[Traffic]:
        """Return the newest `limit` calls that were sent to a provider, oldest first."""
        ...


class Sessions(Protocol):
    """Conversations over several traces, and who led them. Every method may be called from any thread.

    Following `next_cursor` never repeats or skips a session, user or turn that was there at the first page, unless
    spans of an earlier time come in late.
    """

    def list_sessions(self, query: SessionQuery) -> SessionPage:
        """Return one page of sessions with a turn in the window; raise `InvalidCursor` for a foreign cursor."""
        ...

    def get_session(self, session_id: str) -> SessionRow | None:
        """Return a session with the sums over all of its turns, or None when it has none."""
        ...

    def list_turns(self, session_id: str, *, limit: int, cursor: str | None = None) -> TurnPage:
        """Return turns of a session, oldest first; empty when it is unknown."""
        ...

    def list_users(self, query: UserQuery) -> UserPage:
        """Return one page of users with a trace in the window, with the sums over it."""
        ...


class TraceLists(Protocol):
    """Lists of traces and spans by search. Every method may be called from any thread.

    Following `next_cursor` never repeats or skips a row that stays as it is, whatever arrives in between.
    """

    def list_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of traces; raise `InvalidCursor` for a foreign cursor."""
        ...

    def list_spans(self, query: SpanQuery) -> SpanPage:
        """Return one page of spans; raise `InvalidCursor` for a foreign cursor."""
        ...

    def count(self, query: TraceQuery | SpanQuery) -> Count:
        """Return how many satisfy the query, counting up to a bound."""
        ...

    def complete(self, field: str, start: str, *, limit: int) -> list[tuple[str, int]]:
        """Return values of `field` that begin with `start`, and how many of the newest spans have each.

        Of `attr.`, `score.` and `version.` the names that there are.
        """
        ...


class SpanExport(Protocol):
    """Whole spans with their payloads. Every method may be called from any thread."""

    def read_traces(self, trace_ids: Sequence[str]) -> list[Span]:
        """Return all spans of these traces, trace by trace and by start time; unknown ids are left out."""
        ...

    def read_spans(self, keys: Sequence[tuple[str, str]]) -> list[Span]:
        """Return these spans (trace id, span id), trace by trace and by start time; unknown ones are left out."""
        ...

    def weigh_traces(self, trace_ids: Sequence[str]) -> list[tuple[str, str, int]]:
        """Return what `read_traces` would, as trace id, span id and bytes of text."""
        ...

    def weigh_spans(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str, int]]:
        """Return what `read_spans` would, as trace id, span id and bytes of text."""
        ...


class Measures(Protocol):
    """Numbers over many spans. Every method may be called from any thread."""

    def measure(self, query: MetricQuery) -> MetricTable:
        """Return the measures of each group and slice; raise `InvalidInput` for a query that means nothing."""
        ...

    def find_examples(self, query: MetricQuery, *, limit: int, lowest: bool = False) -> list[Example]:
        """Return spans of the window that the query's first measure rests on, the worst (highest) first."""
        ...

    def list_values(self, dimension: str, since_ns: int, until_ns: int, *, limit: int) -> list[str]:
        """Return what spans of the window have in a dimension, the most frequent first."""
        ...
