"""recall, precision, nDCG, MRR and hit of one question, on sets of needs: a passage may meet several, and each counts once.

What is divided by follows from the labels alone, never from what was answered, so that two sides of a comparison share it. In
nDCG a rank gains 2^grade − 1 of each need that it is the first to meet (Järvelin and Kekäläinen 2002, in the form of Burges et al.
2005; needs as in Clarke et al. 2008, without their discount), over the best order that passages of this generation allow.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from penstock.knowledge.quality.ports import RankedQuestion


def score(metric: str, k: int, ranked: RankedQuestion) -> float | None:
    """Return `recall`, `precision`, `ndcg`, `mrr` or `hit` at `k`; None when nothing should be found."""
    if not ranked.wanted:
        return None
    return _METRICS[metric](ranked, k)


def _first_met(ranked: RankedQuestion, k: int) -> list[frozenset[str]]:
    """Return of each of the first `k` ranks the needs that it is the first to meet."""
    seen: set[str] = set()
    new = []
    for names in ranked.found[:k]:
        new.append(names - seen)
        seen |= names
    return new


def _recall(ranked: RankedQuestion, k: int) -> float:
    return len(frozenset().union(*ranked.found[:k])) / len(ranked.wanted)


def _precision(ranked: RankedQuestion, k: int) -> float:
    return sum(map(bool, _first_met(ranked, k))) / k


def _hit(ranked: RankedQuestion, k: int) -> float:
    return float(any(ranked.found[:k]))


def _mrr(ranked: RankedQuestion, k: int) -> float:
    return next((1 / rank for rank, names in enumerate(ranked.found[:k], 1) if names), 0.0)


def _ndcg(ranked: RankedQuestion, k: int) -> float:
    gained = [_gain(names, ranked.grades) for names in _first_met(ranked, k)]
    return min(1.0, _discount(gained) / _discount(_best_gains(ranked, k)))


_METRICS: Mapping[str, Callable[[RankedQuestion, int], float]] = {
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
    "mrr": _mrr,
    "ndcg": _ndcg,
}


def _best_gains(ranked: RankedQuestion, k: int) -> list[float]:
    """Return what each of the first `k` ranks would gain in the best order: always the passage that adds most."""
    alone = [frozenset({name}) for name in ranked.wanted]
    passages = [
        *dict.fromkeys(ranked.passages),
        *alone,
    ]  # a need that no passage meets would have one of its own
    missing = set(ranked.wanted)
    gains: list[float] = []
    while missing and len(gains) < k:
        best = max(passages, key=lambda names: _gain(names & missing, ranked.grades))
        gains.append(_gain(best & missing, ranked.grades))
        missing -= best
    return gains


def _gain(names: Collection[str], grades: Mapping[str, int]) -> float:
    return sum(2.0 ** grades.get(name, 1) - 1.0 for name in names)


def _discount(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
