"""Recipes side by side: each ingest brings all of them up to date, a switch moves one pointer, a rollback moves it back.

Others make a second index by hand and keep it up by writing twice (a rollback then resurrects what was deleted since).
"""

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.knowledge.errors import DamagedIndex, UnknownKnowledge
from penstock.knowledge.generations.errors import (
    NoPreviousTrack,
    TrackBehind,
    UnknownGeneration,
    UnknownTrack,
    UnprovenSwitch,
)
from penstock.knowledge.generations.tracks import Track, follow_pointer
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.versions import RegistryVersions
from penstock.registry.service import Registry
from penstock.spec.knowledge import ChunkRecipe, EmbedRecipe, Recipe, SearchRecipe
from penstock.store.blobs import BlobStore
from tests.knowledge.embedders import MemoryBlobs
from tests.knowledge.generations.conftest import Make, ManyEmbedders

BIG = Recipe(embed=EmbedRecipe(model="big"))
WORDS = Recipe(search=SearchRecipe(dense_weight=0.0))


def names(service: KnowledgeService) -> list[str]:
    return [each.name for each in service.list_tracks("guide")]


def generations(service: KnowledgeService) -> dict[str, str | None]:
    return {each.name: each.generation for each in service.list_tracks("guide")}


def found(service: KnowledgeService, query: str, track: str | None = None) -> set[str]:
    return {hit.document for hit in service.retrieve("guide", query, 10, generation=track).hits}


def test_a_candidate_is_built_beside_what_is_live_and_searched_by_its_name(service: KnowledgeService) -> None:
    before = service.retrieve("guide", "adults")
    report = service.build_candidate("guide", "big", BIG)
    assert (report.n_passages, report.n_embedded, report.embedder) == (4, 4, "big@1")
    assert names(service) == ["live", "big"]
    assert service.retrieve("guide", "adults").generation == before.generation
    assert service.retrieve("guide", "adults", generation="big").embedder == "big@1"
    assert service.retrieve("guide", "adults", generation=report.generation).hits
    with pytest.raises(UnknownTrack, match="no track 'huge'"):
        service.retrieve("guide", "adults", generation="huge")
    with pytest.raises(UnknownGeneration):
        service.retrieve("guide", "adults", generation="gen_0")


def test_a_change_of_the_search_part_alone_takes_the_same_index(
    service: KnowledgeService, embedders: ManyEmbedders
) -> None:
    n_texts = embedders.n_texts
    report = service.build_candidate("guide", "words", WORDS)
    live, words = service.list_tracks("guide")
    assert (live.index_id, report.n_embedded, embedders.n_texts) == (words.index_id, 0, n_texts)
    assert live.generation != words.generation


def test_another_way_of_cutting_parses_nothing_again(service: KnowledgeService, blobs: MemoryBlobs) -> None:
    report = service.build_candidate("guide", "short", Recipe(chunk=ChunkRecipe(size=4)))
    assert "parse" not in report.seconds
    assert report.n_passages > 4


def test_every_ingest_brings_all_tracks_up_to_date(service: KnowledgeService, folder: Path) -> None:
    service.build_candidate("guide", "big", BIG)
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    (folder / "salt.md").unlink()
    service.ingest("guide", folder)
    for track in ("live", "big"):
        assert found(service, "naps cheese water", track) == {"new.md", "sleep.md", "water.md"}


def test_a_switch_makes_the_candidate_live_and_the_way_back_holds_the_documents_of_now(
    service: KnowledgeService, folder: Path
) -> None:
    service.build_candidate("guide", "big", BIG)
    was = service.retrieve("guide", "adults").generation
    report = service.switch("guide", "big")
    assert (report.was, service.retrieve("guide", "adults").embedder) == (was, "big@1")
    assert names(service) == ["live", "previous"]
    (folder / "salt.md").unlink()
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    service.ingest("guide", folder)
    back = service.rollback("guide", reason="worse on questions")
    retrieval = service.retrieve("guide", "naps cheese")
    assert (retrieval.embedder, retrieval.generation) == ("small@1", back.generation)
    assert back.generation != was
    assert found(service, "naps cheese water") == {"new.md", "sleep.md", "water.md"}
    assert service.rollback("guide").was == back.generation
    assert service.retrieve("guide", "adults").embedder == "big@1"
    assert service.ingest("guide", folder).embedder == "big@1"


