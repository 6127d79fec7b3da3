"""What is lost is mended by the command that is advised, and what only cleans up never fails or holds up the rest."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.generations.errors import BaseIsBusy
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.pruning import Pruning
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import EmbedRecipe, IndexRecipe, Recipe, SearchRecipe
from tests.knowledge.generations.conftest import Make, ManyEmbedders

BIG = Recipe(embed=EmbedRecipe(model="big"))
WORDS = Recipe(index=IndexRecipe(kind="none"))


def run(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def failing(service: KnowledgeService) -> list[str]:
    return [each.check for each in service.verify("guide", deep=True) if each.state == "failed"]


def found(service: KnowledgeService, query: str) -> set[str]:
    return {hit.document for hit in service.retrieve("guide", query, 10).hits if hit.lexical_score}


def test_an_ingest_embeds_anew_what_the_cache_has_lost(
    service: KnowledgeService, make: Make, sqlite_engine: Engine, tmp_path: Path, folder: Path
) -> None:
    run(sqlite_engine, "DELETE FROM knowledge_embeddings")
    for path in (tmp_path / "indexes" / "guide").glob("idx_*/vectors.npy"):
        path.unlink()
    fresh = make()
    with pytest.raises(DamagedIndex, match="no vector") as told:
        fresh.retrieve("guide", "bread")
    assert "ingest" in (told.value.hint or "")
    assert fresh.ingest("guide", folder).embedded == 4
    assert fresh.retrieve("guide", "bread").mode == "hybrid"
    assert failing(fresh) == []


@pytest.mark.parametrize("changes", [False, True])
def test_an_ingest_mends_passages_that_were_lost(
    service: KnowledgeService, make: Make, sqlite_engine: Engine, folder: Path, changes: bool
) -> None:
    run(sqlite_engine, "DELETE FROM knowledge_passages WHERE text LIKE 'Bread%'")
    assert "live: passages" in failing(service)
    if changes:
        (folder / "new.md").write_text("# New\n\nA new thing.\n")
    service.rebuild("guide")  # of what there is
    service.ingest("guide", folder)
    assert failing(service) == []
    assert found(service, "bread") == found(make(), "bread") == {"salt.md"}


def test_an_ingest_whose_pruning_fails_is_live_and_says_so(
    service: KnowledgeService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(Pruning, "remove_old_indexes", refuse)
    (folder / "new.md").write_text("# New\n\nA new thing.\n")
    report = service.ingest("guide", folder)
    assert report.added == 1
    assert any("nothing was pruned" in note for note in report.notes)
    assert "new.md" in found(service, "thing")


def test_pruning_says_that_a_base_is_busy_and_does_not_wait(
    service: KnowledgeService, sqlite_engine: Engine, tmp_path: Path
) -> None:
    locks = BaseLocks(sqlite_engine, tmp_path / "indexes")
    with locks.hold("guide", "contents"), pytest.raises(BaseIsBusy, match="'guide'"):
        service.prune("guide")
    service.prune("guide")


def test_vectors_of_an_embedder_that_no_generation_has_go_with_the_cache(
    service: KnowledgeService, sqlite_engine: Engine, embedders: ManyEmbedders
) -> None:
    service.build_candidate("guide", "big", BIG)
    service.drop("guide", "big")
    assert service.prune("guide", keep=0, cache=True).vectors == 4
    with sqlite_engine.connect() as connection:
        kept = connection.execute(text("SELECT DISTINCT embedder FROM knowledge_embeddings")).scalars()
        assert set(kept) == {"small@1"}
    n_texts = embedders.n_texts
    service.rebuild("guide")
    assert embedders.n_texts == n_texts


def test_words_alone_need_no_embedder(make: Make, embedders: ManyEmbedders, folder: Path) -> None:
    embedders.down.add("small@1")
    service = make()
    report = service.ingest("guide", folder, recipe=WORDS)
    assert (report.embedded, report.passages) == (0, 4)
    reply = service.retrieve("guide", "bread")
    assert (reply.mode, reply.note, reply.hits[0].document) == ("lexical", None, "salt.md")
    (folder / "new.md").write_text("# New\n\nA new thing.\n")
    embedders.down.clear()
    generation = service.ingest("guide").generation
    service.rebuild("guide")
    assert embedders.n_texts == 0
    assert failing(service) == []
    assert service.ingest("guide").generation == generation
    weighed = service.retrieve("guide", "bread", recipe=SearchRecipe(dense_weight=0.5))
    assert (weighed.mode, embedders.n_texts) == ("lexical", 0)


def test_a_candidate_holds_the_documents_that_are_live_not_those_of_an_ingest_that_failed(
    service: KnowledgeService, embedders: ManyEmbedders, folder: Path
) -> None:
    """Contents go live by an ingest, recipes by a switch; a comparison of both is of the same documents."""
    (folder / "new.md").write_text("# New\n\nA new thing.\n")
    (folder / "salt.md").unlink()
    embedders.down.add("small@1")
    with pytest.raises(UpstreamUnavailable):
        service.ingest("guide")
    embedders.down.clear()
    service.build_candidate("guide", "flat", Recipe(search=SearchRecipe(diversity=0.1)))
    live, candidate = service.list_tracks("guide")
    assert (candidate.index_id, candidate.n_documents) == (live.index_id, 3)
    service.build_candidate("guide", "big", BIG)
    service.switch("guide", "big", override_reason="now")
    assert [each.path for each in service.list_documents("guide")] == ["salt.md", "sleep.md", "water.md"]
    service.ingest("guide")
    assert [each.path for each in service.list_documents("guide")] == ["new.md", "sleep.md", "water.md"]
    service.rollback("guide")
    assert [each.path for each in service.list_documents("guide")] == ["new.md", "sleep.md", "water.md"]
