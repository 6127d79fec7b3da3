"""The use-cases of knowledge: ingest, search, list what is there; recipes side by side, switched and taken back.

Truth is in the control tables and blobs. Index files are opened on the first search of a generation, checked,
and rebuilt on the spot when they are missing or damaged. Safe from several threads and processes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge.choosing import Choosing
from penstock.knowledge.cutting import Blobs, Cutter
from penstock.knowledge.erasure.removing import Removal, RemovalParts
from penstock.knowledge.generations.build import Builder
from penstock.knowledge.generations.candidates import Candidates
from penstock.knowledge.generations.declaring import Declared, Declaring
from penstock.knowledge.generations.errors import BaseIsBusy
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.opening import FillAddress, OpenIndexes
from penstock.knowledge.generations.pruning import Pruning
from penstock.knowledge.generations.switching import Switching
from penstock.knowledge.generations.tracks import Tracks
from penstock.knowledge.generations.types import (
    KEEP,
    BuildReport,
    EvidenceCheck,
    PruneReport,
    SwitchReport,
    TrackRow,
)
from penstock.knowledge.generations.verify import Verifying
from penstock.knowledge.index.types import Finding
from penstock.knowledge.ingest import Ingesting, IngestOrder, IngestParts
from penstock.knowledge.listing import Listing
from penstock.knowledge.living import Living
from penstock.knowledge.parse import ParserPool
from penstock.knowledge.retrieval.types import Reranker
from penstock.knowledge.retrieving import Adjust, Retrieving
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.types import (
    BaseRow,
    DocumentRow,
    DocumentText,
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

_log = logging.getLogger(__name__)


class KnowledgeService:
    """Knowledge bases over control tables, blobs and an index folder. Every public method may raise
    `UnknownKnowledge`."""

    def __init__(
        self,
        engine: Engine,
        blobs: Blobs,
        index_root: Path,
        embedders: EmbedderSource,
        versions: VersionKeeper | None = None,
        *,
        sources: SourceService | None = None,
        evidence: EvidenceCheck | None = None,
        rerankers: Mapping[str, Reranker] | None = None,
        fill_address: FillAddress = lambda address: address,
        is_used_elsewhere: Callable[[str], bool] = lambda _: True,
        make_pool: Callable[[], ParserPool] = ParserPool,
    ) -> None:
        """`evidence` decides whether a candidate may go live; without `versions` nothing is protected.
        `fill_address` puts secrets into the addresses of servers' indexes; `is_used_elsewhere` says whether another
        room keeps the bytes of a digest, so that pruning leaves them."""
        sources = sources or SourceService(engine, blobs)
        locks = BaseLocks(engine, index_root)
        living = Living(engine, versions)
        indexes = OpenIndexes(engine, index_root, fill_address=fill_address)
        tracks = Tracks(engine, living)
        builder = Builder(engine, indexes)
        choosing = Choosing(engine, Cutter(engine, blobs, make_pool=make_pool))
        switching = Switching(
            tracks=tracks,
            living=living,
            indexes=indexes,
            locks=locks,
            versions=versions,
            evidence=evidence,
        )
        parts = IngestParts(
            engine=engine,
            sources=sources,
            embedders=embedders,
            choosing=choosing,
            builder=builder,
            tracks=tracks,
            switching=switching,
            locks=locks,
        )
        self._tracks = tracks
        self._switching = switching
        self._ingesting = Ingesting(parts)
        self._declaring = Declaring(engine, tracks, switching)
        self._candidates = Candidates(parts, living, indexes)
        self._pruning = Pruning(
            engine,
            blobs,
            tracks=tracks,
            living=living,
            indexes=indexes,
            locks=locks,
            is_used_elsewhere=is_used_elsewhere,
        )
        self._verifying = Verifying(
            engine, blobs, tracks=tracks, living=living, indexes=indexes, embedders=embedders
        )
        self._retrieving = Retrieving(
            engine,
            living=living,
            tracks=tracks,
            indexes=indexes,
            embedders=embedders,
            rerankers=rerankers,
        )
        self._listing = Listing(engine, living, blobs)
        self.removal = Removal(
            RemovalParts(
                engine=engine,
                blobs=blobs,
                tracks=tracks,
                living=living,
                indexes=indexes,
                locks=locks,
                builder=builder,
                switching=switching,
                is_used_elsewhere=is_used_elsewhere,
            )
        )
        """Takes documents out for good, for `erasure.service`."""

    # ---- contents

    def declare(self, name: str, recipe: Recipe, *, is_trial: bool = False) -> Declared:
        """Let a base that has nothing live begin with this recipe; say whether one that is live has the same."""
        parse_asset_ref(f"knowledge:{name}")
        return self._declaring.declare(name, recipe, is_trial=is_trial)

    def ingest(
        self,
        name: str,
        folder: Path | str | None = None,
        ctx: IngestContext | None = None,
        *,
        sources: Sequence[str] | None = None,
        recipe: Recipe | None = None,
        allow_mass_deletion: bool = False,
    ) -> IngestReport:
        """Make the base hold exactly what its sources hold, and make that live in one step; then prune it.

        With `folder` the base's source `folder` is over it from now on, and it alone is scanned; else all sources
        that are not paused, or those named. Incremental by content; resumable. `recipe` is for a base that is new.
        Raises `InvalidInput` for a bad name or folder, `NoDocuments` when nothing can be read, `MassDeletion` when
        most documents vanished, `RecipeIsNotLive`, `UpstreamError` when the embedder fails; in each case what was
        live stays live.
        """
        parse_asset_ref(f"knowledge:{name}")
        ctx = ctx or InlineContext()
        folder = None if folder is None else Path(folder)
        if folder is not None and not folder.is_dir():
            raise InvalidInput(
                f"{str(folder)!r} is not a folder.", hint="Name a folder that holds documents."
            )
        report = self._ingesting.ingest(
            IngestOrder(
                base=name,
                folder=folder,
                sources=sources,
                recipe=recipe,
                allow_mass_deletion=allow_mass_deletion,
            ),
            ctx,
        )
        return self._prune_behind(report) if report.is_new else report

    def _prune_behind(self, report: IngestReport) -> IngestReport:
        """Prune what an ingest left over. What is live is live: a failure is told, and the next one prunes."""
        try:
            self._pruning.prune(report.base)
        except BaseIsBusy:
            pass
        except Exception as error:
            _log.exception("pruning failed", extra={"base": report.base})
            told = error.message if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
            return msgspec.structs.replace(report, notes=[*report.notes, f"nothing was pruned: {told}"])
        return report

    def prune(self, name: str, *, keep: int = KEEP, cache: bool = False) -> PruneReport:
        """Delete what no track and none of the newest `keep` generations refers to; with `cache` vectors too.

        Raises `BaseIsBusy` while an ingest or a build of the base is under way.
        """
        return self._pruning.prune(name, keep=keep, cache=cache)

    # ---- searching

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
        adjust: Adjust | None = None,
    ) -> Retrieval:
        """Search and say what was searched, with what. A failing embedder leaves a lexical search, noted.

        The live generation is searched with its own recipe, unless another generation (its id, or the name of a
        track), or another search recipe, is told; `adjust` changes members of it for this search. `explain` keeps what
        each stage did. Raises `InvalidInput` for a `k` out of range, `UnknownTrack`, `UnknownGeneration`.
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
            adjust=adjust,
        )

    def forget_questions(self) -> None:
        """Drop what this process keeps of questions that were asked lately."""
        self._retrieving.forget_questions()

    # ---- what is there

    def list_bases(self) -> list[BaseRow]:
        """Return every base that has a live generation, by name."""
        return self._listing.list_bases()

    def list_documents(self, name: str, *, scope: ChosenScope = ChosenScope()) -> list[DocumentRow]:
        """Return the documents of the live generation by path, unreadable ones included."""
        return self._listing.list_documents(name, scope=scope)

    def count_unreadable(self, name: str) -> int:
        """Return how many documents of the live generation could not be read, or not in their newest version."""
        return self._listing.count_unreadable(name)

    def list_passages(self, name: str, path: str, *, scope: ChosenScope = ChosenScope()) -> list[Passage]:
        """Return the passages of one live document in reading order; raise `UnknownDocument`."""
        return self._listing.list_passages(name, path, scope=scope)

    def read_document(self, name: str, path: str, *, scope: ChosenScope = ChosenScope()) -> DocumentText:
        """Return the whole text of a live document, as it was parsed; raise `UnknownDocument`."""
        return self._listing.read_document(name, path, scope=scope)

    # ---- recipes side by side

    def list_tracks(self, name: str) -> list[TrackRow]:
        """Return the recipes that are kept up to date: `live`, `previous`, then candidates by name."""
        return self._tracks.list_rows(name)

    def live_recipe(self, name: str) -> Recipe:
        """Return the recipe that is live, as it was asked for."""
        return self._tracks.get(name, "live").recipe

    def build_candidate(
        self,
        name: str,
        track: str,
        recipe: Recipe | None = None,
        ctx: IngestContext | None = None,
        *,
        note: str = "",
    ) -> BuildReport:
        """Build a recipe (None: the live one) over the documents of now as a candidate; what is live stays.

        Resumable: what was embedded is kept. From now on each ingest keeps the candidate up to date.
        """
        return self._candidates.build(name, track, recipe, ctx or InlineContext(), note=note)

    def rebuild(self, name: str, ctx: IngestContext | None = None, *, track: str | None = None) -> str:
        """Write the index of what is live (or of a track) anew from the truth; return its generation."""
        return self._candidates.repair(name, track, ctx or InlineContext())

    def switch(
        self,
        name: str,
        track: str,
        *,
        evidence: Mapping[str, Any] | None = None,
        override_reason: str | None = None,
        actor: str = "knowledge.switch",
        note: str = "",
    ) -> SwitchReport:
        """Make a candidate live in one step; what was live becomes `previous`.

        Raises `UnprovenSwitch`, or what the check of the evidence raises, unless a reason overrides it; `TrackBehind`
        and `UnknownTrack`.
        """
        return self._switching.switch(
            name, track, evidence=evidence, override_reason=override_reason, actor=actor, note=note
        )

    def rollback(self, name: str, *, actor: str = "knowledge.rollback", reason: str = "") -> SwitchReport:
        """Make what was live before the last switch live again, over the documents of now. Needs no engine."""
        return self._switching.rollback(name, actor=actor, reason=reason)

    def drop(self, name: str, track: str) -> None:
        """Forget a candidate, or the way back."""
        self._switching.drop(name, track)

    # ---- proof

    def verify(self, name: str, *, track: str | None = None, deep: bool = False) -> list[Finding]:
        """Hold tables, blobs, vectors and indexes against each other; `deep` reads every blob and more vectors."""
        return self._verifying.verify(name, track=track, deep=deep)

    def check_embedder(self, name: str) -> Finding:
        """Return whether the embedder of what is live is served: one quick part of `verify`."""
        return self._verifying.check_embedder(name)
