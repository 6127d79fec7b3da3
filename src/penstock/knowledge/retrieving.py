"""One search of a base: which generation, opened, its embedder, its recipe, all of one and the same version."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge import queries
from penstock.knowledge.embedding.questions import QuestionVectors
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.generations.errors import TrackBehind, UnknownGeneration
from penstock.knowledge.generations.opening import OpenIndexes
from penstock.knowledge.generations.tracks import Tracks
from penstock.knowledge.index.generation import OpenIndex
from penstock.knowledge.living import Living
from penstock.knowledge.recipe_bounds import check_search
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.retrieval.pipeline import Searcher
from penstock.knowledge.retrieval.types import RankedPassage, Reranker, Vector
from penstock.knowledge.table_rows import split_passage
from penstock.knowledge.types import EmbedderSource, Hit, Retrieval
from penstock.spec.knowledge import ChosenScope, Properties, Recipe, SearchRecipe

MAX_K = 200
MAX_QUERY_CHARS = 8000
_log = logging.getLogger(__name__)
Place = tuple[str, int]
Adjust = Callable[[SearchRecipe], SearchRecipe]
"""Makes of a generation's own search recipe the one for a single search."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    query: str
    k: int
    scope: ChosenScope
    recipe: SearchRecipe | None
    adjust: Adjust | None
    explain: bool
    traceparent: str | None


class Retrieving:
    """Searches bases. Safe from several threads."""

    def __init__(
        self,
        engine: Engine,
        *,
        living: Living,
        tracks: Tracks,
        indexes: OpenIndexes,
        embedders: EmbedderSource,
        rerankers: Mapping[str, Reranker] | None = None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._living = living
        self._tracks = tracks
        self._indexes = indexes
        self._embedders = embedders
        self._rerankers = rerankers or {}
        self._searcher = Searcher()
        self._questions = QuestionVectors()
        self._clock = clock

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
        adjust: Adjust | None = None,
    ) -> Retrieval:
        """Search one generation, the live one unless told; a failing embedder leaves a lexical search, noted."""
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"k is {k}; it must be between 1 and {MAX_K}.")
        query = query.encode("utf-8", "replace").decode("utf-8")[:MAX_QUERY_CHARS]
        row, version = self._choose(name, generation)
        order = _Order(
            query=query,
            k=k,
            scope=scope,
            recipe=recipe,
            adjust=adjust,
            explain=explain,
            traceparent=traceparent,
        )
        try:
            return self._search(row, version, order)
        except PenstockError:
            # Erased or pruned while it was searched: what is live now answers.
            if generation is not None or self._living.find(name)[0] == row.id:
                raise
        row, version = self._choose(name, None)
        return self._search(row, version, order)

    def _search(self, row: Any, version: str | None, order: "_Order") -> Retrieval:
        """Search the generation of a row: everything follows from it, so a switch meanwhile changes nothing."""
        index = self._indexes.open(row)
        try:
            return self._search_in(index, row, version, order)
        except DamagedIndex:
            return self._search_in(self._indexes.mend(row, index), row, version, order)

    def _search_in(self, index: OpenIndex, row: Any, version: str | None, order: "_Order") -> Retrieval:
        made = read_recipe(row.recipe)
        loaded: dict[Place, Any] = {}
        traceparent = order.traceparent
        wanted = made.search if order.recipe is None else order.recipe
        if order.adjust is not None:
            wanted = _adjusted(row.base, made, wanted, order.adjust)
        if wanted is not made.search:
            check_search(wanted)
        if made.index.kind == "none":
            wanted = msgspec.structs.replace(wanted, fusion="lexical")
        ranked = self._searcher.search(
            index,
            order.query,
            recipe=wanted,
            scope=order.scope,
            k=order.k,
            embed_query=lambda text: self._embed_query(text, made, row.embedder, index.dims, traceparent),
            load_passages=lambda places: self._load(places, loaded),
            rerankers=self._rerankers,
            now_ns=self._clock(),
            traceparent=traceparent,
            explain=order.explain,
        )
        return Retrieval(
            hits=tuple(_hit(each, loaded) for each in ranked.passages),
            generation=row.id,
            version=version,
            embedder=row.embedder,
            mode=ranked.mode,
            note=ranked.note,
            shortfall=ranked.shortfall,
            n_rows=ranked.n_rows,
            stages=ranked.stages,
        )

    def forget_questions(self) -> None:
        """Drop what is kept of questions that were asked lately, as an erasure wants it."""
        self._questions.forget()

    def close(self) -> None:
        """End the threads of second looks."""
        self._searcher.close()

    def _choose(self, name: str, generation: str | None) -> tuple[Any, str | None]:
        if generation is None:
            live, version = self._living.find(name)
            try:
                return self._living.row(name, live), version
            except DamagedIndex:
                moved, version = self._living.find(name)
                if moved == live:
                    raise
                return self._living.row(name, moved), version
        if not generation.startswith("gen_"):
            track = self._tracks.get(name, generation)
            if track.generation is None:
                raise TrackBehind(f"track {generation!r} of {name!r} cannot be searched: {track.note}.")
            generation = track.generation
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, generation)
        if row is None or row.base != name:
            raise UnknownGeneration(
                f"{name!r} has no generation {generation!r}.", hint="Older ones are pruned after a while."
            )
        return row, None

    def _load(self, places: Sequence[Place], loaded: dict[Place, Any]) -> Mapping[Place, Any]:
        with self._engine.connect() as connection:
            found = queries.find_passages(connection, places)
        loaded.update(found)
        return found

    def _embed_query(
        self, query: str, recipe: Recipe, made_with: str, dims: int, traceparent: str | None
    ) -> tuple[Vector | None, str | None]:
        try:
            embedder = self._embedders.open(recipe.embed, made_with=made_with)
            if embedder.id != made_with:
                return None, f"the index was made with {made_with!r}, queries are embedded by {embedder.id!r}"
            vector = self._questions.embed(embedder, recipe.embed, query, traceparent=traceparent)
        except PenstockError as error:
            _log.warning("query not embedded, searching words only", extra={"error": str(error)})
            return None, f"the query could not be embedded: {error.message}"
        if len(vector) != dims:
            return None, f"the embedder gave {len(vector)} numbers, the index holds {dims}"
        return vector, None


def _adjusted(name: str, made: Recipe, wanted: SearchRecipe, adjust: Adjust) -> SearchRecipe:
    changed = adjust(wanted)
    if made.index.kind == "none" and changed.fusion != "lexical":
        raise InvalidInput(f"{name!r} holds no vectors: words cannot be weighed against them.")
    return changed


def _hit(found: RankedPassage, loaded: Mapping[Place, Any]) -> Hit:
    row = loaded.get(found.candidate.place)
    properties = msgspec.convert((row.properties if row is not None else None) or {}, Properties)
    return Hit(
        passage_id=found.passage_id,
        document=found.document,
        title=found.title,
        section=found.section,
        anchor=found.anchor,
        text=found.text,
        sentences=split_passage(found.text, row.lead if row is not None else None),
        score=found.candidate.score,
        dense_score=found.candidate.dense,
        lexical_score=found.candidate.lexical,
        rerank_score=found.candidate.rerank,
        merged=found.merged,
        url=properties.url,
        attributes={
            **({"language": properties.language} if properties.language else {}),
            **properties.values,
        },
    )
