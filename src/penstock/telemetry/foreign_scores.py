"""Judgements that come with foreign spans and log records, as `SpanScore`s.

OpenInference's annotations (`annotations.N.annotation.*`, `evaluations.N.evaluation.*`, of the span itself, or of its
`trace.` or `session.`): on an evaluator span with exactly one link they judge what the link points at. OpenTelemetry's
`gen_ai.evaluation.result` events judge the span that they stand on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.spec.scores import ScoreSource, SpanScore
from penstock.spec.spans import SpanEvent, SpanKind, SpanLink
from penstock.telemetry.attribute_json import parse_json
from penstock.telemetry.flattened import is_under, unflatten

RESULT_EVENT = "gen_ai.evaluation.result"
_LISTS = ("annotations", "evaluations")
_SOURCES: Mapping[str, ScoreSource] = {"human": "human", "llm": "model", "code": "code"}
_MAX_SCORES = 200


def read_scores(
    attributes: dict[str, Any],
    flat: Sequence[str],
    events: Sequence[SpanEvent],
    links: Sequence[SpanLink],
    *,
    kind: SpanKind,
    trace_id: str,
    span_id: str,
    session_id: str | None,
    time_ns: int,
) -> list[SpanScore]:
    """Return what a span judges. Annotations are taken out of `attributes`; events stay."""
    scores: list[SpanScore] = []
    target = links[0] if kind == "evaluation" and len(links) == 1 else None
    of_span = (target.trace_id, target.span_id) if target else (trace_id, span_id)
    for scope in ("", "trace.", "session."):
        for name in _LISTS:
            for item in _take_list(attributes, flat, f"{scope}{name}"):
                place: dict[str, Any] = {"session_id": session_id}
                if scope != "session.":
                    place = {"trace_id": of_span[0], "span_id": None if scope else of_span[1]}
                score = _annotation(item, place, time_ns)
                if score is not None:
                    scores.append(score)
    for event in events:
        if event.name == RESULT_EVENT:
            place = {"trace_id": of_span[0], "span_id": of_span[1]}
            score = score_of_result(event.attributes, place, event.time_ns or time_ns)
            if score is not None:
                scores.append(score)
    return scores[:_MAX_SCORES]


def score_of_result(attributes: Mapping[str, Any], place: dict[str, Any], time_ns: int) -> SpanScore | None:
    """Return the score that a `gen_ai.evaluation.result` event holds, or None when it has no name."""
    name = attributes.get("gen_ai.evaluation.name")
    value, label = (
        _number(attributes.get("gen_ai.evaluation.score.value")),
        _text(attributes.get("gen_ai.evaluation.score.label")),
    )
    comment = _text(attributes.get("gen_ai.evaluation.explanation"))
    failed = attributes.get("error.type") is not None
    if not isinstance(name, str) or not name:
        return None
    evidence = {
        key: attributes[key]
        for key in ("error.type", "gen_ai.response.id")
        if attributes.get(key) is not None
    }
    is_empty = value is None and label is None
    return SpanScore(
        name=name[:200],
        value=value,
        label=label,
        status="error" if failed else "undefined" if is_empty else "scored",
        source="model",
        scorer=_text(attributes.get("gen_ai.evaluation.evaluator.name")),
        comment=comment,
        time_ns=time_ns,
        evidence=evidence,
        **place,
    )


def _take_list(attributes: dict[str, Any], flat: Sequence[str], prefix: str) -> list[Any]:
    names = [name for name in flat if is_under(name, prefix) and name in attributes]
    if not names:
        return []
    found = unflatten({name: attributes.pop(name) for name in names}, prefix)
    return found if isinstance(found, list) else []


def _annotation(item: Any, place: dict[str, Any], time_ns: int) -> SpanScore | None:
    inner = next(iter(item.values())) if isinstance(item, dict) and len(item) == 1 else item
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        return None
    value, label, comment = (
        _number(inner.get("score")),
        _text(inner.get("label")),
        _text(inner.get("explanation")),
    )
    judge = _text(inner.get("annotator_kind")) or ""
    evidence = parse_json(inner.get("metadata"))
    return SpanScore(
        name=inner["name"][:200],
        value=value,
        label=label,
        status="undefined" if value is None and label is None else "scored",
        source=_SOURCES.get(judge.lower(), "code"),
        identifier=_text(inner.get("identifier")),
        comment=comment,
        time_ns=time_ns,
        evidence=evidence if isinstance(evidence, dict) else {},
        **place,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)[:10_000]
