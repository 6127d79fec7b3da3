"""Scores and feedback: judgements of a span, a trace or a session, on the same way as spans and with the same care."""

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.sdk.observation import NOTHING, Observation, current_span
from penstock.sdk.payloads import black_out, copy_payload, encode_json
from penstock.sdk.records import ScoreRecord
from penstock.sdk.runtime import RUNTIME
from penstock.spec.score_rules import check_score
from penstock.spec.scores import ScoreSource, SpanScore

_MAX_COMMENT = 10_000

_log = logging.getLogger("penstock.sdk")


def score(
    name: str,
    value: float | bool | None = None,
    *,
    label: str | None = None,
    comment: str | None = None,
    source: ScoreSource = "code",
    scorer: str | None = None,
    identifier: str | None = None,
    span: Observation | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    session_id: str | None = None,
    on: Literal["span", "trace"] = "span",
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Judge the current span, or its whole trace (`on="trace"`), or what the ids name, whenever that was.

    Give a `value` (True counts 1, False 0), a `label`, or both. Of several with the same target, `name`, `scorer` and
    `identifier` the latest holds. Never raises; what names no target, or could not be stored (a name
    over 200 characters, an id that is none), is told in the log and left out.
    """
    pipeline = RUNTIME.start()
    if pipeline is None:
        return
    try:
        if trace_id is None and session_id is None:
            at = span or current_span()
            trace_id, span_id = (None, None) if at is NOTHING else (at.trace_id, at.span_id)
            if at is not NOTHING and not at.is_sampled:
                return  # a judgement of what is not recorded would stand alone
            if on == "trace":
                span_id = None
        if trace_id is None and session_id is None:
            _log.warning("penstock: the score %r names nothing: there is no current span here", name)
            return
        number = None if value is None else float(value)
        if number is not None and not math.isfinite(number):
            number = None
        if number is None and label is None:
            _log.warning("penstock: the score %r has neither a value nor a label", name)
            return
        settings = pipeline.settings
        judged = SpanScore(
            name=str(name),
            value=number,
            label=_word(label),
            source=source,
            scorer=_word(scorer),
            identifier=_word(identifier),
            trace_id=None if trace_id is None else str(trace_id).lower(),
            span_id=None if span_id is None else str(span_id).lower(),
            session_id=_word(session_id),
            comment=str(comment)[:_MAX_COMMENT] if comment and settings.capture else None,
            time_ns=now_ns(),
            evidence=copy_payload(dict(evidence), settings.max_payload_bytes)[0]
            if evidence and settings.capture
            else {},
        )
        check_score(judged, where="score")  # here, since what is refused later would be found by nobody
        given = {
            part: item for part, item in msgspec.structs.asdict(judged).items() if item not in (None, {})
        }
        del given["status"]
        if settings.redact is not None:
            parts = [part for part in ("label", "comment", "evidence") if part in given]
            given.update({part: black_out(given[part], [settings.redact]) for part in parts})
        body = encode_json(given)
        pipeline.add(ScoreRecord(body, len(body)))
    except InvalidInput as error:
        _log.warning("penstock: a score was left out: %s", error)
    except Exception:  # the edge between the program and its record: the program goes on
        _log.debug("penstock: a score failed", exc_info=True)


def _word(value: object) -> str | None:
    return None if value is None else str(value)


def feedback(
    value: float | bool | Literal["up", "down"],
    *,
    comment: str | None = None,
    user_id: str | None = None,
    name: str = "feedback",
    trace_id: str | None = None,
    span_id: str | None = None,
    session_id: str | None = None,
) -> None:
    """Record what a person thought: a thumb (`"up"`, `"down"`, True, False) or a number. A person's later word replaces the earlier."""
    if isinstance(value, str):
        value = value == "up"
    label = None if not isinstance(value, bool) else "up" if value else "down"
    score(
        name,
        value,
        label=label,
        comment=comment,
        source="human",
        scorer=user_id,
        trace_id=trace_id,
        span_id=span_id,
        session_id=session_id,
        on="trace",
    )
