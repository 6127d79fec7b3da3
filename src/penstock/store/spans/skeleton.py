"""The skeleton of a trace: what drawing its tree needs of each span, as columns, so that 100,000 spans are no objects."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from penstock.spec.spans import Span


class Skeleton(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a span in every column, by start time and then id, each span once. No payloads, no attributes."""

    span_ids: list[int] = []
    parent_ids: list[int | None] = []
    names: list[str] = []
    kinds: list[str] = []
    statuses: list[str] = []
    start_ns: list[int] = []
    end_ns: list[int | None] = []
    models: list[str | None] = []
    agents: list[str | None] = []
    tools: list[str | None] = []
    error_codes: list[str | None] = []
    input_tokens: list[int | None] = []
    output_tokens: list[int | None] = []
    cost_usd: list[Decimal | None] = []
    ttft_ms: list[float | None] = []
    n_scores: list[int] = []
    """Judgements that the span brings, of itself or of another."""
    payload_dropped: list[bool] = []
    versions: dict[str, str] = {}
    """Every version that shaped the trace, from all of its spans."""

    def __len__(self) -> int:
        return len(self.span_ids)


def skeleton_of(spans: Sequence[Span]) -> Skeleton:
    """Return the skeleton of these spans; of several records of one span the first by start time counts."""
    by_id: dict[int, Span] = {}
    for span in sorted(spans, key=lambda each: (each.start_ns, each.span_id)):
        by_id.setdefault(int(span.span_id, 16), span)
    rows = list(by_id.values())
    versions: dict[str, str] = {}
    for span in rows:
        versions.update(span.versions)
    return Skeleton(
        span_ids=list(by_id),
        parent_ids=[None if span.parent_id is None else int(span.parent_id, 16) for span in rows],
        names=[span.name for span in rows],
        kinds=[span.kind for span in rows],
        statuses=[span.status for span in rows],
        start_ns=[span.start_ns for span in rows],
        end_ns=[span.end_ns for span in rows],
        models=[span.model for span in rows],
        agents=[span.agent for span in rows],
        tools=[span.tool for span in rows],
        error_codes=[span.error_code for span in rows],
        input_tokens=[span.usage.input_tokens if span.usage else None for span in rows],
        output_tokens=[span.usage.output_tokens if span.usage else None for span in rows],
        cost_usd=[span.cost_usd for span in rows],
        ttft_ms=[span.ttft_ms for span in rows],
        n_scores=[len(span.scores) for span in rows],
        payload_dropped=[span.payload_dropped for span in rows],
        versions=dict(sorted(versions.items())),
    )
