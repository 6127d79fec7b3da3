"""One row per trace, computed from all of its spans: pure, and the same whatever order they came in.

The root is the span without parent; in a trace whose root is missing (or which is a cycle) the earliest
span with a missing parent, else the earliest span, stands for it. Money and tokens are summed over leaf
model calls: `llm` and `embedding` spans (and `rerank` ones that used a model) with no other such span below them, so a gateway span around an app
around a model call counts once. Lost attempts below a call are counted beside it.

Spans that only bring scores are judgements of a trace and no part of what happened in it: they count in `n_spans` and
in the range of starts, where their rows are found, and in nothing else, unless a trace has nothing but them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec

from penstock.store.spans.json_text import joined_lines, split_lines

MODEL_KINDS = frozenset({"llm", "embedding"})
RERANK = "rerank"
"""A model call when it tells tokens or money: many rerankers are plain functions."""
ATTEMPT = "attempt"
_MAX_SUM = 2**63 - 1
"""What the column holds; only made-up counts come near it."""
EVALUATION = "evaluation"


INHERITED = ("user_id", "session_id", "environment", "release", "agent")
_inherited = attrgetter(*INHERITED)


class SpanFacts(msgspec.Struct, frozen=True, gc=False):
    """The part of a span that its trace's summary needs. Field order is the order of `FACT_COLUMNS`."""

    trace_id: str
    span_id: int
    parent_id: int | None
    name: str
    kind: str
    start_ns: int
    end_ns: int | None
    status: str
    error_code: str | None
    project: str
    key_id: str | None
    user_id: str | None
    session_id: str | None
    route: str | None
    provider: str | None
    model: str | None
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    preview: str | None
    environment: str | None = None
    release: str | None = None
    agent: str | None = None
    cache: str | None = None
    tags: str | None = None
    """As `joined_lines`."""
    has_scores: bool = False

    @property
    def is_judgement(self) -> bool:
        """Whether the span is there to bring scores and did nothing else."""
        return self.has_scores and self.kind == EVALUATION


class TraceSummary(msgspec.Struct, frozen=True, gc=False):
    """The stored row of one trace. Field order is the order of the table's columns."""

    trace_id: str
    root_id: int
    name: str
    kind: str
    start_ns: int
    first_ns: int
    """Earliest start of any span: with `last_ns` the range in which the trace's rows lie."""
    last_ns: int
    """Latest start of any span."""
    duration_ms: float | None
    status: str
    error_code: str | None
    project: str
    key_id: str | None
    user_id: str | None
    session_id: str | None
    route: str | None
    provider: str | None
    model: str | None
    models: str
    """All models of the trace as `\\nA\\nB\\n`, so that one substring test asks for one of them."""
    providers: str
    n_spans: int
    n_model_calls: int
    n_unpriced: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    ttft_ms: float | None
    preview: str | None
    environment: str | None = None
    release: str | None = None
    agent: str | None = None
    cache: str | None = None
    """The root's."""
    tags: str = ""
    """Of all spans, as `models`."""
    n_errors: int = 0
    """Spans that failed."""
    has_scores: bool = False
    """Whether anybody judged the trace or a span of it."""
    covered: str = ""
    """Ids, with commas, of the model calls that have another one below them: sums over spans leave them out."""


def summarise_trace(spans: Sequence[SpanFacts], *, is_judged: bool = False) -> TraceSummary:
    """Return the summary of a trace from all of its spans (at least one).

    `is_judged` says that scores about it came in other traces. User, session, environment, release and agent are the
    root's or, where it does not say, those of the earliest span that does.
    """
    everything, n_errors, has_scores = spans, 0, is_judged
    if any(span.has_scores for span in spans):
        has_scores = True
        spans = [span for span in everything if not span.is_judgement] or everything
    root = find_root(spans)
    leaves = leaf_model_calls(spans)
    first_ns = last_ns = root.start_ns
    models: set[str | None] = set()
    providers: set[str | None] = set()
    tags: set[str] = set()
    for span in spans:
        models.add(span.model)
        providers.add(span.provider)
        if span.status == "error":
            n_errors += 1
        if span.tags:
            tags.update(split_lines(span.tags))
    for span in everything:
        first_ns, last_ns = min(first_ns, span.start_ns), max(last_ns, span.start_ns)
    costs = [span.cost_usd for span in leaves if span.cost_usd is not None]
    return make_summary(
        root,
        told=_first_told(root, spans),
        reach=(first_ns, last_ns),
        models=_joined(models),
        providers=_joined(providers),
        tags=_joined(tags),
        n_spans=len(everything),
        n_model_calls=len(leaves),
        n_unpriced=len(leaves) - len(costs),
        input_tokens=_sum_known(span.input_tokens for span in leaves),
        output_tokens=_sum_known(span.output_tokens for span in leaves),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        n_errors=n_errors,
        has_scores=has_scores,
        covered=_covered(spans, leaves) if len(spans) > 1 else "",
    )


