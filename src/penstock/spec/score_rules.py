"""What a judgement may be: the same rules where it is made and where it is taken in."""

import math
from typing import Final, get_args

from penstock.base.errors import InvalidInput
from penstock.spec.scores import ScoreSource, SpanScore

MAX_NAME: Final = 200
MAX_COMMENT: Final = 20_000
MAX_WORD: Final = 1000
_HEX = frozenset("0123456789abcdef")
_SOURCES = frozenset(get_args(ScoreSource))


def check_score(score: SpanScore, *, where: str) -> None:
    """Raise `InvalidInput` for a judgement without name, target or content, or with one out of range."""

    def refuse(part: str, text: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(text, hint=hint, where=f"{where}.{part}")

    if not score.name.strip() or len(score.name) > MAX_NAME:
        raise refuse("name", f"A score's name has 1 to {MAX_NAME} characters.")
    if score.span_id is not None and score.trace_id is None:
        raise refuse("trace_id", "A score of a span names its trace, too.")
    if score.trace_id is None and not score.session_id:
        raise refuse(
            "trace_id", "A score says what it judges.", "Set trace_id, trace_id and span_id, or session_id."
        )
    for part, length in (("trace_id", 32), ("span_id", 16)):
        value = getattr(score, part)
        if value is not None and not _is_id(value, length):
            raise refuse(part, f"{part} is {length} hex characters, not all zero; this is {value!r}.")
    if score.source not in _SOURCES:
        raise refuse("source", f"A score's source is one of {', '.join(sorted(_SOURCES))}.")
    if score.value is not None and not math.isfinite(score.value):
        raise refuse("value", "A score's value is a finite number.")
    if score.status == "scored" and score.value is None and not score.label:
        raise refuse(
            "value", "A score has a value or a label.", "One that could not be given has status undefined."
        )
    if score.status != "scored" and score.value is not None:
        raise refuse("status", f"A score with status {score.status} has no value: undefined is not zero.")
    if score.comment is not None and len(score.comment) > MAX_COMMENT:
        raise refuse("comment", f"A comment has at most {MAX_COMMENT} characters.")
    for part in _too_long(score):
        raise refuse(part, f"{part} has at most {MAX_WORD} characters.")
    if not 0 < score.time_ns < 2**63:
        raise refuse("time_ns", "time_ns is nanoseconds since the epoch.")


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and _HEX.issuperset(text) and bool(text.strip("0"))


def _too_long(score: SpanScore) -> list[str]:
    words = ("label", "scorer", "identifier", "session_id")
    return [part for part in words if len(getattr(score, part) or "") > MAX_WORD]
