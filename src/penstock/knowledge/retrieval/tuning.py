"""Tries thousands of search settings on candidates that were found once. Pure numpy: no index, no clock, no chance.

The surprise: the figure that is promised is never the best one seen. Choosing the best of thousands by the same questions
flatters it, so questions are split by group, the best is chosen on four fifths, and what it does on the last fifth counts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.retrieval.settings import Setting

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
Metric = Literal["ndcg", "recall", "mrr", "hit", "precision"]
METRICS: tuple[Metric, ...] = ("ndcg", "recall", "mrr", "hit", "precision")
FieldWeights = tuple[float, float]
"""BM25 weights of title and section."""
MAX_NEEDS = 63
N_FOLDS = 5
_TIE = 1e-12
"""Rows of equal score stand by row number, as in a search."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """One question with every row that any setting may bring, by row number."""

    id: str
    group: str
    rows: NDArray[np.int64]
    cosines: Floats
    dense_ranks: NDArray[np.int64]
    """From 1; 0 when vectors alone did not bring it."""
    words: dict[FieldWeights, Floats]
    """BM25; 0 when no word is shared, or words alone did not bring it."""
    needs: NDArray[np.uint64]
    """One bit for each of the question's needs that the row meets."""
    n_needs: int
    is_exact: bool = False
    looks: Floats | None = None
    """Scores of a second look; NaN for a row that was not looked at."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Every setting on every question."""

    settings: Sequence[Setting]
    values: NDArray[np.float32]
    """A row a setting, a column a question."""
    groups: Sequence[str]

    @property
    def means(self) -> Floats:
        """Of each setting."""
        means: Floats = self.values.mean(axis=1, dtype=np.float64)
        return means


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and what choosing like this is worth."""

    best: int
    """Place of the setting that is best over all questions; the nearest to the present one among equals."""
    honest: NDArray[np.float32]
    """Of each question: the value of the setting that was best on the folds without it."""
    per_fold: tuple[int, ...]
    """The setting chosen in each fold."""


class Board:
    """All questions side by side, padded to the widest, so that one setting is a few array operations."""

    def __init__(self, questions: Sequence[Candidates], *, metric: Metric, k: int) -> None:
        self._questions = questions
        self._metric: Metric = metric
        self._k = k
        self._width = max([k, *(len(each.rows) for each in questions)])
        self._present = self._pad([np.ones(len(each.rows), dtype=bool) for each in questions])
        self._cosines = self._pad([each.cosines for each in questions])
        self._dense_ranks = self._pad([each.dense_ranks for each in questions])
        self._needs = self._pad([each.needs for each in questions])
        self._n_needs = np.array([each.n_needs for each in questions])
        self._is_exact = np.array([each.is_exact for each in questions])
        self._looks = self._pad(
            [np.full(len(each.rows), np.nan) if each.looks is None else each.looks for each in questions]
        )
        self._words: dict[FieldWeights, tuple[Floats, NDArray[np.int64]]] = {}
        self._kept: dict[tuple[FieldWeights, int], tuple[Floats, Floats, Masks, Masks]] = {}

    @property
    def groups(self) -> list[str]:
        """Of each question."""
        return [each.group for each in self._questions]

    def measure(self, setting: Setting) -> NDArray[np.float32]:
        """Return the metric of each question under a setting."""
        scores = self.score(setting)
        width = self._k if setting.rerank_weight <= 0 else max(self._k, setting.rerank_depth)
        top = _best(scores, min(width, self._width))
        if setting.rerank_weight > 0:
            top = self._look_again(scores, top, setting)
        top = top[:, : self._k]
        found = np.where(
            np.take_along_axis(scores, top, 1) > -np.inf, np.take_along_axis(self._needs, top, 1), 0
        )
        return measure_needs(found.astype(np.uint64), self._n_needs, self._metric).astype(np.float32)

    def score(self, setting: Setting) -> Floats:
        """Return the fused score of every row; -inf for rows that the setting does not bring."""
        weights = np.full(len(self._questions), setting.weight)
        if setting.identifier_weight is not None:
            weights = np.where(self._is_exact, setting.identifier_weight, weights)
        scores = np.full(self._present.shape, -np.inf)
        for weight in np.unique(weights):
            mine = weights == weight
            scores[mine] = self._score_at(setting, float(weight), mine)
        return scores

    def _score_at(self, setting: Setting, weight: float, mine: Masks) -> Floats:
        key = (setting.title_weight, setting.section_weight), setting.n_candidates
        all_words, all_cosines, all_by_words, all_by_vectors = self._parts(*key)
        words, cosines = all_words[mine], all_cosines[mine]
        by_words, by_vectors = all_by_words[mine], all_by_vectors[mine]
        if weight <= 0:
            listed, by_vectors = by_words, np.zeros_like(by_words)
        elif weight >= 1:
            listed, words = by_vectors, np.zeros_like(words)
        else:
            listed = by_words | by_vectors
        if setting.fusion == "rrf":
            mixed = _mix_ranks(words, cosines, listed, weight, setting.rrf_constant)
        else:
            top = words.max(axis=1, keepdims=True, initial=0.0)
            scaled = np.divide(words, top, out=np.zeros_like(words), where=top > 0)
            mixed = (1.0 - weight) * scaled
            if weight > 0:
                mixed = mixed + weight * _spread(cosines, listed)
        return np.where(listed, mixed, -np.inf)

    def _parts(self, weights: FieldWeights, limit: int) -> tuple[Floats, Floats, Masks, Masks]:
        """Return words, cosines, and which rows each kind brings with so many candidates."""
        if (weights, limit) not in self._kept:
            if weights not in self._words:
                raw = self._pad([each.words[weights] for each in self._questions])
                self._words[weights] = raw, _ranks(raw)
            words, ranks = self._words[weights]
            by_words = self._present & (words > 0) & (ranks <= limit)
            by_vectors = self._present & (self._dense_ranks > 0) & (self._dense_ranks <= limit)
            self._kept[weights, limit] = np.where(by_words, words, 0.0), self._cosines, by_words, by_vectors
        return self._kept[weights, limit]

    def _look_again(self, scores: Floats, top: NDArray[np.int64], setting: Setting) -> NDArray[np.int64]:
        depth = min(setting.rerank_depth, top.shape[1])
        head, tail = top[:, :depth], top[:, depth:]
        first = np.take_along_axis(scores, head, 1)
        second = np.take_along_axis(self._looks, head, 1)
        seen = np.isfinite(second) & np.isfinite(first)
        mixed = (1 - setting.rerank_weight) * np.where(np.isfinite(first), first, 0.0)
        mixed = mixed + setting.rerank_weight * _spread(np.where(seen, second, 0.0), seen)
        order = np.argsort(np.where(seen, -mixed, np.inf), axis=1, kind="stable")
        return np.concatenate([np.take_along_axis(head, order, 1), tail], axis=1)

    def _pad(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        kind = columns[0].dtype if columns else np.dtype(np.float64)
        padded = np.zeros((len(columns), self._width), dtype=kind)
        for row, values in zip(padded, columns, strict=True):
            row[: len(values)] = values
        return padded


def try_all(questions: Sequence[Candidates], settings: Sequence[Setting], *, metric: Metric, k: int) -> Trial:
    """Return the metric at `k` of every setting on every question."""
    board = Board(questions, metric=metric, k=k)
    return Trial(
        settings=settings,
        values=np.stack([board.measure(setting) for setting in settings]),
        groups=board.groups,
    )


def choose(trial: Trial, *, n_folds: int = N_FOLDS) -> Choice:
    """Choose by all questions, and by folds of whole groups for what is promised. The same for the same questions."""
    folds = assign_folds(trial.groups, n_folds)
    honest = np.zeros(trial.values.shape[1], dtype=np.float32)
    per_fold = []
    for fold in range(int(folds.max(initial=0)) + 1):
        inside = folds == fold
        chosen = _argbest(trial.values[:, ~inside]) if (~inside).any() else 0
        honest[inside] = trial.values[chosen, inside]
        per_fold.append(chosen)
    return Choice(best=_argbest(trial.values), honest=honest, per_fold=tuple(per_fold))


def assign_folds(groups: Sequence[str], n_folds: int) -> NDArray[np.int64]:
    """Return a fold for each question; a group is never split, folds are of like size, no chance is involved."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    ordered = sorted(sizes, key=lambda group: (-sizes[group], hashlib.sha256(group.encode()).hexdigest()))
    filled = [0] * max(1, min(n_folds, len(ordered)))
    fold_of: dict[str, int] = {}
    for group in ordered:
        least = filled.index(min(filled))
        fold_of[group] = least
        filled[least] += sizes[group]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def measure_needs(found: NDArray[np.uint64], n_needs: NDArray[np.int64], metric: Metric) -> Floats:
    """Return the metric of each question. `found` has a column a rank: the needs that its row meets.

    A need counts once, at its first rank, as the scorers of evaluations have it.
    """
    n, k = found.shape
    seen = np.zeros(n, dtype=np.uint64)
    gain = np.zeros(n)
    n_hits, n_surplus = np.zeros(n), np.zeros(n)
    first = np.zeros(n)
    for rank in range(k):
        new = found[:, rank] & ~seen
        seen |= new
        n_new = np.bitwise_count(new).astype(np.float64)
        is_hit = n_new > 0
        gain += is_hit / np.log2(rank + 2)
        n_hits += is_hit
        n_surplus += np.where(is_hit, n_new - 1, 0)
        first = np.where((first == 0) & is_hit, 1.0 / (rank + 1), first)
    if metric == "mrr":
        return first
    if metric == "hit":
        hit: Floats = (n_hits > 0).astype(np.float64)
        return hit
    if metric == "precision":
        precision: Floats = n_hits / k
        return precision
    if metric == "recall":
        recall: Floats = np.bitwise_count(seen) / n_needs
        return recall
    ideal = np.cumsum(1.0 / np.log2(np.arange(k) + 2))
    n_best = np.clip(n_needs - n_surplus, 1, k).astype(np.int64)
    best: Floats = ideal[n_best - 1]
    ndcg: Floats = gain / best
    return ndcg


