"""The canonical span: one thing that happened, with its parents, versions, usage and money.

OpenTelemetry's words; attribute names follow the GenAI semantic conventions where they exist. The same
record is written to the spool by gateways and apps and stored by the collector.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.usage import Usage

SpanKind = Literal[
    "llm",
    "embedding",
    "attempt",
    "app",
    "chain",
    "agent",
    "retrieval",
    "rerank",
    "tool",
    "guard",
    "job",
    "evaluation",
    "http",
    "internal",
]
"""`attempt` is a request to a provider that did not serve its call and may be charged for all the same."""
SpanStatus = Literal["ok", "error", "unset"]
FOREIGN_MARK = "penstock.mapping"
"""Attribute of every span that was sent to us, whatever its sender wrote there; our own processes' spans have none."""


class SpanEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something at one moment within a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any] = {}


class SpanLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another span that this one has to do with, other than as parent or child."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One span. Ids are lower-case hex (32 and 16 characters); times are nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    kind: SpanKind = "internal"
    start_ns: int
    end_ns: int | None = None
    """None while the span is open or when its end was never seen."""
    status: SpanStatus = "unset"
    status_message: str | None = None
    error_code: str | None = None
    project: str = "default"
    service: str | None = None
    """The process or program that made it: `gateway`, `apps`, or the client's `service.name`."""
    environment: str | None = None
    """Where it ran, such as `production`: `deployment.environment.name`."""
    release: str | None = None
    """The version of the program: `service.version`."""
    scope: str | None = None
    """The instrumentation that made it, with its version."""
    key_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    route: str | None = None
    """The name the client put into `model`."""
    provider: str | None = None
    model: str | None = None
    """The model that answered, as the provider names it."""
    agent: str | None = None
    tool: str | None = None
    """The tool that ran, of a `tool` span."""
    prompt: str | None = None
    """The prompt and its version, `triage@3`, as far as the sender said."""
    cache: str | None = None
    """What the gateway's cache did: `hit`, `semantic`, `shared`, `miss` or `bypass`; None where none was asked."""
    http_status: int | None = None
    streamed: bool | None = None
    attempts: int | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    cost_source: str | None = None
    ttft_ms: float | None = None
    overhead_ms: float | None = None
    tags: list[str] = []
    versions: dict[str, str] = {}
    """What shaped the answer: `{"app:handbook": "1@sha256:…", "knowledge:handbook": "…"}`."""
    attributes: dict[str, Any] = {}
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    scores: list[SpanScore] = []
    """Judgements that this span brings, usually of another span: a score is recorded as an `evaluation` span."""
    input: Any = None
    """The payload in: a JSON value (chat request, query, arguments). May be dropped under pressure."""
    output: Any = None
    payload_dropped: bool = False
    """True when the payloads were dropped (full disk, retention, policy)."""

    @property
    def is_foreign(self) -> bool:
        """Whether somebody sent it: what it says of itself, its service too, is then no more than a claim."""
        return FOREIGN_MARK in self.attributes

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds from start to end, or None while the end is unknown."""
        return None if self.end_ns is None else (self.end_ns - self.start_ns) / 1e6
