"""An ingest brings every track up to date and moves none: whichever embedder it has, whoever switches meanwhile."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.generations.locks import BaseLocks, LockKind
from penstock.knowledge.generations.opening import OpenIndexes
from penstock.knowledge.generations.switching import Switching
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.versions import RegistryVersions
from penstock.registry.service import Registry
from penstock.spec.knowledge import ChosenScope, ChunkRecipe, EmbedRecipe, Recipe
from penstock.store.blobs import BlobStore
from tests.knowledge.generations.conftest import Make, ManyEmbedders

BIG = Recipe(embed=EmbedRecipe(model="big"))
SHORT = Recipe(chunk=ChunkRecipe(size=20))


def held_by(service: KnowledgeService) -> dict[str, str | None]:
    return {each.name: each.embedder for each in service.list_tracks("guide")}


def found(service: KnowledgeService) -> set[str]:
    return {hit.document for hit in service.retrieve("guide", "bread drink hours thing", 20).hits}


def add_document(folder: Path) -> None:
    (folder / "new.md").write_text("# New\n\nA new thing.\n")


def test_an_ingest_leaves_each_track_its_embedder_when_the_home_has_another_default_now(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    """The recipes of both tracks say "the home's own": equal recipes, different embedders."""
    embedders.default = "mini"
    service.build_candidate("guide", "new")
    before = held_by(service)
    assert before == {"live": "small@1", "new": "mini@1"}
    add_document(folder)
    report = service.ingest("guide")
    assert held_by(service) == before
    live = service.list_tracks("guide")[0]
    assert (report.embedder, report.generation) == (live.embedder, live.generation)
    assert "new.md" in found(service)


def test_an_ingest_does_not_undo_a_switch_to_another_embedder(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    embedders.default = "mini"
    service.build_candidate("guide", "new")
    service.switch("guide", "new", override_reason="it is better")
    add_document(folder)
    service.ingest("guide")
    assert held_by(service) == {"live": "mini@1", "previous": "small@1"}
    service.rollback("guide")
    assert held_by(service) == {"live": "small@1", "previous": "mini@1"}
    assert "new.md" in found(service)


def test_a_switch_during_an_ingest_that_could_not_build_the_candidate_leaves_it_live_as_it_is(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = service.build_candidate("guide", "big", BIG).generation
    add_document(folder)
    embedders.down.add("big@1")
    publish = Switching.publish

    def switch_first(self: Switching, *given: Any, **named: Any) -> Any:
        service.switch("guide", "big", override_reason="now")
        return publish(self, *given, **named)

    monkeypatch.setattr(Switching, "publish", switch_first)
    report = service.ingest("guide")
    assert (report.generation, report.embedder) == (candidate, "big@1")
    assert any("documents of before" in note for note in report.notes)
    live, previous = service.list_tracks("guide")
    assert (live.generation, previous.embedder) == (candidate, "small@1")
    monkeypatch.undo()
    embedders.down.clear()
    service.ingest("guide")
    assert held_by(service) == {"live": "big@1", "previous": "small@1"}
    assert "new.md" in found(service)


def test_a_switch_during_an_ingest_holds_and_its_track_is_up_to_date(
    service: KnowledgeService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.build_candidate("guide", "big", BIG)
    add_document(folder)
    publish = Switching.publish

    def switch_first(self: Switching, *given: Any, **named: Any) -> Any:
        service.switch("guide", "big", override_reason="now")
        return publish(self, *given, **named)

    monkeypatch.setattr(Switching, "publish", switch_first)
    report = service.ingest("guide")
    assert report.embedder == "big@1"
    assert held_by(service) == {"live": "big@1", "previous": "small@1"}
    assert "new.md" in found(service)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before the pointer", "behind the pointer"])
def test_an_ingest_that_is_killed_about_the_pointer_leaves_no_way_back_to_deleted_documents(
    make: Make,
    sqlite_engine: Engine,
    tmp_path: Path,
    folder: Path,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = RegistryVersions(Registry(sqlite_engine, BlobStore(f"file://{tmp_path}/blobs")))
    service = make(versions=versions)
    service.ingest("guide", folder)
    service.build_candidate("guide", "short", SHORT)
    service.switch("guide", "short", override_reason="shorter")
    (folder / "salt.md").unlink()
    publish = versions.publish

    def die(*given: Any, **named: Any) -> str:
        if moment == "behind the pointer":
            publish(*given, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(versions, "publish", die)
        with pytest.raises(Killed):
            service.ingest("guide")
    again = make(versions=versions)
    assert "salt.md" in found(again) if moment == "before the pointer" else "salt.md" not in found(again)
    again.rollback("guide")
    assert found(again) == {"sleep.md", "water.md"}
    again.ingest("guide")
    assert found(again) == {"sleep.md", "water.md"}
    again.rollback("guide")
    assert found(again) == {"sleep.md", "water.md"}


def test_a_rollback_writes_a_lost_index_before_others_must_wait_for_it(
    service: KnowledgeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    service.build_candidate("guide", "big", BIG)
    service.switch("guide", "big", override_reason="now")
    back = next(each.index_id for each in service.list_tracks("guide") if each.name == "previous")
    shutil.rmtree(tmp_path / "indexes" / "guide" / str(back))
    held: list[str] = []
    hold, build = BaseLocks.hold, OpenIndexes.build

    @contextmanager
    def note(self: BaseLocks, base: str, kind: LockKind, **more: Any) -> Iterator[None]:
        with hold(self, base, kind, **more):
            held.append(kind)
            yield
            held.remove(kind)

    def look(self: OpenIndexes, *given: Any, **more: Any) -> None:
        assert held == []
        build(self, *given, **more)

    monkeypatch.setattr(BaseLocks, "hold", note)
    monkeypatch.setattr(OpenIndexes, "build", look)
    make().rollback("guide")
    assert held_by(service)["live"] == "small@1"


def test_readers_that_were_narrowed_are_told_at_the_base_while_no_ingest_can_end(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    (folder / "salt.md.meta.toml").write_text('readers = ["user:boss"]\n')
    (folder / "water.md.meta.toml").write_text('readers = ["everyone"]\n')
    add_document(folder)
    embedders.down.add("small@1")
    with pytest.raises(UpstreamUnavailable):
        service.ingest("guide")
    note = service.list_tracks("guide")[0].note
    assert note.startswith("1 documents are found by more") and "'salt.md'" in note
    embedders.down.clear()
    service.ingest("guide")
    assert service.list_tracks("guide")[0].note == ""
    assert "salt.md" not in {
        each.path for each in service.list_documents("guide", scope=ChosenScope(principals=[]))
    }
