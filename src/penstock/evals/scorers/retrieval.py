"""Scorers of retrieval: what the target found (`output.passages`, in rank order) beside what it should (`case.relevant`).

A passage is relevant when its id or its document is named. Several passages of one relevant document count once, at the best
rank. The surprise: an output without any passage is undefined unless the scorer is told that it means "found nothing", because
many targets find passages and do not say which.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from penstock.evals.scorers.code import Judge, ScorerKind, Verdict
from penstock.evals.scorers.reading import NoScore
from penstock.spec.cases import Case, Output


class RetrievalParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many ranks are looked at, and what an id means."""

    k: int | None = None
    """None: all that was found."""
    by: Literal["any", "id", "document"] = "any"
    """What `relevant` names: passages by `id`, documents, or either."""
    of: Literal["passages", "citations"] = "passages"
    """`citations`: what the answer cites instead of what was retrieved."""
    without: Literal["undefined", "nothing_found"] = "undefined"
    """What an output without passages means."""


Hits = tuple[list[int], int, int]
"""How many new relevant names each rank found, how many were found, how many there are to find."""


def _find(case: Case, output: Output, parameters: RetrievalParameters) -> Hits:
    wanted = set(case.relevant)
    if not wanted:
        raise NoScore("the case names nothing that should be found")
    if parameters.of == "citations":
        ranked = [(_text(each, "passage_id", "id"), _text(each, "document")) for each in output.citations]
    else:
        ranked = [(each.id, each.document) for each in output.passages]
    if not ranked and parameters.without == "undefined":
        raise NoScore(f'the output names no {parameters.of}; set `without = "nothing_found"` if that is so')
    found: set[str] = set()
    hits = []
    for passage_id, document in ranked[: parameters.k]:
        names = {
            passage_id if parameters.by != "document" else None,
            document if parameters.by != "id" else None,
        }
        new = {name for name in names if name in wanted and name not in found and name is not None}
        found |= new
        hits.append(len(new))
    return hits, len(found), len(wanted)


def _text(record: dict[str, Any], *keys: str) -> str | None:
    return next((str(record[key]) for key in keys if record.get(key) is not None), None)


def _recall(hits: list[int], n_found: int, n_wanted: int, k: int | None) -> float:
    _ = hits, k
    return n_found / n_wanted


def _precision(hits: list[int], n_found: int, n_wanted: int, k: int | None) -> float:
    _ = n_found, n_wanted
    n_ranks = k if k is not None else len(hits)
    if n_ranks == 0:
        raise NoScore("nothing was found, so there is no share of it")
    return sum(map(bool, hits)) / n_ranks


def _hit(hits: list[int], n_found: int, n_wanted: int, k: int | None) -> float:
    _ = n_found, n_wanted, k
    return float(any(hits))


def _reciprocal_rank(hits: list[int], n_found: int, n_wanted: int, k: int | None) -> float:
    _ = n_found, n_wanted, k
    return next((1 / rank for rank, is_hit in enumerate(hits, 1) if is_hit), 0.0)


def _ndcg(hits: list[int], n_found: int, n_wanted: int, k: int | None) -> float:
    # a passage that is named itself and by its document fulfils two names at once, and wants no second rank
    _ = n_found
    gain = sum(1 / math.log2(rank + 1) for rank, n_new in enumerate(hits, 1) if n_new)
    n_ranks = n_wanted - sum(n_new - 1 for n_new in hits if n_new)
    n_best = min(n_ranks, k) if k is not None else n_ranks
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, n_best + 1))


def _builder(
    measure: Callable[[list[int], int, int, int | None], float],
) -> Callable[[RetrievalParameters], Judge]:
    def build(parameters: RetrievalParameters) -> Judge:
        if parameters.k is not None and parameters.k < 1:
            raise ValueError("`k` is at least 1")

        def judge(case: Case, output: Output) -> Verdict:
            hits, n_found, n_wanted = _find(case, output, parameters)
            ranks = [rank for rank, is_hit in enumerate(hits, 1) if is_hit]
            evidence = {"ranks": ranks, "n_found": n_found, "n_wanted": n_wanted}
            return Verdict(value=measure(hits, n_found, n_wanted, parameters.k), evidence=evidence)

        return judge

    return build


_MEASURES = (
    ("retrieval_recall", "Share of what should be found that is among the first `k`.", _recall, "bounded"),
    ("retrieval_precision", "Share of the first `k` that should be found.", _precision, "bounded"),
    ("retrieval_hit", "1 when any of the first `k` should be found.", _hit, "binary"),
    ("retrieval_mrr", "1 ÷ rank of the first hit, 0 without one; its mean is MRR.", _reciprocal_rank, "bounded"),
    ("retrieval_ndcg", "Normalised discounted gain: hits count less the lower they stand (nDCG, binary gains).", _ndcg, "bounded"),
)  # fmt: skip
KINDS: tuple[ScorerKind[Any], ...] = tuple(
    ScorerKind(
        name=name,
        group="retrieval",
        summary=summary,
        undefined_when="the case names nothing relevant; the output names no passages (unless told what that means)",
        parameters=RetrievalParameters,
        build=_builder(measure),
        scale="binary" if scale == "binary" else "bounded",
        needs=frozenset({"relevant", "context"}),
    )
    for name, summary, measure, scale in _MEASURES
)
