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

import msgspec

from penstock.store.spans.json_text import joined_lines, split_lines

MODEL_KINDS = frozenset({"llm", "embedding"})
RERANK = "rerank"
"""A model call when it tells tokens or money: many rerankers are plain functions."""
_CALLING = MODEL_KINDS | {RERANK}
ATTEMPT = "attempt"
_MAX_SUM = 2**63 - 1
"""What the column holds; only made-up counts come near it."""
EVALUATION = "evaluation"


INHERITED = ("user_id", "session_id", "environment", "release", "agent")
_inherited = attrgetter(*INHERITED)
_age = attrgetter("start_ns", "span_id")
_span_id = attrgetter("span_id")


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
    if len(spans) == 1:
        return _summarise_one(spans[0], is_judged=is_judged)
    everything, has_scores = spans, is_judged
    if True in [span.has_scores for span in spans]:
        has_scores = True
        spans = [span for span in everything if not span.is_judgement] or everything
    root = find_root(spans)
    calls = _model_calls(spans)
    leaf_calls = _leaves(calls, spans)
    leaves = leaf_calls + _attempts(spans)
    starts = [span.start_ns for span in everything]
    costs = [span.cost_usd for span in leaves if span.cost_usd is not None]
    return make_summary(
        root,
        told=_first_told(root, spans),
        reach=(min(starts), max(starts)),
        models=_joined({span.model for span in spans}),
        providers=_joined({span.provider for span in spans}),
        tags=_joined({tag for span in spans if span.tags for tag in split_lines(span.tags)}),
        n_spans=len(everything),
        n_model_calls=len(leaves),
        n_unpriced=len(leaves) - len(costs),
        input_tokens=_sum_known([span.input_tokens for span in leaves]),
        output_tokens=_sum_known([span.output_tokens for span in leaves]),
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        n_errors=[span.status for span in spans].count("error"),
        has_scores=has_scores,
        covered=_covered(calls, leaf_calls),
    )


def _summarise_one(span: SpanFacts, *, is_judged: bool) -> TraceSummary:
    """Return what `summarise_trace` says of a single span, in a third of the time: most calls of a gateway are one."""
    is_leaf = span.kind == ATTEMPT or is_model_call(span)
    given, written, cost = (
        (span.input_tokens, span.output_tokens, span.cost_usd) if is_leaf else (None, None, None)
    )
    return make_summary(
        span,
        told=dict(zip(INHERITED, _inherited(span), strict=True)),
        reach=(span.start_ns, span.start_ns),
        models=_joined((span.model,)),
        providers=_joined((span.provider,)),
        tags=_joined(set(split_lines(span.tags))),
        n_spans=1,
        n_model_calls=int(is_leaf),
        n_unpriced=int(is_leaf and cost is None),
        input_tokens=_sum_known((given,)),
        output_tokens=_sum_known((written,)),
        cost_usd=None if cost is None else Decimal(0) + cost,
        n_errors=int(span.status == "error"),
        has_scores=is_judged or span.has_scores,
        covered="",
    )


def _covered(calls: Sequence[SpanFacts], leaves: Sequence[SpanFacts]) -> str:
    """Return `join_covered` of calls that are in order of their ids."""
    if len(calls) == len(leaves):
        return ""
    ids = {span.span_id for span in leaves}
    return ",".join([str(call.span_id) for call in calls if call.span_id not in ids])


def join_covered(calls: Iterable[int], leaves: Collection[int]) -> str:
    """Return the ids of the model calls that are no leaves, as `TraceSummary.covered`."""
    return ",".join([str(call) for call in sorted(calls) if call not in leaves])


def make_summary(
    root: SpanFacts,
    *,
    told: Mapping[str, str | None],
    reach: tuple[int, int],
    models: str,
    providers: str,
    tags: str,
    n_spans: int,
    n_model_calls: int,
    n_unpriced: int,
    input_tokens: int | None,
    output_tokens: int | None,
    cost_usd: Decimal | None,
    n_errors: int,
    has_scores: bool,
    covered: str,
) -> TraceSummary:
    """Return the row of a trace from its root, from what it or others tell of `INHERITED`, and from what its spans add up to."""
    return TraceSummary(  # by position: it is made for every trace
        root.trace_id,
        root.span_id,
        root.name,
        root.kind,
        root.start_ns,
        *reach,
        None if root.end_ns is None else (root.end_ns - root.start_ns) / 1e6,
        root.status,
        root.error_code,
        root.project,
        root.key_id,
        told["user_id"],
        told["session_id"],
        root.route,
        root.provider,
        root.model,
        models,
        providers,
        n_spans,
        n_model_calls,
        n_unpriced,
        input_tokens,
        output_tokens,
        cost_usd,
        root.ttft_ms,
        root.preview,
        told["environment"],
        told["release"],
        told["agent"],
        root.cache,
        tags,
        n_errors,
        has_scores,
        covered,
    )


def _first_told(root: SpanFacts, spans: Sequence[SpanFacts]) -> dict[str, str | None]:
    """Return what the root says of itself, or else the earliest span that says it."""
    own = _inherited(root)
    told: dict[str, str | None] = dict(zip(INHERITED, own, strict=True))
    if None not in own or list(map(_inherited, spans)).count(own) == len(spans):
        return told
    earliest = sorted(spans, key=_age)
    for name in INHERITED:
        if told[name] is None:
            told[name] = next((said for span in earliest if (said := getattr(span, name)) is not None), None)
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
    return _leaves(_model_calls(spans), spans) + _attempts(spans)


def _model_calls(spans: Sequence[SpanFacts]) -> list[SpanFacts]:
    calls = [span for span in spans if span.kind in _CALLING and is_model_call(span)]
    if len(calls) > 1:
        calls.sort(key=_span_id)
    return calls


def _attempts(spans: Sequence[SpanFacts]) -> list[SpanFacts]:
    return [span for span in spans if span.kind == ATTEMPT]


def _leaves(calls: list[SpanFacts], spans: Sequence[SpanFacts]) -> list[SpanFacts]:
    if len(calls) < 2:
        return calls
    leaves = find_leaf_ids([call.span_id for call in calls], {span.span_id: span.parent_id for span in spans})
    return [call for call in calls if call.span_id in leaves]


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
    known = [value for value in values if value]
    if len(known) == 1:
        return "\n" + known[0].replace("\n", " ") + "\n"
    return joined_lines(sorted(known)) if known else ""


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(sum(known), _MAX_SUM) if known else None
