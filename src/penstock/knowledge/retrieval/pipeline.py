"""One search, stage by stage: question, selection, candidates, fusion, boosts, second look, relevance, diversity,
documents, parents, cut. Each stage is timed and can be explained; the order is the same every time.

Knows no database and no gateway: passages, the question's vector and second looks come through ports.
"""

from penstock.knowledge.index.generation import OpenIndex
from penstock.knowledge.retrieval.types import (
    EmbedQuery,
    LoadPassages,
    Ranked,
    Rerankers,
)
from penstock.spec.knowledge import ChosenScope, SearchRecipe


class Searcher:
    """Searches open indexes. Keeps nothing of a question; safe from several threads."""

    def search(
        self,
        index: OpenIndex,
        query: str,
        *,
        recipe: SearchRecipe,
        scope: ChosenScope,
        k: int,
        embed_query: EmbedQuery,
        load_passages: LoadPassages,
        rerankers: Rerankers,
        now_ns: int,
        traceparent: str | None = None,
        explain: bool = False,
    ) -> Ranked:
        """Return at most `k` passages, best first. Never raises for what a question holds."""
        raise NotImplementedError
