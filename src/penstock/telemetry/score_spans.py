"""A score on its way: an `evaluation` span in the trace of what it judges.

Its id is derived from target, name, scorer and identifier, so a later judgement of the same takes the place of the
earlier, and sending one twice changes nothing.
"""

import hashlib

import msgspec

from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span

MODEL_KINDS = frozenset({"llm", "embedding", "rerank", "attempt"})
"""Spans that stand for one request to a model; money and tokens of other kinds are sums of what is below them."""


def score_span(
    score: SpanScore,
    *,
    project: str = "default",
    key_id: str | None = None,
    service: str | None = None,
    environment: str | None = None,
    attributes: dict[str, object] | None = None,
) -> Span:
    """Return the span that carries `score`: below the judged span, or in the judged trace, or in one of its own.

    A judgement of a session alone has a trace of its own, whose id is derived as well.
    """
    target = [score.trace_id, score.span_id] if score.trace_id else [score.session_id]
    whose = [] if project == "default" else [project]
    identity = msgspec.json.encode([target, score.name, score.scorer, score.identifier, *whose])
    digest = hashlib.sha256(identity).hexdigest()
    return Span(
        trace_id=score.trace_id or digest[16:48],
        span_id=digest[:16],
        parent_id=score.span_id if score.trace_id else None,
        name=f"score {score.name}",
        kind="evaluation",
        start_ns=score.time_ns,
        end_ns=score.time_ns,
        status="error" if score.status == "error" else "ok",
        project=project,
        service=service,
        environment=environment,
        key_id=key_id,
        session_id=score.session_id,
        attributes=dict(attributes or {}),
        scores=[score],
    )
