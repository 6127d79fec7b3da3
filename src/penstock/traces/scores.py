"""Judgements of spans, traces and sessions: taken in as spans of their own, read back as rows.

A judgement's span has an id that follows from what it judges, by which name, by whom: sending it again changes nothing, a later
one takes the place of the earlier, and no table has to be asked.
"""

from collections.abc import Callable, Sequence

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.spec.score_rules import check_score
from penstock.spec.scores import SpanScore
from penstock.spec.spans import Span
from penstock.store.spans.port import ScoreReader
from penstock.store.spans.types import ScoreQuery, ScoreRow
from penstock.telemetry.score_spans import score_span

MAX_SCORES = 1000
"""Of one request."""


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


def _lower(score: SpanScore) -> SpanScore:
    ids = {name: value.lower() for name in ("trace_id", "span_id") if (value := getattr(score, name))}
    return msgspec.structs.replace(score, **ids) if ids else score
