"""The use-cases of knowledge: ingest a folder, search, list what is there, rebuild an index.

Truth is in the control tables and blobs. Index files are opened on the first search of a generation, checked,
and rebuilt on the spot when they are missing or damaged. Search is safe from several threads.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.errors import InvalidInput
from penstock.knowledge import queries
from penstock.knowledge.embedding.filling import fill_cache
from penstock.knowledge.errors import UnknownKnowledge
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.ingest import BlobSink, Changes, LiveDocument, read_source
from penstock.knowledge.listing import Listing
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import (
    generation_id,
    index_id,
    read_recipe,
    recipe_as_dict,
    settle_recipe,
)
from penstock.knowledge.retrieving import Retrieving
from penstock.knowledge.types import (
    BaseRow,
    DocumentRow,
    Embedder,
    EmbedderSource,
    Hit,
    IngestContext,
    IngestReport,
    InlineContext,
    Passage,
    Retrieval,
    VersionKeeper,
)
from penstock.spec.assets import parse_asset_ref
from penstock.spec.knowledge import ChosenScope, Recipe, SearchRecipe

KEPT_ON_DISK = 3
"""Newest generations of a base whose index files are kept; older ones are rebuilt if they are asked for."""


class KnowledgeService:
    """Knowledge bases over control tables, blobs and an index folder. Every public method may raise
    `UnknownKnowledge`."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobSink,
        index_root: Path,
        embedders: EmbedderSource,
        versions: VersionKeeper | None = None,
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._embedders = embedders
        self._versions = versions
        self._living = Living(engine, versions)
        self._indexes = OpenIndexes(engine, index_root)
        self._retrieving = Retrieving(engine, self._living, self._indexes, embedders)
        self._listing = Listing(engine, self._living)

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
        asked, before = self._prepare(name, folder, recipe)
        embedder = self._embedders.open(asked.embed)
        recipe = settle_recipe(asked, embedder.id)
        changes = read_source(
            self._engine,
            self._blobs,
            base=name,
            folder=folder,
            recipe=recipe,
            embedder=embedder.id,
            before=before,
            ctx=ctx,
            allow_mass_deletion=allow_mass_deletion,
        )
        self._save(name, folder, asked)
        generation = generation_id(name, recipe, embedder.id, changes.document_ids)
        n_embedded = 0
        with self._engine.connect() as connection:
            known = queries.find_generation(connection, generation) is not None
        if not known:
            with self._engine.connect() as connection:
                digests = list(queries.list_passage_digests(connection, changes.document_ids))
            n_embedded = fill_cache(self._engine, embedder, digests, ctx)
            self._add_generation(name, generation, recipe, embedder, changes)
        ctx.check_cancelled()
        ctx.progress(0.92, "building the index")
        n_passages = len(self._indexes.open(self._living.row(name, generation)).places)
        report = IngestReport(
            base=name,
            added=changes.added,
            changed=changes.changed,
            unchanged=changes.unchanged,
            deleted=changes.deleted,
            passages=n_passages,
            embedded=n_embedded,
            dropped=changes.dropped,
            embedder=embedder.id,
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

    def retrieve(
        self,
        name: str,
        query: str,
        k: int = 5,
        *,
        scope: ChosenScope = ChosenScope(),
        generation: str | None = None,
        recipe: SearchRecipe | None = None,
        explain: bool = False,
        traceparent: str | None = None,
    ) -> Retrieval:
        """Search and say what was searched, with what. A failing embedder leaves a lexical search, noted.

        The live generation is searched with its own recipe, unless another generation's id, or another search
        recipe, is told. `explain` keeps what each stage did. Raises `InvalidInput` for a `k` out of range.
        """
        return self._retrieving.retrieve(
            name,
            query,
            k,
            scope=scope,
            generation=generation,
            recipe=recipe,
            explain=explain,
            traceparent=traceparent,
        )

    def list_bases(self) -> list[BaseRow]:
        """Return every base that has a live generation, by name."""
        return self._listing.list_bases()

    def list_documents(self, name: str) -> list[DocumentRow]:
        """Return the documents of the live generation by path, unreadable ones included."""
        return self._listing.list_documents(name)

    def list_passages(self, name: str, path: str) -> list[Passage]:
        """Return the passages of one live document in reading order; raise `UnknownDocument`."""
        return self._listing.list_passages(name, path)

    def rebuild(self, name: str) -> str:
        """Write the live generation's index anew from the control tables and return its id."""
        generation = self._living.find(name)[0]
        self._indexes.reopen(self._living.row(name, generation))
        return generation

    def _prepare(
        self, name: str, folder: Path, recipe: Recipe | None
    ) -> tuple[Recipe, dict[str, LiveDocument]]:
        with self._engine.connect() as connection:
            row = queries.find_base(connection, name)
        if recipe is None:
            recipe = Recipe() if row is None else read_recipe(row.recipe)
        if row is None:
            self._save(name, folder, recipe)  # documents refer to it; lists show it once it is live
        try:
            live = self._living.find(name)[0]
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

    def _add_generation(
        self, name: str, generation: str, recipe: Recipe, embedder: Embedder, changes: Changes
    ) -> None:
        with self._engine.begin() as connection:
            row = {
                "id": generation,
                "base": name,
                "recipe": recipe_as_dict(recipe),
                "embedder": embedder.id,
                "n_documents": changes.n_live,
                "n_passages": queries.count_passages(connection, changes.document_ids),
                "index_id": index_id(name, recipe, embedder.id, changes.document_ids),
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

    def _remove_old_indexes(self, name: str, live: str) -> None:
        with self._engine.connect() as connection:
            rows = queries.list_generations(connection, name)
        kept = {index_of(row) for row in rows[:KEPT_ON_DISK]}
        kept.update(index_of(row) for row in rows if row.id == live)
        for folder in self._indexes.list_folders(name):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
