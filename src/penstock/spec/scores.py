"""A score: one judgement of one output. Undefined is not zero, and an error is not a fail."""

from typing import Any, Literal

import msgspec

ScoreStatus = Literal["scored", "undefined", "error"]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`value` is set exactly when `status` is `scored`."""

    name: str
    value: float | None
    status: ScoreStatus
    scorer: str
    """Name and version of the scorer, such as `token_f1@1`."""
    evidence: dict[str, Any] = {}


ScoreSource = Literal["human", "model", "code"]


class SpanScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A judgement of a span, a trace or a session, made by anybody at any time: feedback, a metric, a label.

    Of several with the same target, `name`, `scorer` and `identifier` the latest (`time_ns`) holds. The target is the
    most precise of what is set: a span of a trace, a whole trace, or a session.
    """

    name: str
    value: float | None = None
    """A number; None for a label alone, and for what is undefined."""
    label: str | None = None
    status: ScoreStatus = "scored"
    source: ScoreSource = "code"
    scorer: str | None = None
    """Who or what judged: a user, or name and version of a scorer."""
    identifier: str | None = None
    """Tells several judgements of one name and scorer apart."""
    comment: str | None = None
    time_ns: int
    trace_id: str | None = None
    span_id: str | None = None
    session_id: str | None = None
    evidence: dict[str, Any] = {}
