"""One search of a base: which generation, opened, its embedder, its recipe, all of one and the same version."""

import logging
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge import queries
from penstock.knowledge.embedding.vectors import embed_rows
from penstock.knowledge.generations.opening import OpenIndexes
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.search import search_index
from penstock.knowledge.sentences import split_sentences
from penstock.knowledge.types import EmbedderSource, Hit, Retrieval, SearchMode
from penstock.spec.knowledge import ChosenScope, EmbedRecipe, SearchRecipe

MAX_K = 200
MAX_QUERY_CHARS = 8000
_log = logging.getLogger(__name__)


class Retrieving:
    """Searches bases. Safe from several threads."""

    def __init__(
        self, engine: Engine, living: Living, indexes: OpenIndexes, embedders: EmbedderSource
    ) -> None:
        self._engine = engine
        self._living = living
        self._indexes = indexes
        self._embedders = embedders

    def retrieve(
        self,
        name: str,
        query: str,
        k: int,
        *,
        scope: ChosenScope,
        generation: str | None,
        recipe: SearchRecipe | None,
        explain: bool,
        traceparent: str | None,
    ) -> Retrieval:
        """Search one generation, the live one unless told; a failing embedder leaves a lexical search, noted."""
        del scope, explain
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"k is {k}; it must be between 1 and {MAX_K}.")
        query = query.encode("utf-8", "replace").decode("utf-8")[:MAX_QUERY_CHARS]
        version: str | None = None
        if generation is None:
            generation, version = self._living.find(name)
        row = self._living.row(name, generation)
        whole = read_recipe(row.recipe)
        chosen = whole.search if recipe is None else recipe
        index = self._indexes.open(row)
        vector, note = None, None
        if not query.strip():
            note = "the query is empty"
        elif chosen.dense_weight != 0 and index.places:
            vector, note = self._embed_query(query, whole.embed, row.embedder, index.dims, traceparent)
        found = [] if not query.strip() else search_index(index, query, vector=vector, recipe=chosen, k=k)
        with self._engine.connect() as connection:
            passages = queries.find_passages(connection, [index.places[each.row] for each in found])
        hits = []
        for each in found:
            passage = passages.get(index.places[each.row])
            if passage is None:  # erased between the search and now
                continue
            hits.append(
                Hit(
                    passage_id=passage.id,
                    document=passage.path,
                    title=passage.title,
                    section=passage.section,
                    anchor=passage.anchor,
                    text=passage.text,
                    sentences=split_sentences(passage.text),
                    score=each.score,
                    dense_score=each.dense,
                    lexical_score=each.lexical,
                )
            )
        mode: SearchMode = "hybrid" if vector is not None else "lexical"
        return Retrieval(
            hits=tuple(hits),
            generation=generation,
            version=version,
            embedder=row.embedder,
            mode=mode if hits else "none",
            note=note,
        )

    def _embed_query(
        self, query: str, recipe: EmbedRecipe, made_with: str, dims: int, traceparent: str | None
    ) -> tuple[Any, str | None]:
        try:
            embedder = self._embedders.open(recipe, made_with=made_with)
            if embedder.id != made_with:
                return None, f"the index was made with {made_with!r}, queries are embedded by {embedder.id!r}"
            vector = embed_rows(embedder, [query], "query", traceparent=traceparent)[0]
        except PenstockError as error:
            _log.warning("query not embedded, searching words only", extra={"error": str(error)})
            return None, f"the query could not be embedded: {error.message}"
        if len(vector) != dims:
            return None, f"the embedder gave {len(vector)} numbers, the index holds {dims}"
        return vector, None
