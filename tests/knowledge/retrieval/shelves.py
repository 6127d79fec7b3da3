"""A small index in memory for tests of retrieval: shared words as its BM25, hashed words as its vectors."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.types import Finding, IndexDocument, IndexStats, Place, RowSelection
from penstock.knowledge.retrieval.pipeline import Searcher
from penstock.knowledge.retrieval.types import PassageRow, Ranked
from penstock.spec.knowledge import ChosenScope, Properties, SearchRecipe
from tests.knowledge.embedders import HashingEmbedder

NOW_NS = 1_800_000_000 * 10**9


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A passage."""

    id: str
    path: str
    title: str | None
    section: str | None
    anchor: str | None
    text: str
    start_char: int
    end_char: int
    parent_start: int | None = None
    parent_end: int | None = None


class Words:
    """Scores rows by how many words they share with the question."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = [set(re.findall(r"\w+", text.casefold())) for text in texts]
        self.asked: list[str] = []

    def search(
        self,
        query: str,
        *,
        limit: int,
        title_weight: float = 1.0,
        section_weight: float = 1.0,
        rows: RowSelection | None = None,
    ) -> list[tuple[int, float]]:
        self.asked.append(query)
        wanted = set(re.findall(r"\w+", query.casefold()))
        scored = [
            (row, float(len(words & wanted)))
            for row, words in enumerate(self._words)
            if words & wanted and (rows is None or rows.mask[row])
        ]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:limit]


class Vectors:
    """An exact search of unit rows."""

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        self.matrix = np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)

    def search(
        self, vector: NDArray[np.float32], k: int, rows: RowSelection | None = None, *, exact: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        allowed = np.arange(len(self.matrix)) if rows is None else rows.rows
        cosines = self.matrix[allowed] @ vector
        order = np.lexsort((allowed, -cosines))[:k]
        return allowed[order], cosines[order]

    def vectors(self, rows: Any) -> NDArray[np.float32]:
        return self.matrix[list(rows)]

    def stats(self) -> IndexStats:
        return IndexStats(kind="exact", n_rows=len(self.matrix), dims=self.matrix.shape[1])

    def verify(self, sample: int = 100) -> list[Finding]:
        return []

    def close(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class Shelf:
    """An index over documents, each a list of passages."""

    documents: Sequence[IndexDocument]
    places: Sequence[Place]
    document_of: NDArray[np.int32]
    dense: Vectors
    lexical: Words
    leaves: Mapping[Place, Leaf]
    embedder: str = "hashing@1"
    loaded: list[Place] = field(default_factory=list)
    """Every place whose text was read."""

    def select(self, mask: NDArray[np.bool_], /) -> RowSelection:
        rows = mask[self.document_of] if len(self.document_of) else np.zeros(0, dtype=bool)
        return RowSelection(mask=rows, count=int(rows.sum()), documents=mask, document_of=self.document_of)

    def load(self, places: Sequence[Place]) -> Mapping[Place, PassageRow]:
        self.loaded += places
        return {place: self.leaves[place] for place in places if place in self.leaves}

    def search(self, query: str, k: int = 5, **settings: Any) -> Ranked:
        """Search with a hashing embedder; settings of `Searcher.search` may be given."""
        embedder = HashingEmbedder()

        def embed(text: str) -> tuple[NDArray[np.float32] | None, str | None]:
            row = embedder.embed([text], "query")[0]
            norm = float(np.linalg.norm(row))
            return (row / norm if norm else row), None

        given: dict[str, Any] = {
            "recipe": SearchRecipe(),
            "scope": ChosenScope(),
            "embed_query": embed,
            "load_passages": self.load,
            "rerankers": {},
            "now_ns": NOW_NS,
        }
        return Searcher().search(self, query, k=k, **{**given, **settings})


def make_shelf(
    documents: Mapping[str, Sequence[str]],
    properties: Mapping[str, Properties] | None = None,
    *,
    parents: Mapping[str, tuple[int, int]] | None = None,
    **columns: Any,
) -> Shelf:
    """Return an index. A document's text is its passages joined by a blank; `parents` gives each passage of a document
    the same parent."""
    own = dict(properties or {})
    made: list[IndexDocument] = []
    leaves: dict[Place, Leaf] = {}
    texts: list[str] = []
    numbers: list[int] = []
    for number, path in enumerate(sorted(documents)):
        made.append(
            IndexDocument(
                id=f"doc_{path}",
                path=path,
                title=columns.get("title"),
                properties=own.get(path, Properties()),
            )
        )
        at = 0
        for position, text in enumerate(documents[path]):
            parent = (parents or {}).get(path)
            leaves[f"doc_{path}", position] = Leaf(
                id=f"{path}#{position}",
                path=path,
                title=None,
                section=None,
                anchor=None,
                text=text,
                start_char=at,
                end_char=at + len(text),
                parent_start=parent[0] if parent else None,
                parent_end=parent[1] if parent else None,
            )
            at += len(text) + 1
            texts.append(text)
            numbers.append(number)
    return Shelf(
        documents=made,
        places=list(leaves),
        document_of=np.array(numbers, dtype=np.int32),
        dense=Vectors(HashingEmbedder().embed(texts, "document")),
        lexical=Words(texts),
        leaves=leaves,
    )
