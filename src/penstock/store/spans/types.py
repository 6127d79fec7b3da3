"""What the span store is asked and what it answers. Unknown is None; money is exact."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from penstock.spec.search import All, Condition
from penstock.spec.spans import SpanKind, SpanStatus

TimeNs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


Order = Literal["newest", "oldest", "slowest", "dearest", "longest"]
"""`longest` has the most tokens; what is unknown comes last."""


class TraceQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which traces a list shows: those that started in `[since_ns, until_ns)` and satisfy `where`.

    The condition is asked of the trace's root span and of the trace's sums, as the field table says.
    """

    since_ns: TimeNs | None = None
    until_ns: TimeNs | None = None
    where: Condition = All()
    order: Order = "newest"
    limit: int = 50
    cursor: str | None = None
    """`next_cursor` of the page before, of the same order; opaque."""


class SpanQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which spans a list shows: those that started in `[since_ns, until_ns)` and satisfy `where`."""

    since_ns: TimeNs | None = None
    until_ns: TimeNs | None = None
    where: Condition = All()
    order: Order = "newest"
    limit: int = 50
    cursor: str | None = None


class TraceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trace in a list. Route, model, provider and name are the root span's."""

    trace_id: str
    name: str
    kind: SpanKind
    route: str | None = None
    model: str | None = None
    provider: str | None = None
    status: SpanStatus
    start_ns: int
    duration_ms: float | None = None
    n_spans: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    """Sum over the leaf `llm` and `embedding` spans that have a price; None if none has."""
    n_unpriced: int = 0
    """Leaf model calls without a known price: the sum above leaves them out."""
    ttft_ms: float | None = None
    preview: str | None = None
    """The first characters of what was asked."""
    key_id: str | None = None
    session_id: str | None = None
    error_code: str | None = None
    project: str = "default"
    user_id: str | None = None
    environment: str | None = None
    release: str | None = None
    agent: str | None = None
    """User, session, environment, release and agent are the root's or else the first that any span tells."""
    cache: str | None = None
    tags: list[str] = []
    """Of all spans."""
    n_model_calls: int = 0
    n_errors: int = 0
    """Spans that failed."""
    has_scores: bool = False
    models: list[str] = []
    """Of all spans, as a search by model asks."""
    providers: list[str] = []
    """Of all spans."""


class TracePage(msgspec.Struct, frozen=True, kw_only=True):
    """Traces in the order that was asked for, and where the next page begins (None on the last page)."""

    rows: list[TraceRow]
    next_cursor: str | None = None


class SpanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One span in a list."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    kind: SpanKind
    status: SpanStatus
    start_ns: int
    duration_ms: float | None = None
    error_code: str | None = None
    project: str = "default"
    service: str | None = None
    route: str | None = None
    provider: str | None = None
    model: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    ttft_ms: float | None = None
    preview: str | None = None


class SpanPage(msgspec.Struct, frozen=True, kw_only=True):
    """Spans in the order that was asked for, and where the next page begins (None on the last page)."""

    rows: list[SpanRow]
    next_cursor: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are; counting stops at a bound."""

    n: int
    is_more: bool
    """There are more than `n`."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What went in and came out of one span. `dropped` is True when it was once there."""

    input: object = None
    output: object = None
    dropped: bool = False


class ScoreQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which judgements: those that match every filter that is set."""

    trace_id: str | None = None
    """Of this trace or of a span of it."""
    session_id: str | None = None
    name: str | None = None
    project: str | None = None
    source: str | None = None
    """Who judged: `human`, `code`, `model`."""
    status: str | None = None
    since_ns: int | None = None
    limit: int = 1000


class ScoreRow(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement, its target, and the span that brought it."""

    name: str
    value: float | None
    label: str | None
    status: str
    source: str
    scorer: str | None
    identifier: str | None
    comment: str | None
    time_ns: int
    trace_id: str | None
    span_id: str | None
    session_id: str | None
    evidence: dict[str, Any]
    project: str
    by_trace_id: str
    by_span_id: str


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an overview: the calls that entered through one route (None: spans sent by clients).

    Sums and quantiles mean what they mean in `Overview`.
    """

    route: str | None
    n_calls: int
    n_errors: int
    cost_usd: Decimal | None
    n_unpriced: int
    input_tokens: int | None
    output_tokens: int | None
    n_without_usage: int
    p50_ms: float | None
    p95_ms: float | None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of an overview's time series; slices without calls are present with zeros."""

    start_ns: int
    n_calls: int
    n_errors: int
    cost_usd: Decimal | None
    n_unpriced: int
    n_without_usage: int
    p95_ms: float | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in `[since_ns, until_ns)`. A call is a trace, described by its root span.

    Sums are over what is known, and say beside them what they leave out. Latencies are of calls that did not
    fail: a refusal takes no time and would tell nothing of those that were answered.
    """

    since_ns: int
    until_ns: int
    n_calls: int
    n_errors: int
    cost_usd: Decimal | None
    n_unpriced: int
    """Leaf model calls without a known price."""
    input_tokens: int | None
    output_tokens: int | None
    n_without_usage: int
    """Calls of a model that told no count of tokens; those that were refused here used none."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p50_ttft_ms: float | None
    by_route: list[RouteRow]
    series: list[Bucket]
