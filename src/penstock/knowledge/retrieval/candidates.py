"""The rows worth a look: the best by words and the best by vectors among those that may be found, fused into one score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from penstock.knowledge.index.types import Place, RowSelection
from penstock.knowledge.retrieval.fusion import Floats, mix_convex, mix_ranks
from penstock.knowledge.retrieval.types import Candidate, SearchedIndex, Vector
from penstock.spec.knowledge import SearchRecipe


@dataclass(frozen=True, kw_only=True)
class Found:
    """Row numbers of one kind of search with their scores, best first."""

    rows: tuple[int, ...]
    scores: tuple[float, ...]


NOTHING = Found(rows=(), scores=())


class Pool(Sequence[Candidate]):
    """Fused candidates, best first. Each is made when it is asked for: most searches show a few of hundreds."""

    def __init__(
        self,
        places: Sequence[Place],
        rows: Sequence[int],
        *,
        scores: Floats,
        cosines: Floats | None,
        words: Mapping[int, float],
        dense_ranks: Mapping[int, int],
        lexical_ranks: Mapping[int, int],
    ) -> None:
        self._places = places
        self._rows = rows
        self._scores = scores
        self._cosines = cosines
        self._words = words
        self._dense_ranks = dense_ranks
        self._lexical_ranks = lexical_ranks

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...
    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        if isinstance(place, slice):
            return [self._make(each) for each in range(len(self))[place]]
        return self._make(range(len(self))[place])

    def _make(self, at: int) -> Candidate:
        row, score = self._rows[at], float(self._scores[at])
        return Candidate(
            row=row,
            place=self._places[row],
            score=score,
            fused=score,
            dense=None if self._cosines is None else float(self._cosines[at]),
            lexical=self._words.get(row),
            dense_rank=self._dense_ranks.get(row),
            lexical_rank=self._lexical_ranks.get(row),
        )


def find_by_words(
    index: SearchedIndex, query: str, recipe: SearchRecipe, *, limit: int, rows: RowSelection | None
) -> Found:
    """Return the best rows by BM25."""
    found = index.lexical.search(
        query,
        limit=limit,
        title_weight=recipe.title_weight,
        section_weight=recipe.section_weight,
        rows=rows,
    )
    return Found(rows=tuple(row for row, _ in found), scores=tuple(score for _, score in found))


def find_by_vector(index: SearchedIndex, vector: Vector, *, limit: int, rows: RowSelection | None) -> Found:
    """Return the best rows by cosine."""
    found, scores = index.dense.search(vector, limit, rows)
    return Found(rows=tuple(map(int, found)), scores=tuple(map(float, scores)))


def score_rows(index: SearchedIndex, vector: Vector, rows: Sequence[int], dense: Found) -> Floats:
    """Return the cosine of each row; only those that the dense search did not bring are read."""
    known = dict(zip(dense.rows, dense.scores, strict=True))
    missing = [row for row in rows if row not in known]
    if missing:
        cosines = index.dense.vectors(missing) @ vector
        known.update(zip(missing, map(float, cosines), strict=True))
    return np.array([known[row] for row in rows])


def fuse(
    index: SearchedIndex,
    *,
    lexical: Found,
    dense: Found,
    vector: Vector | None,
    recipe: SearchRecipe,
    weight: float,
) -> Sequence[Candidate]:
    """Return every candidate of either kind, best first, ties by row number."""
    rows = sorted({*lexical.rows, *dense.rows})
    if not rows:
        return []
    by_words = dict(zip(lexical.rows, lexical.scores, strict=True))
    words = np.array([by_words.get(row, 0.0) for row in rows])
    cosines = None if vector is None else score_rows(index, vector, rows, dense)
    if recipe.fusion == "rrf":
        mixed = mix_ranks(words, cosines, weight, recipe.rrf_constant)
    else:
        mixed = mix_convex(words, cosines, weight)
    order = np.lexsort((np.array(rows), -mixed))
    return Pool(
        index.places,
        [rows[int(place)] for place in order],
        scores=mixed[order],
        cosines=None if cosines is None else cosines[order],
        words=by_words,
        dense_ranks={row: rank for rank, row in enumerate(dense.rows, start=1)},
        lexical_ranks={row: rank for rank, row in enumerate(lexical.rows, start=1)},
    )
