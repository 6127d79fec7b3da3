"""An observation: an open span of ours, with what is said about it until it ends.

`with span(…)` is the one place that puts a span into the current context; generators do it step by step (`streams.py`).
"""

import logging
import time
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode

from penstock.sdk.carried import name_attributes, read_carried
from penstock.sdk.payloads import capture, copy_payload, encode_payload
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.processor import OBSERVATION, Held
from penstock.sdk.records import size_of
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.settings import Redaction
from penstock.sdk.token_counts import read_counts
from penstock.spec.spans import SpanKind

OPENINFERENCE: Mapping[str, str] = {
    "llm": "LLM",
    "embedding": "EMBEDDING",
    "chain": "CHAIN",
    "agent": "AGENT",
    "retrieval": "RETRIEVER",
    "rerank": "RERANKER",
    "tool": "TOOL",
    "guard": "GUARDRAIL",
    "evaluation": "EVALUATOR",
}
_UNSET: Final[Any] = object()
_MAX_ERROR_CHARS = 2000
_MAX_WORD = 2000
_MAX_TRACE_CHARS = 20_000

_log = logging.getLogger("penstock.sdk")


class Said(TypedDict, total=False):
    """What can be said about a span beside its name: see `Observation.update`."""

    input: Any
    output: Any
    model: str | None
    provider: str | None
    usage: object
    cost_usd: Any
    session_id: str | None
    user_id: str | None
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None
    prompt: str | None
    agent: str | None
    tool: str | None
    error: str | None


def check_said(said: Iterable[str]) -> None:
    """Raise `TypeError` for a name that nobody knows, as any function would, whether anything is recorded or not."""
    unknown = sorted(set(said) - _KNOWN)
    if unknown:
        raise TypeError(
            f"penstock knows no {', '.join(unknown)} of a span; it knows {', '.join(sorted(_KNOWN))}"
        )


_KNOWN = frozenset(Said.__annotations__)


