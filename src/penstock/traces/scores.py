"""Judgements of spans, traces and sessions: taken in as spans of their own, read back as rows.

A judgement's span has an id that follows from what it judges, by which name, by whom: sending it again changes nothing, a later
one takes the place of the earlier, and no table has to be asked.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.store.spans.port import ScoreReader
from penstock.store.spans.types import ScoreQuery, ScoreRow
from penstock.telemetry.score_spans import score_span

MAX_SCORES = 1000
"""Of one request."""
MAX_NAME = 200
MAX_COMMENT = 20_000
_HEX = frozenset("0123456789abcdef")


class StoredScore(msgspec.Struct, frozen=True, kw_only=True):
    """Where a judgement was put: the span that carries it."""

    trace_id: str
    span_id: str


class ScoreService:
    """Takes judgements in and lists them. May be called from any thread."""

    def __init__(
        self,
        reader: ScoreReader,
        store_spans: Callable[[Sequence[Span]], None],
        *,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        self._reader = reader
        self._store_spans = store_spans
        self._clock = clock

    def add(
        self, scores: Sequence[SpanScore], *, project: str = "default", key_id: str | None = None
    ) -> list[StoredScore]:
        """Store judgements, all of them or, when one is wrong, none; they are on disk when this returns.

        A `time_ns` of 0 means now. Raises `InvalidInput` that names the wrong one (`scores.3.value`).
        """
        if not 1 <= len(scores) <= MAX_SCORES:
            raise InvalidInput(
                f"Send 1 to {MAX_SCORES} scores at once; these are {len(scores)}.", where="scores"
            )
        spans = []
        for number, given in enumerate(scores):
            score = _lower(given if given.time_ns else msgspec.structs.replace(given, time_ns=self._clock()))
            check_score(score, where=f"scores.{number}")
            spans.append(score_span(score, project=project, key_id=key_id, service="scores"))
        self._store_spans(spans)
        return [StoredScore(trace_id=span.trace_id, span_id=span.span_id) for span in spans]

    def list(self, query: ScoreQuery) -> list[ScoreRow]:
        """Return the judgements that match, the latest first."""
        return self._reader.list_scores(query)


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
        if value is not None and (len(value) != length or not _HEX.issuperset(value) or not value.strip("0")):
            raise refuse(part, f"{part} is {length} hex characters, not all zero; this is {value!r}.")
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
    for part in ("label", "scorer", "identifier", "session_id"):
        value = getattr(score, part)
        if value is not None and len(value) > 1000:
            raise refuse(part, f"{part} has at most 1000 characters.")
    if not 0 < score.time_ns < 2**63:
        raise refuse("time_ns", "time_ns is nanoseconds since the epoch.")


def _lower(score: SpanScore) -> SpanScore:
    ids = {name: value.lower() for name in ("trace_id", "span_id") if (value := getattr(score, name))}
    return msgspec.structs.replace(score, **ids) if ids else score
