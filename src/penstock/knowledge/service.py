"""The use-cases of knowledge: ingest a folder, search, list what is there, rebuild an index.

Truth is in the control tables and blobs. Index files are opened on the first search of a generation, checked,
and rebuilt on the spot when they are missing or damaged. Search is safe from several threads.
"""

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput, UpstreamError
from penstock.knowledge import queries
from penstock.knowledge.embed import embed_rows, fill_cache
from penstock.knowledge.errors import DamagedIndex, UnknownDocument, UnknownKnowledge
from penstock.knowledge.index.generation import IndexRow, OpenIndex, build_index, open_index
from penstock.knowledge.ingest import (
    BlobSink,
    Changes,
    LiveDocument,
    generation_id,
    read_source,
    recipe_as_dict,
)
from penstock.knowledge.search import choose_weight, search_index
from penstock.knowledge.sentences import split_sentences
from penstock.knowledge.types import (
    BaseRow,
    DocumentRow,
    Embedder,
    Hit,
    IngestContext,
    IngestReport,
    InlineContext,
    Passage,
    Recipe,
    Retrieval,
    SearchMode,
    VersionKeeper,
)
from penstock.spec.assets import parse_asset_ref

MAX_K = 200
MAX_QUERY_CHARS = 8000
KEPT_ON_DISK = 3
"""Newest generations of a base whose index files are kept; older ones are rebuilt if they are asked for."""
KEPT_OPEN = 4
"""Index generations held open at the same time, over all bases."""
_log = logging.getLogger(__name__)