def _argbest(values: NDArray[np.float32]) -> int:
    means = values.mean(axis=1, dtype=np.float64)
    return int(np.flatnonzero(means >= means.max() - 1e-9)[0])


def _best(scores: Floats, n: int) -> NDArray[np.int64]:
    """Return the places of the best `n`, best first, ties by place."""
    keyed = scores - _TIE * np.arange(scores.shape[1])
    if n < scores.shape[1]:
        top = np.argpartition(-keyed, n - 1, axis=1)[:, :n]
    else:
        top = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(keyed, top, 1), axis=1, kind="stable")
    return np.take_along_axis(top, order, 1)


def _spread(values: Floats, listed: Masks) -> Floats:
    low = np.where(listed, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(listed, values, -np.inf).max(axis=1, keepdims=True)
    width = high - low
    ok = np.isfinite(width) & (width > 0)
    spread = np.divide(values - low, width, out=np.ones_like(values), where=ok)
    return np.where(listed, spread, 0.0)


def _ranks(values: Floats) -> NDArray[np.int64]:
    """Return ranks from 1, the highest first, ties by place."""
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(1, values.shape[1] + 1), order.shape), 1)
    return ranks


def _mix_ranks(words: Floats, cosines: Floats, listed: Masks, weight: float, constant: float) -> Floats:
    def reciprocals(values: Floats, mine: Masks) -> Floats:
        shared = _shared_ranks(np.where(mine, values, -np.inf))
        return np.where(mine, 1.0 / (constant + shared), 0.0)

    total = (1.0 - weight) * reciprocals(words, listed & (words > 0))
    total = total + weight * reciprocals(cosines, listed)
    return total * (constant + 1.0)


def _shared_ranks(values: Floats) -> NDArray[np.int64]:
    """Return ranks from 1; equal values share the better one."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    places = np.broadcast_to(np.arange(1, values.shape[1] + 1), order.shape)
    is_new = np.ones_like(ordered, dtype=bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    shared = np.maximum.accumulate(np.where(is_new, places, 0), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, shared, 1)
    return ranks
