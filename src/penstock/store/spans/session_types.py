"""What is asked of sessions and users, and what is answered. Unknown is None; money is exact.

A session is what shares a `session_id`: a conversation over several traces, each of them a turn. A user is who is
named as `user_id` of the traces' roots. Traces that only bring a judgement are no turns.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import SpanStatus
from penstock.store.spans.types import TimeNs

SessionOrder = Literal["recent", "dearest", "longest", "failed"]
"""By the newest turn, by money, by turns, by failed turns; each the most first."""
N_SLICES = 24
"""Slices of a window in which the calls of a user are counted."""


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which sessions: those with a turn that started in `[since_ns, until_ns)`; None is no bound.

    The sums of a session are over all of its turns before `until_ns`, since one half of a talk tells little.
    """

    since_ns: TimeNs | None = None
    until_ns: TimeNs | None = None
    user_id: str | None = None
    """Sessions with a turn of this user."""
    text: str | None = None
    """A part of the session's id, case-blind."""
    order: SessionOrder = "recent"
    limit: int = 50
    cursor: str | None = None
    """`next_cursor` of the page before; opaque. It holds on to the window's end, so turns that come meanwhile move nothing."""


class ScoreSum(msgspec.Struct, frozen=True, kw_only=True):
    """The judgements of one name over what is summed."""

    name: str
    n: int
    mean: float | None
    """Of those with a number."""


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One session in a list."""

    session_id: str
    n_turns: int
    n_failed: int
    """Turns whose root failed."""
    n_spans: int
    first_ns: int
    last_ns: int
    """Start of the newest turn."""
    busy_ms: float | None
    """What its turns took together."""
    users: list[str]
    """Some of those who are named, at most five."""
    n_users: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    n_unpriced: int
    preview: str | None
    """The first characters of what was asked first."""
    last_preview: str | None
    scores: list[ScoreSum] = []


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions in the order that was asked for, and where the next page begins (None on the last)."""

    rows: list[SessionRow]
    next_cursor: str | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One trace of a session, with what its root was asked and what it answered."""

    trace_id: str
    root_id: str
    name: str
    kind: str
    route: str | None
    model: str | None
    status: SpanStatus
    error_code: str | None
    user_id: str | None
    start_ns: int
    duration_ms: float | None
    ttft_ms: float | None
    n_spans: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    n_unpriced: int
    input: Any = None
    output: Any = None
    is_large: bool = False
    """True when a payload was left out here for its size; the trace has it."""
    scores: list[SpanScore] = []


class TurnPage(msgspec.Struct, frozen=True, kw_only=True):
    """Turns, oldest first, and where the next page begins (None on the last)."""

    turns: list[Turn]
    next_cursor: str | None = None


class UserQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which users: those with a trace that started in `[since_ns, until_ns)`; sums are over these traces."""

    since_ns: TimeNs | None = None
    until_ns: TimeNs | None = None
    user_id: str | None = None
    """This user alone."""
    text: str | None = None
    """A part of the user's id, case-blind."""
    order: SessionOrder = "recent"
    limit: int = 50
    cursor: str | None = None


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """One user in a list."""

    user_id: str
    n_traces: int
    n_failed: int
    n_sessions: int
    first_ns: int
    last_ns: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    n_unpriced: int
    p95_ms: float | None
    """Of traces that did not fail."""
    calls: list[int]
    """Traces by slice from the first trace of the window's users to its end, oldest first."""
    failed: list[int]
    scores: list[ScoreSum] = []


class UserPage(msgspec.Struct, frozen=True, kw_only=True):
    """Users in the order that was asked for, and where the next page begins (None on the last)."""

    rows: list[UserRow]
    next_cursor: str | None = None
    since_ns: int | None = None
    """What the slices of all rows cover together; None where there is no row."""
    until_ns: int | None = None
