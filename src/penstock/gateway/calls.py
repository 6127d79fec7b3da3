"""One call as it is being served, and the trace context it came with. Plain state, no behaviour of its own."""

import re
import time
from collections.abc import Sequence
from typing import Any, Literal

from penstock.base.ids import new_span_id, new_trace_id
from penstock.dialects.port import Envelope
from penstock.gateway.endpoints import Endpoint
from penstock.gateway.table import ReadyRoute, ReadyTarget
from penstock.spec.callers import Caller
from penstock.spec.hub import HubRequest
from penstock.spec.routes import DialectName, FaultKind, KeyRow
from penstock.spec.usage import Cost, Usage

AttemptOutcome = Literal["running", "served", "refused", "failed", "abandoned"]
CacheWish = Literal["use", "refresh", "bypass"]
CacheState = Literal["hit", "miss", "bypass", "semantic", "shared"]

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?", re.DOTALL)
_ZERO_TRACE, _ZERO_SPAN = b"0" * 32, b"0" * 16


def parse_traceparent(value: bytes) -> tuple[str, str] | None:
    """Return (trace id, parent span id) of a `traceparent` header, or None (W3C Trace Context §3.2)."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None or found.group(1) == _ZERO_TRACE or found.group(2) == _ZERO_SPAN:
        return None
    return found.group(1).decode(), found.group(2).decode()


def label(value: bytes | None) -> str | None:
    """Return a session or user label a client sent, as text of at most 200 characters; None if there is none."""
    if not value:
        return None
    text = value.decode("utf-8", "replace").strip()[:200]
    return "".join(char for char in text if char.isprintable()) or None


class AttemptRecord:
    """One request to one target, for the span and the bill. Made when the attempt begins, filled in when it ends."""

    __slots__ = (
        "error_code",
        "fault",
        "first_content_s",
        "message",
        "outcome",
        "sent_ns",
        "slot",
        "started_ns",
        "status",
        "target",
        "took_s",
        "usage",
    )

    def __init__(self, target: ReadyTarget) -> None:
        self.target = target
        self.started_ns = time.time_ns()
        self.sent_ns: int | None = None
        """When the request was written to the provider, None if it never was."""
        self.outcome: AttemptOutcome = "running"
        """`served`: its answer went to the client. `refused`: the provider answered with an error status, so nothing
        was used. `failed`: anything else went wrong. `abandoned`: cancelled, or its answer was not needed; where it
        had been sent (`sent_ns`) the provider may charge for it."""
        self.status: int | None = None
        """HTTP status of the provider, None while it has not answered."""
        self.fault: FaultKind | None = None
        self.error_code: str | None = None
        self.message: str | None = None
        self.first_content_s: float | None = None
        self.took_s: float | None = None
        """Seconds until the attempt was committed, failed or given up."""
        self.slot = -1
        """Where the billing journal keeps it."""
        self.usage: Usage | None = None
        """What the provider told of an attempt that did not serve the call."""


class Call:
    """What is known of a call so far. Times ending in `_at` are `time.perf_counter` seconds."""

    __slots__ = (
        "_n_waits",
        "_wait_from",
        "asked",
        "attempt_log",
        "attempts",
        "body",
        "cache_state",
        "cache_wish",
        "caller",
        "client_left",
        "content_type",
        "cost",
        "dialect",
        "dropped",
        "endpoint",
        "envelope",
        "error_code",
        "error_message",
        "extra_headers",
        "flight",
        "groups",
        "hold",
        "holdings",
        "http_status",
        "hub",
        "is_whole",
        "key",
        "n_refused",
        "n_sent",
        "operation",
        "output",
        "output_guess",
        "output_size",
        "overhead_ms",
        "parent_id",
        "passed_headers",
        "query",
        "rendered",
        "reply_model",
        "route",
        "session",
        "span_id",
        "start_ns",
        "started_at",
        "streamed",
        "target",
        "trace_id",
        "ttft_ms",
        "upstream_s",
        "usage",
        "user",
        "warnings",
    )

    def __init__(self, endpoint: Endpoint, parent: tuple[str, str] | None) -> None:  # noqa: PLR0915  # one attribute a line
        self.endpoint = endpoint
        self.operation = endpoint.operation
        self.dialect: DialectName = endpoint.dialect
        """What the client speaks. `body` and `output` are in it, whatever the provider speaks."""
        self.start_ns = time.time_ns()
        self.started_at = time.perf_counter()
        self.trace_id = parent[0] if parent else new_trace_id()
        self.parent_id = parent[1] if parent else None
        self.span_id = new_span_id()
        self.key: KeyRow | None = None
        self.caller: Caller | None = None
        """Set on a call that an app makes: for whom. `key` is then that caller's."""
        self.session: str | None = None
        self.user: str | None = None
        """Whose key it is; with a key of nobody's, whom the header names."""
        self.groups: tuple[str, ...] = ()
        """Of the user, as the client tells with a key that is nobody's: what of documents apps may read for them."""
        self.body = b""
        self.content_type: bytes | None = None
        """Of the request."""
        self.query = b""
        """Of the request, without the key that some clients put there."""
        self.passed_headers: tuple[tuple[bytes, bytes], ...] = ()
        """Headers of the client that a provider of the same dialect gets as they are."""
        self.envelope: Envelope | None = None
        self.hub: HubRequest | None = None
        """The request decoded, once an attempt needed it."""
        self.route: ReadyRoute | None = None
        """The route asked for; once a fallback serves the call, that one."""
        self.holdings = ""
        """What the knowledge bases held when the call came, as the table sums it up."""
        self.asked: ReadyRoute | None = None
        """The route asked for, once targets are looked for."""
        self.target: ReadyTarget | None = None
        """The target that serves the call, or the one that was asked last."""
        self.attempts = 0
        """Targets tried, and once more for each time a request went out again on a fresh connection."""
        self.n_sent = 0
        """Times the request was written to a provider."""
        self.n_refused = 0
        """Times a provider answered with an error status, so that no tokens were used."""
        self.attempt_log: list[AttemptRecord] = []
        """One record for each attempt, in the order they began."""
        self.upstream_s = 0.0
        self._n_waits = 0
        self._wait_from = 0.0
        self.http_status: int | None = None
        self.streamed = False
        self.ttft_ms: float | None = None
        self.overhead_ms: float | None = None
        self.usage: Usage | None = None
        """What the provider told, in disjoint classes. Never an estimate."""
        self.cost: Cost | None = None
        self.hold: Any = None
        """What the limiter took before the call, to be settled after it."""
        self.cache_state: CacheState | None = None
        self.cache_wish: CacheWish = "use"
        """What the client wants of the cache: look and keep, keep only, or neither."""
        self.flight: Any = None
        """The shared call upstream that this one began, if others may wait for the same reply."""
        self.dropped: tuple[str, ...] = ()
        """What the request said and the serving target's dialect cannot."""
        self.warnings: list[str] = []
        """Texts for `x-penstock-warning`."""
        self.extra_headers: list[tuple[bytes, bytes]] = []
        """More headers for the reply: limits, deprecation …"""
        self.reply_model: str | None = None
        self.rendered: dict[str, str] | None = None
        """What an engine of ours says of the tokens it evaluated, by the names that spans keep it under."""
        self.output: bytes | Sequence[bytes] | None = None
        """The reply: one body, or the pieces of a stream."""
        self.output_size = 0
        """Bytes of the reply as received, also when not all are kept."""
        self.output_guess: tuple[int, int] | None = None
        """About how many tokens a reply has of which nobody has told, with the `output_size` it was guessed for."""
        self.client_left = False
        self.is_whole = False
        """Whether the stream was read to its clean end, so that what was told is all; also when its client had left."""
        self.error_code: str | None = None
        self.error_message: str | None = None

    @property
    def reader(self) -> str | None:
        """The user as whom an app may read documents: never one that only a body has named, there or in a call around it."""
        return None if self.caller is not None and self.caller.is_user_of_body else self.user

    def begin_wait(self) -> None:
        """Say that the gateway waits for a provider from now on. Waits of hedged attempts may overlap."""
        if self._n_waits == 0:
            self._wait_from = time.perf_counter()
        self._n_waits += 1

    def end_wait(self) -> None:
        """Say that one wait is over; time in which none was on counts as the gateway's own."""
        self._n_waits -= 1
        if self._n_waits == 0:
            self.upstream_s += time.perf_counter() - self._wait_from

    def note_overhead(self) -> float:
        """Note and return how long the gateway itself has worked on the call so far, in milliseconds."""
        waited = self.upstream_s
        now = time.perf_counter()
        if self._n_waits:
            waited += now - self._wait_from
        self.overhead_ms = max(0.0, now - self.started_at - waited) * 1e3
        return self.overhead_ms