class Observation:
    """One open span. Every method may be called at any time, from any thread, and never raises; after the end nothing happens."""

    __slots__ = (
        "_attributes",
        "_has_failed",
        "_metadata",
        "_payload",
        "_pipeline",
        "_redactions",
        "_size",
        "is_open",
        "otel_span",
    )

    def __init__(
        self,
        span: trace.Span,
        pipeline: Pipeline,
        kind: SpanKind,
        redactions: Collection[Redaction],
        metadata: Mapping[str, Any],
    ) -> None:
        self.otel_span = span
        self._pipeline = pipeline
        self._redactions = redactions
        self._attributes: dict[str, Any] = {"penstock.span.kind": kind}
        if kind in OPENINFERENCE:
            self._attributes["openinference.span.kind"] = OPENINFERENCE[kind]
        self._metadata = metadata
        self._payload: dict[str, Any] = {}
        self._size = 0
        self._has_failed = False
        self.is_open = True

    @property
    def trace_id(self) -> str | None:
        """32 hex characters; None where nothing is recorded."""
        context = self.otel_span.get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else None

    @property
    def span_id(self) -> str | None:
        """16 hex characters; None where nothing is recorded."""
        context = self.otel_span.get_span_context()
        return f"{context.span_id:016x}" if context.is_valid else None

    @property
    def is_sampled(self) -> bool:
        """Whether its trace is one of those that are recorded."""
        context = self.otel_span.get_span_context()
        return context.trace_flags.sampled and RUNTIME.sampler.chooses(context.trace_id)

    def update(
        self,
        *,
        name: str | None = None,
        input: Any = _UNSET,  # noqa: A002  # the word of the span record
        output: Any = _UNSET,
        model: str | None = None,
        provider: str | None = None,
        usage: object = None,
        cost_usd: Any = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        agent: str | None = None,
        tool: str | None = None,
        error: str | None = None,
    ) -> None:
        """Say more about the span; of what is said twice the later holds, tags and metadata add up.

        `usage` counts tokens: names in a mapping (`input`, `output`, `cache_read`, `cache_write`, `reasoning`; input includes
        cached ones, output reasoning), or what a provider's client gives as its usage, object or JSON, counted as that one does;
        `error` marks the span as failed for this reason.
        """
        if not self.is_open:
            return
        try:
            if name is not None:
                self.otel_span.update_name(str(name))
            if input is not _UNSET:
                self._capture("input", input)
            if output is not _UNSET:
                self._capture("output", output)
            if metadata:
                copied, size = copy_payload(dict(metadata), self._pipeline.settings.max_payload_bytes)
                if self.reserve(size):
                    self._metadata = {**self._metadata, **copied}
            found = self._attributes
            found.update(name_attributes(session_id=session_id, user_id=user_id, prompt=prompt, agent=agent))
            words = {
                "gen_ai.request.model": model,
                "gen_ai.provider.name": provider,
                "gen_ai.tool.name": tool,
            }
            found.update({place: str(word)[:_MAX_WORD] for place, word in words.items() if word is not None})
            if cost_usd is not None:
                found["gen_ai.usage.cost"] = float(cost_usd)
            if usage is not None:
                found.update(read_counts(usage))
            if tags and self._take(tags := [str(tag) for tag in tags]):
                found["tag.tags"] = [*found.get("tag.tags", self._carried_tags()), *tags]
            if error is not None:
                self._has_failed = True
                self.otel_span.set_status(StatusCode.ERROR, str(error)[:_MAX_ERROR_CHARS])
        except Exception:  # the edge between the program and its record: the program goes on
            _log.debug("penstock: update failed", exc_info=True)

    def event(self, name: str, **attributes: Any) -> None:
        """Note that something happened just now."""
        try:
            if not self.is_open:
                return
            plain = {key: self._plain(value) for key, value in attributes.items()}
            self.otel_span.add_event(name, plain if self._take([*plain, *plain.values()]) else {})
        except Exception:  # as above
            _log.debug("penstock: event failed", exc_info=True)

    def set(self, name: str, value: Any) -> None:
        """Set an OpenTelemetry attribute: a text, a number or a truth; anything else as JSON text."""
        try:
            plain = self._plain(value)
            if not isinstance(plain, str) or self._take([plain]):
                self._attributes[name] = plain
        except Exception:  # as above
            _log.debug("penstock: set failed", exc_info=True)

    def fail(self, error: BaseException) -> None:
        """Record an exception as the reason why this failed."""
        if not self.is_open:
            return
        try:
            text = _message_of(error)
            self._has_failed = True
            self._attributes.setdefault("error.type", type(error).__qualname__)
            self.otel_span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {text}"[:_MAX_ERROR_CHARS])
            told = {
                "exception.type": type(error).__qualname__,
                "exception.message": text[:_MAX_ERROR_CHARS],
                "exception.stacktrace": "".join(traceback.format_exception(error))[-_MAX_TRACE_CHARS:],
            }
            if not self._take(told.values()):
                del told["exception.stacktrace"]
            self.otel_span.add_event("exception", told)
        except Exception:  # as above: an exception's own `__str__` may raise
            _log.debug("penstock: fail failed", exc_info=True)

    def end(self) -> None:
        """End the span; a second time nothing happens."""
        if not self.is_open:
            return
        self.is_open = False
        pipeline = self._pipeline
        try:
            span_id = self.otel_span.get_span_context().span_id
            payload = {**self._payload, "metadata": self._metadata} if self._metadata else self._payload
            processor = RUNTIME.processor
            if RUNTIME.is_joined:  # other tools see the span, too, but not what was said
                self.otel_span.set_attributes(self._attributes)
            held = Held(payload or None, self._redactions, self._attributes, self._size, not self._has_failed)
            processor.hold(span_id, held)
            self.otel_span.end()
            processor.drop(span_id)
        except Exception:  # as above
            _log.debug("penstock: end failed", exc_info=True)
        finally:
            self._payload, self._metadata = {}, {}  # contexts may hold this for as long as their tasks live
            if self._size:
                pipeline.release(self._size)

    def _capture(self, place: str, value: Any) -> None:
        settings = self._pipeline.settings
        if not settings.capture or not self.otel_span.is_recording():
            return
        copied, size = capture(value, settings.max_payload_bytes)
        if self.reserve(size):
            self._payload[place] = copied
        else:
            self.note_dropped()

    def reserve(self, size: int) -> bool:
        """Set bytes aside for what is kept until the end; False when there is no room."""
        if not self.is_open or not self._pipeline.reserve(size):
            return False
        self._size += size
        return True

    def give_back(self, size: int) -> None:
        """Free some of what was set aside."""
        if size and self.is_open:
            self._size -= size
            self._pipeline.release(size)

    def note_dropped(self) -> None:
        """Say that something was left out for which there was no room."""
        self._attributes["penstock.payload_dropped"] = True
        self._pipeline.note_payload_dropped()

    def _take(self, parts: Iterable[Any]) -> bool:
        """Set aside what texts take; False, and told, when there is no room."""
        if self.reserve(sum(map(size_of, parts))):
            return True
        if self.is_open:
            self.note_dropped()
        return False

    def _plain(self, value: Any) -> str | bool | int | float:
        """Return a value as an attribute can hold it: what is no text, number or truth as JSON text, cut short."""
        if issubclass(type(value), bool | int | float):
            plain: bool | int | float = value
            return plain
        if issubclass(type(value), str):
            return str(copy_payload(value, self._pipeline.settings.max_payload_bytes)[0])
        return encode_payload(copy_payload(value, _MAX_ERROR_CHARS)[0])[0]

    def _carried_tags(self) -> Sequence[str]:
        tags = read_carried().attributes.get("tag.tags", ())
        return tags if isinstance(tags, Sequence) else ()


