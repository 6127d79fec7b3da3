"""Where a step stands in its trace: W3C `traceparent` in and out, and a span that records its own end."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from penstock.apps.types import Recorder
from penstock.base.errors import PenstockError
from penstock.base.ids import new_span_id, new_trace_id
from penstock.spec.knowledge import EVERYONE
from penstock.spec.spans import Span, SpanKind

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


@dataclass(frozen=True, kw_only=True)
class TraceContext:
    """The trace a call belongs to and the span that made it (None at the root)."""

    trace_id: str
    parent_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    principals: tuple[str, ...] = (EVERYONE,)
    """As whom documents are read."""
    key_id: str | None = None
    """Of the key, where the gateway records no span of its own that says it."""


def read_principals(told: str | None) -> tuple[str, ...]:
    """Return the principals that the gateway's header names, `everyone` first. Without a header that is all."""
    named = (unquote(each.strip()) for each in told.split(",")) if told else ()
    return tuple(dict.fromkeys((EVERYONE, *(each for each in named if each))))


def read_context(
    traceparent: str | None,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    principals: str | None = None,
    key_id: str | None = None,
) -> TraceContext:
    """Return the context that the header names, or a fresh trace when it names none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    return TraceContext(
        trace_id=found.group(1) if found else new_trace_id(),
        parent_id=found.group(2) if found else None,
        session_id=session_id,
        user_id=user_id,
        principals=read_principals(principals),
        key_id=key_id,
    )


@dataclass(kw_only=True)
class OpenSpan:
    """A span that is still running; whatever is set here is recorded at its end."""

    context: TraceContext
    name: str
    kind: SpanKind
    start_ns: int
    span_id: str = field(default_factory=new_span_id)
    input: Any = None
    output: Any = None
    route: str | None = None
    model: str | None = None
    prompt: str | None = None
    streamed: bool | None = None
    ttft_ms: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        """The header that makes the next call a child of this span."""
        return f"00-{self.context.trace_id}-{self.span_id}-01"

    @property
    def below(self) -> TraceContext:
        """The context of spans below this one."""
        context = self.context
        return TraceContext(
            trace_id=context.trace_id,
            parent_id=self.span_id,
            session_id=context.session_id,
            user_id=context.user_id,
            principals=context.principals,
            key_id=context.key_id,
        )

    @property
    def headers(self) -> dict[str, str]:
        """What a call to the gateway carries to become a child of this span."""
        found = {"traceparent": self.traceparent}
        if self.context.session_id:
            found["x-penstock-session"] = self.context.session_id
        if self.context.user_id:
            found["x-penstock-user"] = self.context.user_id
        return found


class Tracer:
    """Makes spans of the apps process."""

    def __init__(self, recorder: Recorder, clock: Callable[[], int]) -> None:
        self._recorder = recorder
        self._clock = clock

    def now_ns(self) -> int:
        """Return the clock's time."""
        return self._clock()

    @contextmanager
    def span(self, name: str, kind: SpanKind, context: TraceContext, **values: Any) -> Iterator[OpenSpan]:
        """Record what happens inside as one span, failed if it raises (cancellation included)."""
        span = OpenSpan(context=context, name=name, kind=kind, start_ns=self._clock(), **values)
        try:
            yield span
        except PenstockError as error:
            self._finish(span, error_code=error.code, message=error.message)
            raise
        except BaseException as error:  # recorded, never swallowed
            self._finish(span, error_code=type(error).__name__, message=str(error) or type(error).__name__)
            raise
        self._finish(span)

    def _finish(self, span: OpenSpan, *, error_code: str | None = None, message: str | None = None) -> None:
        self._recorder.record(
            Span(
                trace_id=span.context.trace_id,
                span_id=span.span_id,
                parent_id=span.context.parent_id,
                name=span.name,
                kind=span.kind,
                start_ns=span.start_ns,
                end_ns=self._clock(),
                status="error" if error_code else "ok",
                status_message=message,
                error_code=error_code,
                service="apps",
                key_id=span.context.key_id,
                session_id=span.context.session_id,
                user_id=span.context.user_id,
                route=span.route,
                model=span.model,
                prompt=span.prompt,
                streamed=span.streamed,
                ttft_ms=span.ttft_ms,
                versions=span.versions,
                attributes=span.attributes,
                input=span.input,
                output=span.output,
            )
        )
