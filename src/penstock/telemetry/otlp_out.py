"""Spans out as OTLP JSON, in the GenAI conventions' names: what this or any other receiver reads back.

Attributes that a sender gave go out as they came. What they do not say is added: under the conventions' name where
there is one, else under `penstock.*`. Sent here again, a span has the same fields, but for those that only our own
processes may claim (key, project, route, overhead), which stay in its attributes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent, SpanLink
from penstock.spec.usage import Usage

_STATUS = {"ok": 1, "error": 2}
_NEVER = frozenset({"resource", FOREIGN_MARK, "penstock.masked", "penstock.cut"})
"""Attributes that say what we did with a span, not what it is."""
_JUDGES = {"human": "HUMAN", "model": "LLM", "code": "CODE"}
_OPERATIONS = {
    "llm": "chat",
    "embedding": "embeddings",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "retrieval": "retrieval",
}
_PLAIN = {
    "session_id": "session.id",
    "user_id": "user.id",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.response.model",
    "agent": "gen_ai.agent.name",
    "prompt": "penstock.prompt",
    "cache": "penstock.cache",
    "error_code": "error.type",
    "http_status": "http.response.status_code",
    "streamed": "gen_ai.request.stream",
    "route": "penstock.route",
    "project": "penstock.project",
    "key_id": "penstock.key",
    "attempts": "penstock.attempts",
    "overhead_ms": "penstock.overhead_ms",
    "cost_source": "penstock.cost_source",
}
_USAGE = {
    "input_cache_read": "gen_ai.usage.cache_read.input_tokens",
    "input_cache_write_1h": "gen_ai.usage.cache_creation.ephemeral_1h.input_tokens",
    "input_audio": "gen_ai.usage.audio.input_tokens",
    "input_image": "gen_ai.usage.image.input_tokens",
    "output_reasoning": "gen_ai.usage.reasoning.output_tokens",
    "output_audio": "gen_ai.usage.audio.output_tokens",
    "output_image": "gen_ai.usage.image.output_tokens",
}


def encode_otlp_json(spans: Iterable[Span]) -> bytes:
    """Return one trace export request, grouped by resource and scope."""
    groups: dict[bytes, tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]] = {}
    for span in spans:
        resource = _resource_of(span)
        key = msgspec.json.encode(resource, order="sorted")
        _, scopes = groups.setdefault(key, (resource, {}))
        scopes.setdefault(span.scope or "", []).append(_span(span))
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": _pairs(resource)},
                    "scopeSpans": [
                        {"scope": {"name": scope} if scope else {}, "spans": listed}
                        for scope, listed in scopes.items()
                    ],
                }
                for resource, scopes in groups.values()
            ]
        }
    )


def _resource_of(span: Span) -> dict[str, Any]:
    given = span.attributes.get("resource")
    resource: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    own = {
        "service.name": span.service,
        "deployment.environment.name": span.environment,
        "service.version": span.release,
    }
    resource.update({name: value for name, value in own.items() if value is not None})
    return resource


def _span(span: Span) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": 3 if span.kind in {"llm", "embedding"} else 1,
        "startTimeUnixNano": str(span.start_ns),
        "attributes": _pairs(attributes_of(span)),
        "status": _status(span),
    }
    if span.parent_id is not None:
        encoded["parentSpanId"] = span.parent_id
    if span.end_ns is not None:
        encoded["endTimeUnixNano"] = str(span.end_ns)
    if span.events:
        encoded["events"] = [_event(event) for event in span.events]
    links = span.links or _target_links(span)
    if links:
        encoded["links"] = [_link(link) for link in links]
    return encoded


def attributes_of(span: Span) -> dict[str, Any]:
    """Return the attributes that a span goes out with."""
    found = {name: value for name, value in span.attributes.items() if name not in _NEVER}
    added: dict[str, Any] = {
        name: value for field, name in _PLAIN.items() if (value := getattr(span, field)) is not None
    }
    added["penstock.span.kind"] = span.kind
    if span.kind in _OPERATIONS:
        added["gen_ai.operation.name"] = _OPERATIONS[span.kind]
    if span.tool is not None:
        added["gen_ai.tool.name"] = span.tool
    if span.tags:
        added["penstock.tags"] = span.tags
    if span.versions:
        added["penstock.versions"] = msgspec.json.encode(span.versions).decode()
    if span.cost_usd is not None:
        added["gen_ai.usage.cost"] = float(span.cost_usd)
    if span.ttft_ms is not None:
        added["gen_ai.response.time_to_first_chunk"] = span.ttft_ms / 1000
    if span.payload_dropped:
        added["penstock.payload_dropped"] = True
    if span.usage is not None and not span.is_foreign:  # a sender's own counts go out as they came
        added.update(_counts(span.usage))
    for name, payload in (("penstock.input", span.input), ("penstock.output", span.output)):
        if payload is not None:
            added[name] = msgspec.json.encode(payload).decode()
    added.update(_annotations(span.scores))
    return {**added, **found}


def _counts(usage: Usage) -> dict[str, int]:
    """Return the counts as the conventions have them: totals that include every class."""
    counts = {name: count for field, name in _USAGE.items() if (count := getattr(usage, field)) is not None}
    written = [count for count in (usage.input_cache_write, usage.input_cache_write_1h) if count is not None]
    if written:
        counts["gen_ai.usage.cache_creation.input_tokens"] = sum(written)
    totals = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    counts.update({name: total for name, total in totals.items() if total is not None})
    return counts


def _annotations(scores: Sequence[SpanScore]) -> dict[str, Any]:
    """Return judgements as OpenInference's annotations of a span, a trace or a session."""
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for score in scores:
        scope = (
            "" if score.span_id else "trace." if score.trace_id else "session." if score.session_id else ""
        )
        number = counts[scope] = counts.get(scope, -1) + 1
        start = f"{scope}annotations.{number}.annotation."
        for name, value in (
            ("name", score.name),
            ("score", score.value),
            ("label", score.label),
            ("explanation", score.comment),
            ("annotator_kind", _JUDGES[score.source]),
            ("identifier", score.identifier),
        ):
            if value is not None:
                found[start + name] = value
    return found


def _target_links(span: Span) -> list[SpanLink]:
    """Return the link by which a judgement names the span it is about."""
    if span.kind != "evaluation" or not span.scores:
        return []
    score = span.scores[0]
    target = score.span_id or span.parent_id
    return [SpanLink(trace_id=score.trace_id or span.trace_id, span_id=target)] if target else []


def _status(span: Span) -> dict[str, Any]:
    status: dict[str, Any] = {"code": _STATUS[span.status]} if span.status in _STATUS else {}
    if span.status_message is not None:
        status["message"] = span.status_message
    return status


def _event(event: SpanEvent) -> dict[str, Any]:
    return {"name": event.name, "timeUnixNano": str(event.time_ns), "attributes": _pairs(event.attributes)}


def _link(link: SpanLink) -> dict[str, Any]:
    return {"traceId": link.trace_id, "spanId": link.span_id, "attributes": _pairs(link.attributes)}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        # beyond 64 bits there is no integer in OTLP
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"doubleValue": float(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else str(value).replace("inf", "Infinity")}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs({str(name): item for name, item in value.items()})}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {} if value is None else {"stringValue": str(value)}
