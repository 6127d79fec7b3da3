"""From foreign attribute names to the fields of our span: one table, versioned.

Sources: OpenTelemetry GenAI semantic conventions 1.42 and their deprecated names (`gen_ai.system`,
`gen_ai.prompt`, `gen_ai.usage.prompt_tokens` …), OpenInference 0.1 (`llm.*`, `input.value`,
`openinference.span.kind` …), OpenLLMetry's `traceloop.*`. The first name that is present wins; native names come
before deprecated ones. Nothing is lost: attributes that are not payload stay on the span as they came, so a
later version of this table can be run over history.

Token counts: the conventions say that `input_tokens` includes cached ones. Some libraries pass on
Anthropic's figure, which excludes them; where the cached parts exceed the total it is taken as exclusive.
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from penstock.spec.spans import SpanKind
from penstock.spec.usage import Usage
from penstock.telemetry.flattened import is_flattened, is_under, unflatten

MAPPING_VERSION = 1

FIELDS: Mapping[str, tuple[str, ...]] = {
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "model": (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.response.model_name",
        "llm.model_name",
        "llm.request.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "ai.model.id",
    ),
    "session_id": (
        "gen_ai.conversation.id",
        "session.id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
    ),
    "user_id": ("user.id", "enduser.id", "langfuse.user.id", "traceloop.association.properties.user_id"),
    "error_code": ("error.type", "exception.type"),
    "http_status": ("http.response.status_code", "http.status_code"),
    "streamed": ("gen_ai.request.stream", "llm.is_streaming", "gen_ai.is_streaming"),
    "ttft_s": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
    "cost_usd": ("gen_ai.usage.cost", "llm.cost.total", "gen_ai.cost.total_cost"),
}

USAGE: Mapping[str, tuple[str, ...]] = {
    "input": (
        "gen_ai.usage.input_tokens",
        "llm.token_count.prompt",
        "gen_ai.usage.prompt_tokens",
        "llm.usage.prompt_tokens",
        "ai.usage.promptTokens",
    ),
    "output": (
        "gen_ai.usage.output_tokens",
        "llm.token_count.completion",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
        "ai.usage.completionTokens",
    ),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.cached_tokens",
    ),
    "cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_tokens",
    ),
    "cache_write_1h": ("gen_ai.usage.cache_creation.ephemeral_1h.input_tokens",),
    "input_audio": ("llm.token_count.prompt_details.audio", "gen_ai.usage.audio.input_tokens"),
    "input_image": ("llm.token_count.prompt_details.image", "gen_ai.usage.image.input_tokens"),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.reasoning_tokens",
    ),
    "output_audio": ("llm.token_count.completion_details.audio", "gen_ai.usage.audio.output_tokens"),
    "output_image": ("llm.token_count.completion_details.image", "gen_ai.usage.image.output_tokens"),
}

KINDS: Mapping[str, Mapping[str, SpanKind]] = {
    "openinference.span.kind": {
        "llm": "llm",
        "embedding": "embedding",
        "chain": "chain",
        "agent": "chain",
        "retriever": "retrieval",
        "reranker": "retrieval",
        "tool": "tool",
        "evaluator": "evaluation",
        "guardrail": "internal",
        "prompt": "internal",
    },
    "gen_ai.operation.name": {
        "chat": "llm",
        "generate_content": "llm",
        "text_completion": "llm",
        "completion": "llm",
        "embeddings": "embedding",
        "embedding": "embedding",
        "retrieval": "retrieval",
        "execute_tool": "tool",
        "create_agent": "chain",
        "invoke_agent": "chain",
        "invoke_workflow": "chain",
    },
    "llm.request.type": {"chat": "llm", "completion": "llm", "embedding": "embedding", "rerank": "retrieval"},
    "traceloop.span.kind": {"workflow": "chain", "task": "chain", "agent": "chain", "tool": "tool"},
    "langfuse.observation.type": {
        "generation": "llm",
        "embedding": "embedding",
        "retriever": "retrieval",
        "tool": "tool",
        "agent": "chain",
        "chain": "chain",
        "evaluator": "evaluation",
    },
}

INPUTS: tuple[str, ...] = (
    "gen_ai.input.messages",
    "llm.input_messages",
    "gen_ai.prompt",
    "gen_ai.tool.call.arguments",
    "gen_ai.retrieval.query.text",
    "llm.prompts",
    "embedding.embeddings",
    "input.value",
    "traceloop.entity.input",
    "langfuse.observation.input",
    "ai.prompt.messages",
    "ai.prompt",
)
OUTPUTS: tuple[str, ...] = (
    "gen_ai.output.messages",
    "llm.output_messages",
    "gen_ai.completion",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.documents",
    "retrieval.documents",
    "reranker.output_documents",
    "output.value",
    "traceloop.entity.output",
    "langfuse.observation.output",
    "ai.response.text",
)
_PLACES = {
    name: (field, rank)
    for table in (FIELDS, USAGE)
    for field, names in table.items()
    for rank, name in enumerate(names)
}
"""Attribute name to its field and its rank there, so that one pass over a span's attributes finds all."""
_MESSAGES = frozenset({"gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt", "ai.prompt.messages"})
_SYSTEM = "gen_ai.system_instructions"
_MAX_COUNT = 2**53


