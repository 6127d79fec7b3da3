"""Takes spans from OpenTelemetry's SDK: says which are ours to send, puts carried attributes on them, mends parents.

A parent that is not sent (the web framework's span of another provider, a database span in a joined one) would leave
its children without a place. So the parent of each span is looked up when it starts: the nearest one above it that is sent.
"""

import logging
import random
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from penstock.sdk.carried import read_carried
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.records import KEEP, SCOPE, SPAN_BYTES, SpanRecord, size_of
from penstock.sdk.settings import Redaction

MARK = "penstock.sdk"
"""Resource attribute of our own provider: tells its spans from those of others."""
_LLM_SCOPES = re.compile(
    r"(?i)penstock|openinference|traceloop|opentelemetry[._](instrumentation|util)[._](openai|anthropic|bedrock|cohere|"
    r"google|gemini|genai|vertex|mistral|groq|ollama|together|replicate|watsonx|sagemaker|alephalpha|transformers|"
    r"langchain|llama|haystack|crewai|agno|mcp|openai_agents|chroma|pinecone|qdrant|weaviate|milvus|lancedb|marqo)|"
    r"pydantic[-_.]ai|langfuse|langsmith|openlit|litellm|langchain|langgraph|llama[-_]?index|haystack|crewai|autogen|"
    r"agent|strands|semantic[-_.]kernel|smolagents|dspy|instructor|gcp\.vertex|genai|gen_ai|^ai$"
)
_MAX_REPLACED = 10_000

_log = logging.getLogger("penstock.sdk")


class Held(NamedTuple):
    """What an observation leaves beside its span just before that ends."""

    payload: Mapping[str, Any] | None
    redactions: Collection[Redaction]
    attributes: Mapping[str, Any]
    size: int
    is_ok: bool


def is_llm_scope(scope: str) -> bool:
    """Return whether an instrumentation of this name is about models, agents or retrieval."""
    return _LLM_SCOPES.search(scope) is not None


class TraceProcessor(SpanProcessor):
    """Hands ended spans to a pipeline, which may be exchanged or missing. Never raises."""

    def __init__(
        self, wants: Callable[[str], bool] | None = None, chooses: Callable[[int], bool] | None = None
    ) -> None:
        self.pipeline: Pipeline | None = None
        self.on_root_end: Callable[[], None] | None = None
        self._wants = wants
        """Which scopes are sent; None for all."""
        self._chooses = chooses
        """Which traces are sent, where the provider's own sampler does not ask us; None for all that it records."""
        self._held: dict[int, Held] = {}
        self._parents: dict[int, int | None] = {}
        """Of open spans whose parent is not sent: the id to give instead."""
        self._replaced: OrderedDict[int, int | None] = OrderedDict()
        """Spans that are not sent, and who stands for them."""

    def hold(self, span_id: int, held: Held) -> None:
        """Leave the payload of a span that ends next."""
        self._held[span_id] = held

    def drop(self, span_id: int) -> None:
        """Forget what was held for a span that did not come."""
        self._held.pop(span_id, None)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put carried attributes on a span that begins, and find who stands for a parent that is not sent."""
        if self.pipeline is None:
            return
        try:
            context = otel.get_current() if parent_context is None else parent_context
            is_sent = self._is_sent(span)
            self._mend_parent(span, context, is_sent)
            carried = read_carried(context).attributes
            if carried and is_sent:
                span.set_attributes(carried)
        except Exception:  # the edge between the program and its record: the program goes on
            _log.debug("penstock: on_start failed", exc_info=True)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand an ended span to the pipeline."""
        pipeline = self.pipeline
        context = span.context
        if pipeline is None or context is None:
            return
        try:
            if not self._is_sent(span):
                return
            held = self._held.pop(context.span_id, None)
            parent = self._parents.pop(context.span_id, KEEP) if self._parents else KEEP
            is_root = span.parent is None or span.parent.is_remote or parent is None
            notes: dict[str, Any] = {} if held is None else dict(held.attributes)
            if is_root and (n_lost := pipeline.losses_of(context.trace_id)):
                notes["penstock.lost_spans"] = n_lost
            if held is not None:
                size = SPAN_BYTES + held.size
                record = SpanRecord(span, held.payload, parent, held.redactions, notes, size, held.is_ok)
            else:
                record = SpanRecord(span, None, parent, (), notes, SPAN_BYTES + _text_bytes(span))
            pipeline.add(record)
            if is_root and self.on_root_end is not None:
                self.on_root_end()
        except Exception:  # as above
            _log.debug("penstock: on_end failed", exc_info=True)

    def shutdown(self) -> None:
        """Nothing to do: the pipeline is closed by whoever opened it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver; True when everything was acknowledged."""
        pipeline = self.pipeline
        return pipeline is None or pipeline.flush(timeout_millis / 1000).is_complete

    def _is_sent(self, span: ReadableSpan) -> bool:
        if self._chooses is not None and not (span.context and self._chooses(span.context.trace_id)):
            return False
        scope = span.instrumentation_scope
        return self._wants is None or (scope is not None and (scope.name == SCOPE or self._wants(scope.name)))

    def _mend_parent(self, span: Span, context: Context, is_sent: bool) -> None:
        parent = span.parent
        if parent is None or parent.is_remote or span.context is None:
            if not is_sent and span.context is not None:
                self._stand_for(span.context.span_id, None)
            return
        substitute: int | None = KEEP
        if parent.span_id in self._replaced:
            substitute = self._replaced[parent.span_id]
        elif self._wants is None and not _is_ours(trace.get_current_span(context)):
            above = read_anchor(context)
            substitute = above if above != span.context.span_id else None
        if is_sent:
            if substitute != KEEP:
                self._parents[span.context.span_id] = substitute
        else:
            self._stand_for(span.context.span_id, parent.span_id if substitute == KEEP else substitute)

    def _stand_for(self, span_id: int, substitute: int | None) -> None:
        self._replaced[span_id] = substitute
        if len(self._replaced) > _MAX_REPLACED:
            self._replaced.popitem(last=False)


