"""The nouns of retrieval: candidates, stages, what a search returns, and the ports that others fill."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.types import IndexDocument, Place, RowSelection, VectorIndex
from penstock.spec.knowledge import RerankRecipe

Vector = NDArray[np.float32]
RankedMode = Literal["hybrid", "lexical", "dense", "none"]
StageName = Literal[
    "question",
    "selection",
    "lexical",
    "dense",
    "fusion",
    "boosts",
    "rerank",
    "relevance",
    "diversity",
    "per_document",
    "parents",
    "cut",
]

EmbedQuery = Callable[[str], tuple[Vector | None, str | None]]
"""Returns a vector of length one, or None and the reason."""


class WordIndex(Protocol):
    """BM25 over the words of an index."""

    def search(
        self,
        query: str,
        *,
        limit: int,
        title_weight: float = 1.0,
        section_weight: float = 1.0,
        rows: RowSelection | None = None,
    ) -> list[tuple[int, float]]:
        """Return `(row number, BM25)` of the best selected rows that hold any word of the query."""


class SearchedIndex(Protocol):
    """What a search reads of an index; `index.generation.OpenIndex` is one."""

    @property
    def embedder(self) -> str: ...
    @property
    def places(self) -> Sequence[Place]: ...
    @property
    def documents(self) -> Sequence[IndexDocument]: ...
    @property
    def document_of(self) -> NDArray[np.int32]: ...
    @property
    def dense(self) -> VectorIndex: ...
    @property
    def lexical(self) -> WordIndex: ...
    def select(self, mask: NDArray[np.bool_], /) -> RowSelection:
        """Return the rows of the documents that are true in `mask`."""


class PassageRow(Protocol):
    """A passage as the control tables hold it."""

    @property
    def id(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def section(self) -> str | None: ...
    @property
    def anchor(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def start_char(self) -> int: ...
    @property
    def end_char(self) -> int: ...
    @property
    def parent_start(self) -> int | None: ...
    @property
    def parent_end(self) -> int | None: ...


LoadPassages = Callable[[Sequence[Place]], Mapping[Place, PassageRow]]
"""Returns the passages at these places. One that was erased meanwhile is missing."""


@dataclass(frozen=True, kw_only=True)
class RerankText:
    """A passage as a second look reads it."""

    id: str
    title: str | None
    section: str | None
    text: str


class Reranker(Protocol):
    """Scores passages for a question. May raise `PenstockError`; then the first order stands, noted."""

    def score(
        self, query: str, passages: Sequence[RerankText], recipe: RerankRecipe, *, traceparent: str | None
    ) -> Sequence[float]:
        """Return one score a passage, higher is better."""


Rerankers = Mapping[str, Reranker]
"""By the kind that a recipe names."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row that may be shown, with everything that was learnt about it. Scores that were not made are None."""

    row: int
    place: Place
    score: float
    dense: float | None = None
    """Cosine of question and passage."""
    lexical: float | None = None
    """BM25; None when no word of the question is in the passage."""
    dense_rank: int | None = None
    """From 1, among what the filters let through; None when it was not among the dense candidates."""
    lexical_rank: int | None = None
    fused: float | None = None
    """The score after fusion, before boosts and second looks."""
    freshness: float | None = None
    authority: float | None = None
    rerank: float | None = None
    """The second look's own score."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A candidate that a stage took out, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage did. `candidates` and `dropped` are kept only when an explanation was asked for."""

    name: StageName
    seconds: float
    n_in: int
    n_out: int
    note: str | None = None
    candidates: tuple[Candidate, ...] = ()
    """In the order after this stage."""
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RankedPassage:
    """A passage to be shown, best first. `text` is the parent's where the chunk recipe keeps parents."""

    candidate: Candidate
    passage_id: str
    document: str
    title: str | None
    section: str | None
    anchor: str | None
    text: str
    start: int
    end: int
    """Offsets of `text` in the parsed document."""
    found_text: str
    """The passage that was found; equals `text` without parents."""
    found_start: int
    found_end: int
    merged: tuple[str, ...] = ()
    """Ids of further found passages that stand in the same parent."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The answer to one question."""

    passages: tuple[RankedPassage, ...]
    mode: RankedMode
    notes: tuple[str, ...]
    """What was less than the recipe asks for, and why: no vectors, an unknown property, a failed second look."""
    n_rows: int | None
    """Passages that were searched: those that filters and access let through. None: nothing was."""
    stages: tuple[Stage, ...]
    shortfall: str | None = None
    """Why there are fewer than k."""

    @property
    def note(self) -> str | None:
        """All notes as one text."""
        return "; ".join(self.notes) or None
