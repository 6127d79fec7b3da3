"""Erasing documents of one home, put together: knowledge bases, everything beside them, the proof and the receipt."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from sqlalchemy import Engine, text
from sqlalchemy.pool import PoolProxiedConnection

from penstock.apps.types import AppDeclaration
from penstock.base.clock import iso_from_ns
from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError, UpstreamError
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.knowledge.erasure.finding import Finder
from penstock.knowledge.erasure.keep_out import KeepOut
from penstock.knowledge.erasure.service import KnowledgeErasures
from penstock.knowledge.erasure.types import Gone, KnowledgeErasure, PlaceDone, Target
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.sources.service import SourceService
from penstock.main.byte_search import search_files
from penstock.main.dataset_rooms import create_datasets
from penstock.main.erasure_copies import clear_evaluations
from penstock.main.erasure_places import clear_labels
from penstock.main.erasure_places import list_beyond as list_beyond_all
from penstock.main.knowledge_copies import Copies, CopyParts, list_beyond
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.main.rooms import Rooms
from penstock.main.table_scrub import TableScrub
from penstock.main.upkeeping import create_settings_reader
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.subject_rows import DuckDBSubjectRows
from penstock.store.spans.text_erasure import DuckDBTextErasure
from penstock.store.spans.upkeep import DuckDBUpkeep
from penstock.traces.collector import Collector
from penstock.traces.upkeep.receipts import FORMAT, ReceiptBook, read_content
from penstock.traces.upkeep.seal import PrivacyKey
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.upkeep.sweep import Place as FoundPlace
from penstock.traces.upkeep.sweep import Sweep
from penstock.traces.upkeep.types import Doomed, PlaceReport, Receipt

_VACUUMED = (
    "knowledge_documents", "knowledge_passages", "knowledge_embeddings", "knowledge_items", "knowledge_parses",
    "knowledge_feedback", "knowledge_erasures", "knowledge_measurements", "knowledge_comparisons",
    "knowledge_sources", "jobs", "job_steps", "job_logs", "alias_moves", "evaluation_outputs", "evaluation_scores",
)  # fmt: skip
TRIES = 50
WAIT_S = 0.1


def create_knowledge_erasures(
    rooms: KnowledgeRooms,
    upkeep: UpkeepService,
    store: DuckDBSpanStore,
    collector: Collector,
    cache: ResponseCacheService,
) -> KnowledgeErasures:
    """Return the service; from now on the thread of upkeep carries its erasures out, and erasing a user erases the
    documents about them too."""
    return join_knowledge_erasures(
        rooms,
        upkeep,
        store,
        collector,
        cache,
        knowledge=rooms.knowledge,
        sources=rooms.sources,
        list_apps=rooms.declared_apps,
    )


def join_knowledge_erasures(
    rooms: Rooms,
    upkeep: UpkeepService,
    store: DuckDBSpanStore,
    collector: Collector,
    cache: ResponseCacheService,
    *,
    knowledge: KnowledgeService,
    sources: SourceService,
    list_apps: Callable[[], Sequence[AppDeclaration]] = lambda: (),
) -> KnowledgeErasures:
    """Do it with a knowledge service that is told."""
    home, engine = rooms.home, rooms.engine
    key = PrivacyKey.load(home.privacy_key)
    copies = Copies(
        CopyParts(
            home=home,
            collector=collector,
            upkeep=DuckDBUpkeep(store.file),
            reader=DuckDBSubjectRows(store.file),
            texts=DuckDBTextErasure(store.file),
            cache=cache,
            datasets=create_datasets(home, rooms.registry, rooms.blobs),
            clear_evaluations=partial(clear_evaluations, engine),
            clear_labels=partial(clear_labels, engine),
            find_apps=lambda bases: [app.name for app in list_apps() if app.knowledge in bases],
        )
    )
    read_settings = create_settings_reader(rooms)

    def list_forwards() -> dict[str, str]:
        return {target.name: target.url for target in read_settings().forward}

    def tell_beyond(gone: Gone | None) -> list[str]:
        names = {base: [each.name for each in sources.list_sources(base)] for base in _bases(gone)}
        has_servers = any(_is_on_server(knowledge, base) for base in _bases(gone))
        told = list_beyond_all(engine, list_forwards, is_shared=cache.is_shared)
        return list_beyond(told, gone, has_servers=has_servers, sources=names)

    def forget_questions(target: Target, gone: Gone) -> PlaceDone:
        del target, gone
        knowledge.forget_questions()
        return PlaceDone(
            place="vectors of questions", note="of this process; those of others go with their restart"
        )

    erasures = KnowledgeErasures(
        engine,
        finder=Finder(engine, rooms.blobs),
        removal=knowledge.removal,
        kept_out=KeepOut(engine, lambda: key.digest),
        find_digest=lambda: key.digest,
        places=(
            copies.clear_traces,
            copies.clear_replies,
            TableScrub(engine).clear,
            copies.find_in_datasets,
            copies.clear_logs,
            copies.clear_unfinished,
            forget_questions,
        ),
        clean_tables=partial(clean_tables, engine),
        finish=Receipts(rooms, upkeep.erasures.receipts, tell_beyond, DuckDBTextErasure(store.file).find),
        publish=lambda: (rooms.publish_snapshot(), None)[1],
        wake=upkeep.wake,
    )
    upkeep.also(lambda is_stopped: erasures.carry_out_waiting(is_stopped=is_stopped))
    upkeep.erasures.add_place(partial(erase_of_subject, erasures))
    return erasures


def erase_of_subject(erasures: KnowledgeErasures, doomed: Doomed) -> PlaceReport:
    """Erase documents about a user who is erased, and what they judged of search results."""
    place = "documents about them"
    if doomed.subject.kind != "user" or not doomed.subject.id:
        return PlaceReport(place=place, removed={"erasures": 0})
    done = erasures.erase_now(
        Target(kind="user", value=doomed.subject.id), reason="with the user's record", actor="privacy.erase"
    )
    if done is None:
        return PlaceReport(place=place, removed={"erasures": 0})
    return PlaceReport(place=place, removed={"erasures": 1}, note=f"told by receipt {done.receipt}")


def clean_tables(engine: Engine, *, sleep: Callable[[float], None] = time.sleep) -> PlaceDone:
    """Leave nothing of deleted rows in the files of the control database."""
    place = "control database"
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name in _VACUUMED:
                connection.execute(text(f"VACUUM FULL {name}"))
        return PlaceDone(
            place=place,
            note="tables were written anew by VACUUM FULL; its log (WAL), archives and replicas cannot be proven",
        )
    done = ["deleted rows were zeroed"]
    raw = (
        engine.raw_connection()
    )  # the engine begins a transaction by itself, within which there is no VACUUM
    try:
        done.append(_try_often(lambda: _vacuum(raw), "the file was written anew", sleep))
        done.append(_try_often(lambda: _checkpoint(raw), "its log was emptied", sleep))
    finally:
        raw.close()
    return PlaceDone(place=place, note=", ".join(done))


def _try_often(do: Callable[[], bool], done: str, sleep: Callable[[float], None]) -> str:
    """Return what was done, or that others were in the way all the time: it is a matter of moments as a rule."""
    for _ in range(TRIES):
        try:
            if do():
                return done
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) and "busy" not in str(error):
                raise UpstreamError(f"The control database cannot be cleaned: {error}.") from error
        sleep(WAIT_S)
    return f"others were in the way before {done}"


def _vacuum(raw: PoolProxiedConnection) -> bool:
    raw.cursor().execute("VACUUM")
    return True


def _checkpoint(raw: PoolProxiedConnection) -> bool:
    found = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return not found.fetchone()[0]


class Receipts:
    """Looks through the files and writes the receipt."""

    def __init__(
        self,
        rooms: Rooms,
        book: ReceiptBook,
        tell_beyond: Callable[[Gone | None], list[str]],
        find_traces: Callable[[Sequence[str]], Sequence[str]],
    ) -> None:
        self._find_traces = find_traces
        self._rooms = rooms
        self._book = book
        self._tell_beyond = tell_beyond

    def __call__(
        self, erasure: KnowledgeErasure, places: list[PlaceDone], gone: Gone | None, literals: list[str]
    ) -> int:
        """Return the number of the receipt."""
        seen = Sweep(skipped="the process ended before the files were looked through")
        if gone is not None:
            # What was named comes first, whatever is left out of a long list.
            wanted = list(dict.fromkeys([*literals, *gone.needles()]))
            seen = search_files(self._rooms.home.root, wanted)
            traces = self._find_traces(wanted)
            if traces:
                place = FoundPlace(file=self._rooms.home.span_db.name, n=len(traces))
                seen = msgspec.structs.replace(seen, found=[*seen.found, place])
        beyond = self._tell_beyond(gone)
        finished = iso_from_ns(wall_clock())

        def build(number: int, previous: str | None) -> Receipt:
            return Receipt(
                format=FORMAT,
                number=number,
                previous=previous,
                erasure=erasure.id,
                kind=f"knowledge {erasure.kind}",
                subject_digest=erasure.digest,
                reason=erasure.reason,
                actor=erasure.actor,
                asked_at=iso_from_ns(erasure.created_ns),
                finished_at=finished,
                places=[
                    PlaceReport(place=each.place, removed=each.removed, note=each.note) for each in places
                ],
                sweep=seen,
                beyond_reach=beyond,
            )

        return read_content(self._book.write(build).content).number


def _bases(gone: Gone | None) -> list[str]:
    return [] if gone is None else gone.bases


def _is_on_server(knowledge: KnowledgeService, base: str) -> bool:
    with contextlib.suppress(PenstockError):  # a base with nothing left has no track to ask
        return any(_has_connection(each.recipe) for each in knowledge.list_tracks(base))
    return False


def _has_connection(recipe: object) -> bool:
    return isinstance(recipe, dict) and bool((recipe.get("index") or {}).get("connection"))