OBSERVATION = otel.create_key("penstock-observation")
"""Where a context holds the innermost observation."""


def read_anchor(context: Context) -> int | None:
    """Return the id of the innermost observed span above, or None: the place of what begins below foreign spans."""
    found = otel.get_value(OBSERVATION, context)
    span = getattr(found, "otel_span", None)
    return span.get_span_context().span_id if isinstance(span, trace.Span) else None


def _is_ours(span: trace.Span) -> bool:
    """Return whether a span was made by our own provider; one that only passes ids on is taken as it is."""
    if isinstance(span, ReadableSpan):
        return MARK in span.resource.attributes
    return isinstance(span, trace.NonRecordingSpan)


def _text_bytes(span: ReadableSpan) -> int:
    held = [
        span.attributes,
        *(event.attributes for event in span.events),
        *(link.attributes for link in span.links),
    ]
    return sum(size_of(list((attributes or {}).values())) for attributes in held)


class ShareSampler(Sampler):
    """Records a share of traces by their id alone, so that all processes choose the same ones.

    What a foreign parent was decided is not asked: another tool's sampling must not thin out this one.
    """

    def __init__(self) -> None:
        self._bound = 1 << 64

    def set_share(self, share: float) -> None:
        """Record this share from now on."""
        self._bound = round(share * (1 << 64))

    def chooses(self, trace_id: int) -> bool:
        """Return whether a trace of this id is recorded."""
        return trace_id & 0xFFFFFFFFFFFFFFFF < self._bound

    def should_sample(  # noqa: PLR0917  # the signature is OpenTelemetry's
        self,
        parent_context: Context | None,  # noqa: ARG002
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: Any = None,  # noqa: ARG002
        attributes: Any = None,
        links: Any = None,  # noqa: ARG002
        trace_state: Any = None,  # noqa: ARG002
    ) -> SamplingResult:
        """Return whether a span is recorded."""
        if self.chooses(trace_id):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        """Return how spans are chosen."""
        return f"ShareSampler({self._bound / (1 << 64):g})"


class OwnIds(IdGenerator):
    """Random ids that a program's `random.seed(…)` does not make come again."""

    def __init__(self) -> None:
        self._bits = random.Random(secrets.randbits(256)).getrandbits

    def generate_span_id(self) -> int:
        """Return a span id."""
        return self._bits(64) or 1

    def generate_trace_id(self) -> int:
        """Return a trace id."""
        return self._bits(128) or 1

    def is_trace_id_random(self) -> bool:
        """Say that all bits are random (W3C Trace Context level 2)."""
        return True

    def reseed(self) -> None:
        """Begin anew, in a forked child."""
        self._bits = random.Random(secrets.randbits(256)).getrandbits