def test_a_rollback_works_while_every_embedder_is_down(
    service: KnowledgeService, embedders: ManyEmbedders, make: Make
) -> None:
    service.build_candidate("guide", "big", BIG)
    service.switch("guide", "big")
    embedders.down = {"small@1", "big@1"}
    fresh = make()
    fresh.rollback("guide")
    retrieval = fresh.retrieve("guide", "adults need")
    assert retrieval.mode == "lexical"
    assert "cannot be reached" in (retrieval.note or "")


def test_a_track_whose_embedder_is_gone_loses_documents_and_waits_for_new_ones(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    service.build_candidate("guide", "big", BIG)
    service.switch("guide", "big")
    embedders.gone = {"small@1"}
    (folder / "salt.md").unlink()
    assert service.ingest("guide", folder).notes == []
    assert generations(service)["previous"] is not None
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    (note,) = service.ingest("guide", folder).notes
    assert "previous stayed behind" in note
    with pytest.raises(TrackBehind, match="not served any more"):
        service.rollback("guide")
    embedders.gone = set()
    assert service.ingest("guide", folder).notes == []
    service.rollback("guide")
    assert "new.md" in found(service, "naps")


def test_what_is_live_moves_to_the_embedder_of_now_when_its_own_is_gone(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    embedders.gone = {"small@1"}
    assert "small@1" in (service.retrieve("guide", "adults").note or "")
    report = service.ingest("guide", folder)
    assert (report.embedder, report.embedded) == ("other@1", 4)
    assert "embedded anew" in report.notes[0]
    assert service.retrieve("guide", "adults").mode == "hybrid"


def test_an_embedder_that_is_down_stops_new_texts_and_nothing_else(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    embedders.down = {"small@1"}
    (folder / "salt.md").unlink()
    assert service.ingest("guide", folder).deleted == 1
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    live = service.retrieve("guide", "adults").generation
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        service.ingest("guide", folder)
    assert service.retrieve("guide", "adults").generation == live


def test_names_of_tracks_and_ways_back_are_checked(service: KnowledgeService) -> None:
    for name in ("live", "previous", "Big", "gen_1", "", "a/b"):
        with pytest.raises(InvalidInput):
            service.build_candidate("guide", name, BIG)
    with pytest.raises(NoPreviousTrack):
        service.rollback("guide")
    with pytest.raises(UnknownTrack):
        service.switch("guide", "big")
    with pytest.raises(UnknownKnowledge):
        service.build_candidate("giude", "big", BIG)
    service.build_candidate("guide", "big", BIG)
    service.drop("guide", "big")
    assert names(service) == ["live"]
    with pytest.raises(InvalidInput):
        service.drop("guide", "live")


class Refusing:
    """Lets only the comparison `good` through."""

    def check(
        self, base: str, *, live: str | None, candidate: str, evidence: dict[str, str]
    ) -> dict[str, str]:
        if evidence.get("comparison") != "good":
            raise UnprovenSwitch("that comparison did not pass.")
        return {"comparison": "good", "baseline": str(live), "candidate": candidate}


def test_a_registered_base_switches_on_evidence_or_with_a_reason_and_rolls_back_without(
    make: Make, folder: Path, tmp_path: Path, sqlite_engine: Engine
) -> None:
    registry = Registry(sqlite_engine, BlobStore(str(tmp_path / "kept")))
    service = make(versions=RegistryVersions(registry), evidence=Refusing())
    service.ingest("guide", folder)
    service.build_candidate("guide", "big", BIG)
    with pytest.raises(UnprovenSwitch, match="nothing shows"):
        service.switch("guide", "big")
    with pytest.raises(UnprovenSwitch, match="did not pass"):
        service.switch("guide", "big", evidence={"comparison": "bad"})
    report = service.switch("guide", "big", evidence={"comparison": "good"}, actor="ada")
    assert report.version == "knowledge:guide@2"
    (move, *_) = registry.history("knowledge", "guide", "prod")
    assert (move.actor, move.is_override) == ("ada", False)
    assert move.evidence is not None
    assert move.evidence["candidate"] == report.generation
    assert service.rollback("guide", actor="ada", reason="slow").version == "knowledge:guide@1"
    service.build_candidate("guide", "words", WORDS)
    service.switch("guide", "words", override_reason="asked for by the owner", actor="ada")
    (move, *_) = registry.history("knowledge", "guide", "prod")
    assert (move.is_override, move.reason) == (True, "asked for by the owner")
    assert service.retrieve("guide", "adults").version == "knowledge:guide@3"
    version = registry.resolve("knowledge:guide@3")
    assert version.content["generation"] == service.retrieve("guide", "adults").generation


def test_a_pointer_that_moved_without_its_rows_is_followed() -> None:
    live = Track(name="live", recipe=Recipe(), generation="gen_a")
    big = Track(name="big", recipe=BIG, generation="gen_b")
    before = Track(name="previous", recipe=WORDS, generation="gen_c")
    tracks = {"live": live, "big": big, "previous": before}

    def unread() -> Recipe:
        raise AssertionError("no need to look")

    assert follow_pointer(tracks, "gen_a", unread) == tracks
    switched = follow_pointer(tracks, "gen_b", unread)
    assert {name: each.generation for name, each in switched.items()} == {
        "live": "gen_b",
        "previous": "gen_a",
    }
    back = follow_pointer(tracks, "gen_c", unread)
    assert {name: each.generation for name, each in back.items()} == {
        "live": "gen_c",
        "previous": "gen_a",
        "big": "gen_b",
    }
    made = Recipe(search=SearchRecipe(dense_weight=0.7))
    elsewhere = follow_pointer(tracks, "gen_d", lambda: made)
    assert (elsewhere["live"].generation, elsewhere["live"].recipe) == ("gen_d", Recipe())
    assert follow_pointer(tracks, "gen_d", lambda: BIG)["live"].recipe == BIG
    assert follow_pointer({}, "gen_d", lambda: BIG)["live"].recipe == BIG


def test_searches_during_fifty_switches_never_fail_and_never_mix(
    service: KnowledgeService, make: Make
) -> None:
    """Index, embedder and search recipe of one generation in each answer; none after a switch by the one before."""
    service.build_candidate("guide", "big", BIG)
    of = {each.generation: each.embedder for each in service.list_tracks("guide")}
    dims = {"small@1": 32, "big@1": 48}
    assert len(set(dims.values())) == 2  # a query of the wrong embedder would be refused by its length
    stop, failures, seen = threading.Event(), [], set()

    def ask(own: KnowledgeService) -> None:
        try:
            while not stop.is_set():
                retrieval = own.retrieve("guide", "adults need quiet", 3)
                assert of[retrieval.generation] == retrieval.embedder
                assert (retrieval.mode, retrieval.note) == ("hybrid", None)
                assert retrieval.hits[0].document == "sleep.md"
                seen.add(retrieval.embedder)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(own,)) for own in (service, make(), make())]
    for thread in threads:
        thread.start()
    service.switch("guide", "big")
    for _ in range(50):
        told = service.rollback("guide")
        assert service.retrieve("guide", "adults").generation == told.generation
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == {"small@1", "big@1"}


def test_a_base_of_an_older_release_goes_on(
    service: KnowledgeService, sqlite_engine: Engine, folder: Path
) -> None:
    """Flat recipes, generations that are their own index, no tracks, no sources, no parses."""
    with sqlite_engine.begin() as connection:
        flat = '{"max_words": 160, "dense_weight": 0.7, "title_weight": 1.0, "section_weight": 1.0, "n_candidates": 100}'
        for statement in (
            f"UPDATE knowledge_bases SET recipe = '{flat}'",
            f"UPDATE knowledge_generations SET recipe = '{flat}'",
            "DELETE FROM knowledge_tracks",
            "DELETE FROM knowledge_items",
            "DELETE FROM knowledge_sources",
            "DELETE FROM knowledge_parses",
        ):
            connection.exec_driver_sql(statement)
    assert found(service, "adults need") >= {"sleep.md"}
    assert names(service) == ["live"]
    service.build_candidate("guide", "big", BIG)
    (folder / "salt.md").unlink()
    report = service.ingest("guide", folder)
    assert (report.deleted, report.embedded) == (1, 0)
    assert found(service, "cheese", "big") == {"sleep.md", "water.md"}


def test_a_pruned_generation_that_is_live_is_told_and_not_searched(
    service: KnowledgeService, sqlite_engine: Engine
) -> None:
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM knowledge_members")
        connection.exec_driver_sql("DELETE FROM knowledge_generations")
    with pytest.raises(DamagedIndex, match="do not hold generation"):
        service.retrieve("guide", "adults")
