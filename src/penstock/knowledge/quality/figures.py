"""Replies and labels made into columns of numbers: recall@5, ndcg@10, unjudged@5, latency and context, question by question."""

from collections.abc import Mapping, Sequence

from penstock.knowledge.quality.asking import Replies, Reply
from penstock.knowledge.quality.labels import Target
from penstock.knowledge.quality.metrics import score
from penstock.knowledge.quality.ports import Figure, QuestionValue, RankedQuestion, Sheet
from penstock.knowledge.quality.types import METRICS

LATENCY = Figure(name="latency_ms", is_higher_better=False, high=None, unit="ms", is_of_service=True)
TOKENS = Figure(name="context_tokens", is_higher_better=False, high=None, unit="tokens", is_of_service=True)
ERRORS = Figure(name="errors", is_higher_better=False, is_binary=True, is_of_service=True)
NOTHING = Figure(name="nothing_found", is_higher_better=False, is_binary=True)
_BINARY = frozenset({"hit"})


def metric_names(ks: Sequence[int]) -> list[tuple[str, str, int]]:
    """Return name, metric and k of every figure: `recall@5`, `recall`, 5; MRR is given at the deepest k alone."""
    deepest = max(ks)
    return [
        (f"{metric}@{k}", metric, k)
        for metric in METRICS
        for k in sorted(set(ks))
        if metric != "mrr" or k == deepest
    ]


def make_sheet(name: str, replies: Replies, targets: Mapping[str, Target], ks: Sequence[int]) -> Sheet:
    """Return every figure of one side. Questions without a target have no retrieval metrics, but latency."""
    answered = [reply for reply in replies.replies if reply.error is None and reply.question.id in targets]
    columns: dict[str, tuple[Figure, Sequence[QuestionValue]]] = {}
    ranked = [rank_question(reply, targets[reply.question.id]) for reply in answered]
    for title, metric, k in metric_names(ks) if targets else ():
        values = [score(metric, k, each) for each in ranked]
        of = dict(zip((reply.question.id for reply in answered), values, strict=True))
        figure = Figure(name=title, is_binary=metric in _BINARY)
        columns[title] = (figure, _column(replies, of, targets))
    for k in sorted(set(ks)) if targets else ():
        title = f"unjudged@{k}"
        of = {reply.question.id: unjudged_share(reply, targets[reply.question.id], k) for reply in answered}
        columns[title] = (Figure(name=title, is_higher_better=False), _column(replies, of, targets))
    for title, k in covered_names(targets, ks):
        of = {reply.question.id: covered_share(reply, targets[reply.question.id], k) for reply in answered}
        columns[title] = (Figure(name=title), _column(replies, of, targets))
    return Sheet(name=name, columns=columns | service_columns(replies))


def covered_names(targets: Mapping[str, Target], ks: Sequence[int]) -> list[tuple[str, int]]:
    """Return name and k of the figures that only labels with words have: `covered@5`, 5."""
    has_words = any(target.quotations for target in targets.values())
    return [(f"covered@{k}", k) for k in sorted(set(ks))] if has_words else []


def service_columns(replies: Replies) -> dict[str, tuple[Figure, Sequence[QuestionValue]]]:
    """Return what every search has: latency, context, errors, and whether nothing was found."""
    everything = replies.replies
    latency = {reply.question.id: reply.ms for reply in everything}
    tokens = {reply.question.id: reply.context_tokens for reply in everything}
    errors = {reply.question.id: float(reply.error is not None) for reply in everything}
    nothing = {
        reply.question.id: None if reply.error is not None else float(not reply.hits) for reply in everything
    }
    return {
        figure.name: (figure, _column(replies, values, None))
        for figure, values in ((LATENCY, latency), (TOKENS, tokens), (ERRORS, errors), (NOTHING, nothing))
    }


def _column(
    replies: Replies, of: Mapping[str, float | None], targets: Mapping[str, Target] | None
) -> list[QuestionValue]:
    return [
        QuestionValue(
            id=reply.question.id,
            value=of.get(reply.question.id),
            group=reply.question.group,
            slices=reply.question.slices,
            is_error=reply.error is not None,
        )
        for reply in replies.replies
        if targets is None or reply.question.id in targets
    ]


def rank_question(reply: Reply, target: Target) -> RankedQuestion:
    """Return a reply in terms of needs."""
    none: frozenset[str] = frozenset()
    return RankedQuestion(
        id=reply.question.id,
        wanted=target.wanted,
        found=[
            none.union(*(target.meets.get(name, none) for name in passage_ids(hit))) for hit in reply.hits
        ],
        grades={name: grade for name, grade in target.grades.items() if grade != 1},
        passages=list(dict.fromkeys(target.meets.values())),
    )


def passage_ids(hit: object) -> tuple[str, ...]:
    """Return the id of a hit and those of further passages that its parent holds."""
    merged = getattr(hit, "merged", ())
    return (str(getattr(hit, "passage_id", "")), *map(str, merged))


def covered_share(reply: Reply, target: Target, k: int) -> float | None:
    """Return the share of the words that should be found that the first `k` hold together; None for labels without words."""
    if not target.quotations:
        return None
    shown = [name for hit in reply.hits[:k] for name in passage_ids(hit)]
    none: frozenset[int] = frozenset()
    shares = [
        len(none.union(*(each.held.get(name, none) for name in shown))) / each.n_words
        for each in target.quotations
    ]
    return sum(shares) / len(shares)


def unjudged_share(reply: Reply, target: Target, k: int) -> float | None:
    """Return the share of the first `k` that no label says anything of; None when nothing was found."""
    shown = reply.hits[:k]
    if not shown:
        return None
    return sum(target.judged.isdisjoint(passage_ids(hit)) for hit in shown) / len(shown)