def _covered(spans: Sequence[SpanFacts], leaves: Sequence[SpanFacts]) -> str:
    calls = [span.span_id for span in spans if is_model_call(span)]
    return join_covered(calls, {span.span_id for span in leaves}) if len(calls) > 1 else ""


def join_covered(calls: Iterable[int], leaves: Collection[int]) -> str:
    """Return the ids of the model calls that are no leaves, as `TraceSummary.covered`."""
    return ",".join(str(call) for call in sorted(calls) if call not in leaves)


def make_summary(
    root: SpanFacts, *, told: Mapping[str, Any], reach: tuple[int, int], **of_all: Any
) -> TraceSummary:
    """Return the row of a trace from its root, from what it or others tell, and from what all of its spans add up to."""
    return TraceSummary(
        trace_id=root.trace_id,
        root_id=root.span_id,
        name=root.name,
        kind=root.kind,
        start_ns=root.start_ns,
        first_ns=reach[0],
        last_ns=reach[1],
        duration_ms=None if root.end_ns is None else (root.end_ns - root.start_ns) / 1e6,
        status=root.status,
        error_code=root.error_code,
        project=root.project,
        key_id=root.key_id,
        route=root.route,
        provider=root.provider,
        model=root.model,
        ttft_ms=root.ttft_ms,
        preview=root.preview,
        cache=root.cache,
        **told,
        **of_all,
    )


def _first_told(root: SpanFacts, spans: Sequence[SpanFacts]) -> dict[str, str | None]:
    """Return what the root says of itself, or else the earliest span that says it."""
    told: dict[str, str | None] = {name: getattr(root, name) for name in INHERITED}
    if None not in told.values() or len(spans) == 1:
        return told
    for name, values in zip(INHERITED, zip(*map(_inherited, spans), strict=True), strict=True):
        if told[name] is None and values.count(None) < len(values):
            telling = [span for span, value in zip(spans, values, strict=True) if value is not None]
            told[name] = getattr(min(telling, key=lambda span: (span.start_ns, span.span_id)), name)
    return told


def find_root(spans: Sequence[SpanFacts]) -> SpanFacts:
    """Return the span that stands for the trace."""
    if len(spans) == 1:
        return spans[0]
    without_parent = [span for span in spans if span.parent_id is None]
    if len(without_parent) == 1:
        return without_parent[0]
    known = {span.span_id for span in spans}

    def rank(span: SpanFacts) -> tuple[int, int, int]:
        order = 0 if span.parent_id is None else 1 if span.parent_id not in known else 2
        return (order, span.start_ns, span.span_id)

    return min(spans, key=rank)


def leaf_model_calls(spans: Sequence[SpanFacts]) -> list[SpanFacts]:
    """Return the model calls that have no other model call below them, and the lost attempts."""
    calls = sorted((span for span in spans if is_model_call(span)), key=lambda span: span.span_id)
    attempts = [span for span in spans if span.kind == ATTEMPT]
    if len(calls) < 2:
        return calls + attempts
    leaves = find_leaf_ids([call.span_id for call in calls], {span.span_id: span.parent_id for span in spans})
    return [call for call in calls if call.span_id in leaves] + attempts


def find_leaf_ids(calls: Sequence[int], parents: Mapping[int, int | None]) -> set[int]:
    """Return which of the model calls, in order of their ids, have no other below them; of a cycle of them, the first."""
    above: set[int] = set()
    for call in calls:
        parent = parents[call]
        while parent is not None and parent not in above and parent in parents and parent != call:
            above.add(parent)
            parent = parents[parent]
    return {call for call in calls if call not in above} or set(calls[:1])


def is_model_call(span: SpanFacts) -> bool:
    """Return whether a model was asked in this span."""
    if span.kind == RERANK:
        return span.cost_usd is not None or span.input_tokens is not None
    return span.kind in MODEL_KINDS


def _joined(values: Collection[str | None]) -> str:
    return joined_lines(sorted(value for value in values if value)) if values else ""


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(sum(known), _MAX_SUM) if known else None
