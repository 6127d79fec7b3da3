"""What upkeep of the span store is told and what it answers."""

from typing import Literal

import msgspec


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is too old in one project; a rule without project is for all that have none of their own."""

    project: str | None = None
    payloads_before_ns: int | None = None
    """Inputs and outputs of spans that started before this go; None keeps them as long as their spans."""
    spans_before_ns: int | None = None
    """Traces whose last span started before this go; None keeps them."""


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What one call deleted."""

    n_payloads: int
    n_spans: int
    n_traces: int
    is_done: bool
    """Whether nothing is left that the rules call too old."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose or which record: of a user, of a session, or one trace."""

    kind: Literal["user", "session", "trace"]
    id: str


class SubjectRows(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a subject: every trace in which a span names it, whole, and every judgement that it made."""

    trace_ids: list[str]
    n_spans: int
    n_payloads: int
    n_scores: int
    n_ledger_rows: int
    """Rows of the ledger that name the subject or are of these traces."""


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """What writing the store anew brought."""

    size_before: int
    size_after: int
    n_spans: int


class CallWindow(msgspec.Struct, frozen=True, kw_only=True):
    """When calls of a subject went to one route: replies that were kept then may be theirs."""

    project: str
    route: str
    spans_ns: list[tuple[int, int | None]]
    """Start and end of each; None where the end was never seen."""
