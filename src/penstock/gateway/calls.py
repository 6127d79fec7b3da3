"""One call as it is being served, and the trace context it came with. Plain state, no behaviour of its own."""

import re
import time
from collections.abc import Sequence

from penstock.base.ids import new_span_id, new_trace_id
from penstock.dialects.openai.envelope import Envelope
from penstock.dialects.openai.usage import UsageObject
from penstock.gateway.table import ReadyRoute, ReadyTarget
from penstock.spec.routes import KeyRow

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


class Call:
    """What is known of a call so far. Times ending in `_at` are `time.perf_counter` seconds."""

    __slots__ = (
        "attempts",
        "body",
        "envelope",
        "error_code",
        "error_message",
        "failures",
        "http_status",
        "key",
        "n_refused",
        "n_sent",
        "operation",
        "output",
        "output_size",
        "overhead_ms",
        "parent_id",
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
    )

    def __init__(self, operation: str, parent: tuple[str, str] | None) -> None:
        self.operation = operation
        self.start_ns = time.time_ns()
        self.started_at = time.perf_counter()
        self.trace_id = parent[0] if parent else new_trace_id()
        self.parent_id = parent[1] if parent else None
        self.span_id = new_span_id()
        self.key: KeyRow | None = None
        self.session: str | None = None
        self.user: str | None = None
        self.body = b""
        self.envelope: Envelope | None = None
        self.route: ReadyRoute | None = None
        self.target: ReadyTarget | None = None
        self.attempts = 0
        """Targets tried, and once more for each time a request went out again on a fresh connection."""
        self.n_sent = 0
        """Times the request was written to a provider."""
        self.n_refused = 0
        """Times a provider answered with an error status, so that no tokens were used."""
        self.failures: list[tuple[int, str, str]] = []
        """(time_ns, provider, what happened) for each attempt that did not serve the call."""
        self.upstream_s = 0.0
        self.http_status: int | None = None
        self.streamed = False
        self.ttft_ms: float | None = None
        self.overhead_ms: float | None = None
        self.usage: UsageObject | None = None
        self.reply_model: str | None = None
        self.output: bytes | Sequence[bytes] | None = None
        """The reply: one body, or the pieces of a stream."""
        self.output_size = 0
        """Bytes of the reply as received, also when not all are kept."""
        self.error_code: str | None = None
        self.error_message: str | None = None