def pick_fields(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return, for each field of `FIELDS` and `USAGE` that is present, the value of its first name."""
    best: dict[str, tuple[int, Any]] = {}
    for name, value in attributes.items():
        place = _PLACES.get(name)
        if place is not None and value is not None and value != "":
            field, rank = place
            if field not in best or rank < best[field][0]:
                best[field] = (rank, value)
    return {field: value for field, (_, value) in best.items()}


def text_field(picked: Mapping[str, Any], field: str) -> str | None:
    """Return a picked field as text, or None."""
    value = picked.get(field)
    return None if value is None or isinstance(value, dict | list) else str(value)


def map_kind(attributes: Mapping[str, Any], picked: Mapping[str, Any]) -> SpanKind:
    """Return what kind of span the attributes describe; `internal` when they do not say."""
    for name, kinds in KINDS.items():
        value = attributes.get(name)
        if isinstance(value, str) and value.lower() in kinds:
            return kinds[value.lower()]
    if "input" in picked:
        return "llm" if "output" in picked else "embedding"
    if any(name in attributes for name in ("http.request.method", "http.method", "url.full", "http.url")):
        return "http"
    return "internal"


def map_usage(picked: Mapping[str, Any]) -> Usage | None:
    """Return the tokens in disjoint classes, or None when no count is given."""
    counts = {field: _count(picked[field]) for field in USAGE if field in picked}
    given, answer = counts.get("input"), counts.get("output")
    if given is None and answer is None:
        return None
    longer = counts.get("cache_write_1h")
    written = counts.get("cache_write")
    if longer is not None and written is not None:
        written = max(0, written - longer)  # the total includes what is kept for an hour
    beside = (counts.get("cache_read"), written, longer, counts.get("input_audio"), counts.get("input_image"))
    apart = sum(count or 0 for count in beside)
    shown = sum(counts.get(field) or 0 for field in ("reasoning", "output_audio", "output_image"))
    return Usage(
        input_uncached=None if given is None else given - apart if given >= apart else given,
        input_cache_read=counts.get("cache_read"),
        input_cache_write=written,
        input_cache_write_1h=longer,
        input_audio=counts.get("input_audio"),
        input_image=counts.get("input_image"),
        output_text=None if answer is None else answer - shown if answer >= shown else answer,
        output_reasoning=counts.get("reasoning"),
        output_audio=counts.get("output_audio"),
        output_image=counts.get("output_image"),
    )


def map_cost(picked: Mapping[str, Any]) -> Decimal | None:
    """Return the cost that the sender reported, or None."""
    value = picked.get("cost_usd")
    if value is None or isinstance(value, bool):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost < 10**12 else None


def map_number(picked: Mapping[str, Any], field: str) -> float | None:
    """Return a picked field as a finite number, or None."""
    value = picked.get(field)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def take_payloads(attributes: dict[str, Any]) -> tuple[Any, Any]:
    """Remove the payload attributes from `attributes` and return them as (input, output).

    Only the source that is used is removed; other copies of the content stay where they are.
    """
    flat = [name for name in attributes if is_flattened(name)]
    given, source = _take(attributes, INPUTS, flat)
    answer, _ = _take(attributes, OUTPUTS, flat)
    if given is not None and source in _MESSAGES and isinstance(given, list):
        given = {"messages": [_message(item) for item in given]}
        system = _parsed(attributes.pop(_SYSTEM, None))
        if system is not None:
            given["messages"].insert(
                0, {"role": "system", "parts" if isinstance(system, list) else "content": system}
            )
    if isinstance(answer, list):
        answer = [_message(item) for item in answer]
    return given, answer


def _take(attributes: dict[str, Any], sources: Iterable[str], flat: list[str]) -> tuple[Any, str | None]:
    for source in sources:
        if source in attributes:
            return _parsed(attributes.pop(source)), source
        names = [name for name in flat if is_under(name, source) and name in attributes]
        if names:
            return unflatten({name: attributes.pop(name) for name in names}, source), source
    return None, None


def _message(item: Any) -> Any:
    """Open OpenInference's extra level: `{"message": {…}}`, `{"document": {…}}`."""
    if isinstance(item, dict) and len(item) == 1:
        inner = next(iter(item.values()))
        if isinstance(inner, dict):
            return inner
    return item


def _parsed(value: Any) -> Any:
    """Return JSON text as the value it holds, anything else as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return value


def _count(value: Any) -> int | None:
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 <= count < _MAX_COUNT else None
