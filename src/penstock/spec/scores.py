"""A score: one judgement of one output. Undefined is not zero, and an error is not a fail."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

ScoreStatus = Literal["scored", "undefined", "error", "skipped"]
"""`undefined`: the scorer says that this output has no such score (a mean of nothing, a claim check of a refusal). `error`:
it, its judge or the target failed. `skipped`: nobody asked it. Only `scored` enters an estimate; the others lower coverage."""
ErrorFault = Literal["target", "scorer", "judge"]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judgement of one output of an evaluation. `value` is set exactly when `status` is `scored`."""

    name: str
    """Of the score, unique within an evaluation; `token_f1`, or what the specification calls it."""
    value: float | None
    status: ScoreStatus
    scorer: str
    """Stamp of the scorer, `NAME@VERSION#DIGEST` with eight hex characters of its parameters: `token_f1@1#0f3c99aa`."""
    label: str | None = None
    """What was found, where it has a name: a class, a verdict such as `tie`."""
    reason: str | None = None
    """Why it is undefined, failed or was skipped; for a judge, why it judged so."""
    fault: ErrorFault | None = None
    """Whose error it was; set exactly when `status` is `error`."""
    source: Literal["human", "model", "code"] = "code"
    statistics: list[float] = []
    """What a figure over many outputs is made from where that is not the mean of the values, such as the n-gram counts
    of BLEU: vectors of one scorer have one length, and the figure is a function of their sum."""
    evidence: dict[str, Any] = {}
    """Whatever lets a person check the value: matched spans, the judge's form, counts."""
    cost_usd: Decimal | None = None
    """What making it cost; None when unknown, 0 for code."""
    trace_id: str | None = None
    """The judge's own call."""


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
