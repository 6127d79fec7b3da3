"""OTLP logs in: the GenAI events among them become judgements, or events of the span that they name.

An event of a span travels as a `Span` with the attribute `penstock.log_events`: ids, time, events, nothing else. Whoever
stores spans joins it to the span itself, whichever of the two comes first. Plain log lines are not kept; a sender is
told how many those were.
"""

from typing import Any

from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent
from penstock.telemetry.foreign_scores import RESULT_EVENT, score_of_result
from penstock.telemetry.mapping_table import load_table
from penstock.telemetry.otlp import LOG_EVENTS, OtlpBatch, find_fault
from penstock.telemetry.otlp_wire import MAX_NS, WireLog, read_logs
from penstock.telemetry.score_spans import score_span

_DETAILS = "gen_ai.client.inference.operation.details"
_NOT_KEPT = "only GenAI events and exceptions within a span are kept, not plain log lines"


def decode_otlp_logs(
    body: bytes, content_type: str, *, project: str = "default", key_id: str | None = None
) -> OtlpBatch:
    """Return what a log export request (already unzipped) brings; raise `MalformedTelemetry` when it is none."""
    version = load_table().version
    batch = OtlpBatch(spans=[], signal="logs")
    events: dict[tuple[str, str], list[SpanEvent]] = {}
    wire = read_logs(body, content_type)
    batch.is_mended = wire.is_mended
    for record in wire.records:
        fault = _take(record, version, batch.spans, events, (project, key_id))
        if fault is not None:
            batch.n_rejected += 1
            batch.reason = batch.reason or f"log record {record.name[:80]!r}: {fault}"
    batch.spans += [
        Span(
            trace_id=trace_id,
            span_id=span_id,
            name="log events",
            start_ns=min(event.time_ns for event in found),
            project=project,
            key_id=key_id,
            attributes={FOREIGN_MARK: version, LOG_EVENTS: True},
            events=found,
        )
        for (trace_id, span_id), found in events.items()
    ]
    return batch


def _take(
    record: WireLog,
    version: int,
    scores: list[Span],
    events: dict[tuple[str, str], list[SpanEvent]],
    owner: tuple[str, str | None],
) -> str | None:
    """Put a record where it belongs; return why it cannot be kept, or None."""
    is_placed = bool(record.trace_id.strip("0") and record.span_id.strip("0"))
    if record.name == RESULT_EVENT:
        return _take_score(record, version, is_placed, scores, owner)
    if not _is_of_span(record):
        return _NOT_KEPT
    if not is_placed:
        return "it names no span"
    fault = find_fault(record.trace_id, record.span_id, "", record.time_ns, 0)
    if fault is None:
        event = SpanEvent(
            name=record.name or "exception", time_ns=min(record.time_ns, MAX_NS), attributes=_content(record)
        )
        events.setdefault((record.trace_id, record.span_id), []).append(event)
    return fault


def _take_score(
    record: WireLog, version: int, is_placed: bool, scores: list[Span], owner: tuple[str, str | None]
) -> str | None:
    attributes = _content(record)
    session = attributes.get("gen_ai.conversation.id") or attributes.get("session.id")
    place: dict[str, Any] = {"session_id": str(session) if session else None}
    if is_placed:
        fault = find_fault(record.trace_id, record.span_id, "", record.time_ns, 0)
        if fault is not None:
            return fault
        place = {"trace_id": record.trace_id, "span_id": record.span_id}
    elif not session and not attributes.get("gen_ai.response.id"):
        return "it names neither a span nor a conversation"
    if not 0 < record.time_ns <= MAX_NS:
        return "its time is not nanoseconds since the epoch"
    score = score_of_result(attributes, place, record.time_ns)
    if score is None:
        return "it has no gen_ai.evaluation.name"
    scores.append(
        score_span(
            score,
            project=owner[0],
            key_id=owner[1],
            service=_text(record.resource.get("service.name")),
            environment=_text(record.resource.get("deployment.environment.name")),
            attributes={FOREIGN_MARK: version},
        )
    )
    return None


def _is_of_span(record: WireLog) -> bool:
    """Return whether a record tells of a GenAI call, or of an exception."""
    name = record.name
    if name.startswith("gen_ai."):
        return name in {_DETAILS, "gen_ai.choice"} or name.endswith((".message", ".exception"))
    return "exception.type" in record.attributes


def _content(record: WireLog) -> dict[str, Any]:
    """Return attributes and body together: conventions before 1.37 put the message into the body."""
    attributes = {name: value for name, value in record.attributes.items() if name != "event.name"}
    if isinstance(record.body, dict):
        return {**record.body, **attributes}
    if record.body not in (None, ""):
        attributes.setdefault("body", record.body)
    return attributes


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