class KnowledgeService:
    """Knowledge bases over control tables, blobs and an index folder. Every public method may raise
    `UnknownKnowledge`."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobSink,
        index_root: Path,
        embedder: Embedder,
        versions: VersionKeeper | None = None,
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._index_root = index_root
        self._embedder = embedder
        self._versions = versions
        self._open: dict[str, OpenIndex] = {}
        self._lock = threading.Lock()

    def ingest(
        self,
        name: str,
        folder: Path | str,
        ctx: IngestContext | None = None,
        *,
        recipe: Recipe | None = None,
        allow_mass_deletion: bool = False,
    ) -> IngestReport:
        """Make the base hold exactly what `folder` holds, and make that live in one step.

        Incremental by content; resumable through `ctx`. Raises `InvalidInput` for a bad name or folder,
        `NoDocuments` when nothing in it can be read, `MassDeletion` when most documents vanished,
        `UpstreamError` when the embedder fails; in each case what was live stays live.
        """
        parse_asset_ref(f"knowledge:{name}")
        ctx = ctx or InlineContext()
        folder = Path(folder)
        if not folder.is_dir():
            raise InvalidInput(
                f"{str(folder)!r} is not a folder.", hint="Name a folder that holds documents."
            )
        recipe, before = self._prepare(name, folder, recipe)
        if recipe.dense_weight is None:
            recipe = msgspec.structs.replace(recipe, dense_weight=choose_weight(self._embedder.id))
        changes = read_source(
            self._engine,
            self._blobs,
            base=name,
            folder=folder,
            recipe=recipe,
            before=before,
            ctx=ctx,
            allow_mass_deletion=allow_mass_deletion,
        )
        self._save(name, folder, recipe)
        generation = generation_id(name, recipe, self._embedder.id, changes.document_ids)
        n_embedded = 0
        with self._engine.connect() as connection:
            known = queries.find_generation(connection, generation) is not None
        if not known:
            with self._engine.connect() as connection:
                digests = list(queries.list_passage_digests(connection, changes.document_ids))
            n_embedded = fill_cache(self._engine, self._embedder, digests, ctx)
            self._add_generation(name, generation, recipe, changes)
        ctx.check_cancelled()
        ctx.progress(0.92, "building the index")
        n_passages = len(self._open_generation(name, generation).places)
        report = IngestReport(
            base=name,
            added=changes.added,
            changed=changes.changed,
            unchanged=changes.unchanged,
            deleted=changes.deleted,
            passages=n_passages,
            embedded=n_embedded,
            dropped=changes.dropped,
            embedder=self._embedder.id,
            generation=generation,
            version=None,
        )
        version = self._publish(name, recipe, report)
        self._remove_old_indexes(name, generation)
        ctx.progress(1.0, f"{n_passages} passages of {changes.n_live} documents are live")
        return msgspec.structs.replace(report, version=version)

    def search(self, name: str, query: str, k: int = 5) -> list[Hit]:
        """Return at most `k` passages for `query`, best first."""
        return list(self.retrieve(name, query, k).hits)

    def retrieve(self, name: str, query: str, k: int = 5, *, traceparent: str | None = None) -> Retrieval:
        """Search and say what was searched, with what. A failing embedder leaves a lexical search, noted."""
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"k is {k}; it must be between 1 and {MAX_K}.")
        query = query.encode("utf-8", "replace").decode("utf-8")[:MAX_QUERY_CHARS]
        generation, version = self._find_live(name)
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, generation)
        if row is None:
            raise DamagedIndex(f"the control tables do not hold generation {generation} of {name!r}.")
        recipe = msgspec.convert(row.recipe, Recipe)
        index = self._open_generation(name, generation)
        vector, note = None, None
        if not query.strip():
            note = "the query is empty"
        elif recipe.dense_weight != 0 and index.places:
            vector, note = self._embed_query(query, row.embedder, index.dims, traceparent)
        found = [] if not query.strip() else search_index(index, query, vector=vector, recipe=recipe, k=k)
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

    def list_bases(self) -> list[BaseRow]:
        """Return every base that has a live generation, by name."""
        with self._engine.connect() as connection:
            rows = queries.list_bases(connection)
        return [base for base in map(self._describe_base, rows) if base.generation is not None]

    def list_documents(self, name: str) -> list[DocumentRow]:
        """Return the documents of the live generation by path, unreadable ones included."""
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, self._find_live(name)[0])
        return [
            DocumentRow(
                path=row.path,
                title=row.title,
                media_type=row.media_type,
                digest=row.digest,
                size_bytes=row.size_bytes,
                n_passages=row.n_passages,
                n_dropped_chars=row.n_dropped_chars,
                problems=tuple(row.problems),
                error=row.error,
                created_ns=row.created_ns,
            )
            for row in rows
        ]

    def list_passages(self, name: str, path: str) -> list[Passage]:
        """Return the passages of one live document in reading order; raise `UnknownDocument`."""
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, self._find_live(name)[0])
            for row in rows:
                if row.path == path:
                    passages = queries.list_document_passages(connection, row.id)
                    break
            else:
                raise UnknownDocument(f"{name!r} holds no document {path!r}.")
        return [
            Passage(
                id=each.id,
                section=each.section,
                anchor=each.anchor,
                start=each.start_char,
                end=each.end_char,
                text=each.text,
            )
            for each in passages
        ]

    def rebuild(self, name: str) -> str:
        """Write the live generation's index anew from the control tables and return its id."""
        generation = self._find_live(name)[0]
        self._build(name, generation)
        with self._lock:
            self._open[generation] = open_index(self._folder(name, generation))
        return generation

    def _prepare(
        self, name: str, folder: Path, recipe: Recipe | None
    ) -> tuple[Recipe, dict[str, LiveDocument]]:
        with self._engine.connect() as connection:
            row = queries.find_base(connection, name)
        if recipe is None:
            recipe = Recipe() if row is None else msgspec.convert(row.recipe, Recipe)
        if row is None:
            self._save(name, folder, recipe)  # documents refer to it; lists show it once it is live
        try:
            live = self._find_live(name)[0]
        except UnknownKnowledge:
            return recipe, {}
        with self._engine.connect() as connection:
            documents = queries.list_generation_documents(connection, live)
        return recipe, {
            each.path: LiveDocument(id=each.id, digest=each.digest) for each in documents if each.n_passages
        }

    def _save(self, name: str, folder: Path, recipe: Recipe) -> None:
        with self._engine.begin() as connection:
            queries.save_base(
                connection,
                name=name,
                recipe=recipe_as_dict(recipe),
                source=str(folder.resolve()),
                now_ns=now_ns(),
            )

    def _add_generation(self, name: str, generation: str, recipe: Recipe, changes: Changes) -> None:
        with self._engine.begin() as connection:
            row = {
                "id": generation,
                "base": name,
                "recipe": recipe_as_dict(recipe),
                "embedder": self._embedder.id,
                "n_documents": changes.n_live,
                "n_passages": queries.count_passages(connection, changes.document_ids),
                "created_ns": now_ns(),
            }
            queries.add_generation(connection, row, changes.document_ids)

    def _publish(self, name: str, recipe: Recipe, report: IngestReport) -> str | None:
        version = None
        if self._versions is not None:
            live = self._versions.find_live(name)
            if live is not None and live[0].get("generation") == report.generation:
                version = live[1]
            else:
                content: dict[str, Any] = {
                    "generation": report.generation,
                    "embedder": report.embedder,
                    "recipe": recipe_as_dict(recipe),
                    "passages": report.passages,
                }
                version = self._versions.publish(name, content, evidence={"ingest": report.as_evidence()})
        with self._engine.begin() as connection:
            queries.set_live(connection, name=name, generation=report.generation, now_ns=now_ns())
        return version

    def _find_live(self, name: str) -> tuple[str, str | None]:
        if self._versions is not None:
            live = self._versions.find_live(name)
            if live is not None:
                return str(live[0]["generation"]), live[1]
        with self._engine.connect() as connection:
            row = queries.find_base(connection, name)
            if row is not None and row.live_generation is not None:
                return row.live_generation, None
            known = [each.name for each in queries.list_bases(connection) if each.live_generation]
        raise UnknownKnowledge(
            f"no knowledge base {name!r}.",
            hint=f"Known: {', '.join(known)}." if known else "Ingest a folder first.",
        )

    def _describe_base(self, row: Any) -> BaseRow:
        generation: str | None = None
        version: str | None = None
        found: Any = None
        try:
            generation, version = self._find_live(row.name)
        except UnknownKnowledge:
            pass
        else:
            with self._engine.connect() as connection:
                found = queries.find_generation(connection, generation)
        return BaseRow(
            name=row.name,
            source=row.source,
            generation=generation,
            version=version,
            embedder=found.embedder if found else None,
            n_documents=found.n_documents if found else 0,
            n_passages=found.n_passages if found else 0,
            updated_ns=row.updated_ns,
        )

    def _embed_query(
        self, query: str, embedder: str, dims: int, traceparent: str | None
    ) -> tuple[Any, str | None]:
        if embedder != self._embedder.id:
            return (
                None,
                f"the index was made with {embedder!r}, queries are embedded by {self._embedder.id!r}",
            )
        try:
            vector = embed_rows(self._embedder, [query], "query", traceparent=traceparent)[0]
        except UpstreamError as error:
            _log.warning("query not embedded, searching words only", extra={"error": str(error)})
            return None, f"the query could not be embedded: {error.message}"
        if len(vector) != dims:
            return None, f"the embedder gave {len(vector)} numbers, the index holds {dims}"
        return vector, None

    def _open_generation(self, name: str, generation: str) -> OpenIndex:
        with self._lock:
            index = self._open.get(generation)
            if index is not None:
                return index
            folder = self._folder(name, generation)
            try:
                index = open_index(folder)
            except DamagedIndex as error:
                if folder.exists():
                    _log.warning("index rebuilt", extra={"generation": generation, "reason": str(error)})
                self._build(name, generation)
                index = open_index(folder)
            while len(self._open) >= KEPT_OPEN:
                # Not closed here: another thread may be searching it. It closes with its last reference.
                self._open.pop(next(iter(self._open)))
            self._open[generation] = index
            return index

    def _build(self, name: str, generation: str) -> None:
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, generation)
            if row is None:
                raise DamagedIndex(f"the control tables do not hold generation {generation} of {name!r}.")

            def find_vectors(digests: Sequence[str]) -> dict[str, bytes]:
                with self._engine.connect() as own:
                    return queries.find_vectors(own, row.embedder, digests)

            rows = (
                IndexRow(
                    place=(each.document_id, each.position),
                    title=each.title or "",
                    section=each.section or "",
                    text=each.text,
                    embed_digest=each.embed_digest,
                )
                for each in queries.iterate_generation_passages(connection, generation)
            )
            build_index(
                self._folder(name, generation),
                rows,
                generation=generation,
                embedder=row.embedder,
                find_vectors=find_vectors,
            )

    def _remove_old_indexes(self, name: str, live: str) -> None:
        with self._engine.connect() as connection:
            newest = [row.id for row in queries.list_generations(connection, name)][:KEPT_ON_DISK]
        for folder in (self._index_root / name).glob("gen_*"):
            if folder.name not in newest and folder.name != live:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, name: str, generation: str) -> Path:
        return self._index_root / name / generation