class _Nothing(Observation):
    """Stands where nothing is recorded: takes everything, does nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        self.otel_span = trace.INVALID_SPAN
        self.is_open = False

    def update(self, *, name: str | None = None, **said: Unpack[Said]) -> None:  # noqa: ARG002  # as the other does
        """Do nothing."""
        check_said(said)

    def event(self, name: str, **_: Any) -> None:
        """Do nothing."""

    def set(self, name: str, value: Any) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


NOTHING = _Nothing()


def current_span() -> Observation:
    """Return the innermost observation that is open here; one that takes everything and does nothing where none is."""
    found = otel.get_value(OBSERVATION)
    return found if isinstance(found, Observation) else NOTHING


def begin(
    name: str, kind: SpanKind, context: Context, redactions: Collection[Redaction] = ()
) -> tuple[Observation, Context]:
    """Start a span below `context`; return it with the context for what runs inside. Never raises."""
    pipeline = RUNTIME.start()
    if pipeline is None:
        return NOTHING, context
    try:
        span = RUNTIME.tracer.start_span(name, context=context)
        made = Observation(span, pipeline, kind, redactions, read_carried(context).metadata)
        return made, otel.set_value(OBSERVATION, made, trace.set_span_in_context(span, context))
    except Exception:  # the edge between the program and its record: the program goes on
        _log.debug("penstock: a span could not be started", exc_info=True)
        return NOTHING, context


def restore(observation: Observation, before: Context) -> None:
    """Put `before` back where the observation's context, or one made from it, is current; elsewhere leave all as it is.

    No token: one that is used in another task than its own, where generators are closed late, is an error.
    """
    if otel.get_value(OBSERVATION) is observation:
        otel.attach(before)


class SpanScope:
    """What `span(…)` returns: `with` and `async with` begin and end an observation."""

    __slots__ = ("_before", "_kind", "_name", "_observation", "_redactions", "_said")

    def __init__(self, name: str, kind: SpanKind, redactions: Collection[Redaction], said: Said) -> None:
        self._name, self._kind, self._redactions, self._said = name, kind, redactions, said
        self._observation: Observation = NOTHING
        self._before: Context | None = None

    def __enter__(self) -> Observation:
        self._before = otel.get_current()
        self._observation, inside = begin(self._name, self._kind, self._before, self._redactions)
        if self._observation is not NOTHING:
            otel.attach(inside)
            if self._said:
                self._observation.update(**self._said)
        return self._observation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        observation = self._observation
        if observation is NOTHING or self._before is None:
            return
        restore(observation, self._before)
        if isinstance(error, GeneratorExit):
            observation.set("stream.aborted", True)
        elif error is not None:
            observation.fail(error)
        observation.end()

    async def __aenter__(self) -> Observation:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace_back)

    def __call__(self, _: Any) -> Self:
        raise TypeError("penstock.span is for `with`; decorate functions with penstock.observe")


def span(
    name: str, *, kind: SpanKind = "chain", redact: Redaction | None = None, **said: Unpack[Said]
) -> SpanScope:
    """Observe what happens inside `with span(…) as it`; `said` is what `Observation.update` takes.

    An exception is recorded and goes on. Decorate generator functions with `observe` rather than opening a span around
    a `yield` in them: what is current inside would be current for whoever reads from it.
    """
    check_said(said)
    return SpanScope(name, kind, () if redact is None else (redact,), said)


def update(*, name: str | None = None, **said: Unpack[Said]) -> None:
    """Say more about the innermost open observation: see `Observation.update`."""
    current_span().update(name=name, **said)


def monotonic_s() -> float:
    """Return a clock's seconds for measuring within this process."""
    return time.perf_counter()


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the program's own exception class
        return f"<its text failed with {type(broken).__name__}>"
