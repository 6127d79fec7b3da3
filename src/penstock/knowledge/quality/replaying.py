"""The same questions on two generations: how far their results agree, whatever passages are called on either side.

Passages of two cuttings have different ids, so they are matched by their words: two passages of one document are the same place
when the shorter one's words stand in the other. Rank-biased overlap is the extrapolated one of Webber, Moffat and Zobel (ACM
TOIS 28, 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.knowledge.quality.words import likeness, split_words
from penstock.knowledge.types import Hit

SAME = 0.5
"""Share of the shorter passage's words that must stand in the other."""
PERSISTENCE = 0.9
"""Rank-biased overlap's p: how likely a reader goes on to the next rank."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two lists of passages agree; None where neither found anything."""

    overlap: float | None
    """Mean of the shares of either side's first k that the other side's first k hold as well."""
    rank_overlap: float | None
    same_first: float | None


def agree(baseline: Sequence[Hit], candidate: Sequence[Hit], k: int) -> Agreement:
    """Return how far the first `k` of both agree."""
    left, right = baseline[:k], candidate[:k]
    if not left and not right:
        return Agreement(overlap=None, rank_overlap=None, same_first=None)
    if not left or not right:
        return Agreement(overlap=0.0, rank_overlap=0.0, same_first=0.0)
    words = {id(hit): split_words(hit.text) for hit in (*left, *right)}

    def is_same(a: Hit, b: Hit) -> bool:
        if a.passage_id == b.passage_id:
            return True
        return a.document == b.document and likeness(words[id(a)], words[id(b)]) >= SAME

    names: list[int] = []
    """Of the candidate's hits, which of the baseline's each is; new numbers for others."""
    for number, hit in enumerate(right):
        same = next((at for at, other in enumerate(left) if at not in names and is_same(other, hit)), None)
        if same is None and any(is_same(other, hit) for other in left):
            same = next(at for at, other in enumerate(left) if is_same(other, hit))
        names.append(len(left) + number if same is None else same)
    n_left = sum(any(is_same(hit, other) for other in right) for hit in left)
    n_right = sum(name < len(left) for name in names)
    overlap = 0.5 * (n_left / len(left) + n_right / len(right))
    distinct = list(dict.fromkeys(names))
    return Agreement(
        overlap=overlap,
        rank_overlap=rank_biased_overlap(list(range(len(left))), distinct),
        same_first=float(is_same(left[0], right[0])),
    )


def rank_biased_overlap(first: Sequence[int], second: Sequence[int], p: float = PERSISTENCE) -> float:
    """Return the extrapolated rank-biased overlap of two lists without repeats, 0 to 1 (equation 32 of the paper)."""
    short, long = sorted((first, second), key=len)
    s, length = len(short), len(long)
    if not s:
        return 0.0
    seen_short: set[int] = set()
    seen_long: set[int] = set()
    overlaps: list[int] = []
    for depth in range(length):
        seen_long.add(long[depth])
        if depth < s:
            seen_short.add(short[depth])
        overlaps.append(len(seen_short & seen_long))
    x_s, x_l = overlaps[s - 1], overlaps[length - 1]
    total = sum(overlaps[d - 1] / d * p**d for d in range(1, length + 1))
    total += sum(x_s * (d - s) / (s * d) * p**d for d in range(s + 1, length + 1))
    extrapolated = ((x_l - x_s) / length + x_s / s) * p**length
    return min(1.0, (1 - p) / p * total + extrapolated)
