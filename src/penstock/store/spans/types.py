"""What the span store is asked and what it answers. Unknown is None; money is exact."""

from decimal import Decimal
from typing import Annotated

import msgspec

from penstock.spec.spans import SpanKind, SpanStatus

TimeNs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TraceQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Filters of a trace list; None means "any". All that are set must hold.

    `route`, `model`, `provider`, `status`, `kind` and `key_id` are compared with the root span; `model`
    and `provider` also match any span of the trace. `text` is searched, case-blind, in names and payloads.
    """

    since_ns: TimeNs | None = None
    until_ns: TimeNs | None = None
    """Traces that started in `[since_ns, until_ns)`."""
    route: str | None = None
    model: str | None = None
    provider: str | None = None
    status: SpanStatus | None = None
    kind: SpanKind | None = None
    text: str | None = None
    min_duration_ms: float | None = None
    key_id: str | None = None
    session_id: str | None = None
    limit: int = 50
    cursor: str | None = None
    """`next_cursor` of the page before; opaque."""


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


class TracePage(msgspec.Struct, frozen=True, kw_only=True):
    """Traces, newest first, and where the next page begins (None on the last page)."""

    rows: list[TraceRow]
    next_cursor: str | None = None


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What went in and came out of one span. `dropped` is True when it was once there."""

    input: object = None
    output: object = None
    dropped: bool = False


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
