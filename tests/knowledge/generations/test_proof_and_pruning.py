"""What a base says is held against what is there, and what nothing refers to any more is thrown away, and nothing else."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from penstock.base.digest import digest_bytes
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChunkRecipe, EmbedRecipe, Recipe
from tests.knowledge.embedders import MemoryBlobs
from tests.knowledge.generations.conftest import Make, ManyEmbedders

BIG = Recipe(embed=EmbedRecipe(model="big"))


def failing(service: KnowledgeService, *, deep: bool = False) -> list[str]:
    return [each.check for each in service.verify("guide", deep=deep) if each.state == "failed"]


def run(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() or 0)


def test_a_sound_base_has_nothing_to_tell(service: KnowledgeService) -> None:
    service.build_candidate("guide", "big", BIG)
    findings = service.verify("guide", deep=True)
    assert {each.state for each in findings} == {"ok"}
    assert {each.check.partition(":")[0] for each in findings} == {"live", "big"}
    assert {each.check.partition(":")[0] for each in service.verify("guide", track="big")} == {"live", "big"}


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("DELETE FROM knowledge_passages WHERE text LIKE '%cheese%'", "live: passages"),
        ("DELETE FROM knowledge_embeddings WHERE rowid % 2", "live: vectors"),
        ("UPDATE knowledge_generations SET n_passages = 9", "live: passages"),
    ],
)
def test_tables_that_do_not_fit_each_other_are_found(
    service: KnowledgeService, sqlite_engine: Engine, damage: str, check: str
) -> None:
    run(sqlite_engine, damage)
    assert check in failing(service)


def test_a_sabotaged_index_is_found_and_repaired_from_the_truth(
    service: KnowledgeService, tmp_path: Path, make: Make
) -> None:
    (index,) = (tmp_path / "indexes" / "guide").glob("idx_*")
    before = service.search("guide", "adults need quiet", 3)
    data = bytearray((index / "vectors.npy").read_bytes())
    data[-40:] = bytes(40)
    (index / "vectors.npy").write_bytes(data)
    assert any("index" in each for each in failing(service))
    service.rebuild("guide")
    assert failing(service) == []
    shutil.rmtree(index)
    assert any("index" in each for each in failing(service))
    assert make().search("guide", "adults need quiet", 3) == before


def test_lost_vectors_are_embedded_again_by_a_rebuild(
    service: KnowledgeService, sqlite_engine: Engine, embedders: ManyEmbedders
) -> None:
    run(sqlite_engine, "DELETE FROM knowledge_embeddings")
    n_texts = embedders.n_texts
    service.rebuild("guide")
    assert embedders.n_texts == n_texts + 4
    assert failing(service) == []


def test_lost_and_damaged_bytes_are_found(
    service: KnowledgeService, blobs: MemoryBlobs, folder: Path
) -> None:
    digest = digest_bytes((folder / "salt.md").read_bytes())
    data = blobs.kept[digest]
    blobs.kept[digest] = data[:-1]
    assert failing(service) == []
    assert failing(service, deep=True) == ["live: bytes"]
    del blobs.kept[digest]
    assert failing(service) == ["live: bytes"]


def test_lost_parses_are_made_again_and_lost_bytes_are_read_again(
    service: KnowledgeService, blobs: MemoryBlobs, folder: Path
) -> None:
    digests = {digest_bytes(each.read_bytes()) for each in folder.iterdir()}
    for digest in blobs.kept.keys() - digests:
        del blobs.kept[digest]
    short = Recipe(chunk=ChunkRecipe(size=4))
    assert service.build_candidate("guide", "short", short).n_documents == 3
    salt = digest_bytes((folder / "salt.md").read_bytes())
    for digest in blobs.kept.keys() - digests | {salt}:
        del blobs.kept[digest]
    report = service.build_candidate("guide", "shorter", Recipe(chunk=ChunkRecipe(size=3)))
    assert report.n_documents == 2
    assert any("salt.md" in each and "reads them again" in each for each in report.problems)
    service.ingest("guide", folder)
    assert {each.n_documents for each in service.list_tracks("guide")} == {3}
    assert failing(service, deep=True) == []


def test_an_embedder_that_is_served_no_more_is_told(
    service: KnowledgeService, embedders: ManyEmbedders
) -> None:
    embedders.gone = {"small@1"}
    assert failing(service) == ["live: embedder"]
    embedders.gone = set()
    embedders.down = {"small@1"}
    assert failing(service) == []
    assert any(each.state == "warning" for each in service.verify("guide"))


def test_a_pointer_to_nothing_is_found_and_mended_by_an_ingest(
    service: KnowledgeService, sqlite_engine: Engine, folder: Path
) -> None:
    run(sqlite_engine, "UPDATE knowledge_bases SET live_generation = 'gen_gone'")
    assert failing(service) == ["live: pointer"]
    assert service.ingest("guide", folder).embedded == 0
    assert failing(service) == []


def test_pruning_keeps_what_tracks_and_the_newest_generations_refer_to(
    service: KnowledgeService, folder: Path, sqlite_engine: Engine, embedders: ManyEmbedders, tmp_path: Path
) -> None:
    service.build_candidate("guide", "big", BIG)
    service.switch("guide", "big")
    service.build_candidate("guide", "short", Recipe(chunk=ChunkRecipe(size=4)))
    for number in range(6):
        (folder / "salt.md").write_text(f"# Salt\n\nVersion {number} of the text.\n")
        service.ingest("guide", folder)
    wanted = {each.generation for each in service.list_tracks("guide")}
    report = service.prune("guide", keep=2)
    assert report.generations == 2  # each ingest has pruned down to five already
    assert report.documents > 0
    with sqlite_engine.connect() as connection:
        kept = set(connection.execute(text("SELECT id FROM knowledge_generations")).scalars())
    assert wanted <= kept
    assert len(kept - wanted) <= 2
    assert failing(service, deep=True) == []
    n_texts = embedders.n_texts
    service.rollback("guide")
    service.rollback("guide")
    service.ingest("guide", folder)
    assert embedders.n_texts == n_texts
    again = service.prune("guide", keep=0, cache=True)
    assert again.vectors > 0
    assert failing(service) == []
    final = service.prune("guide", keep=0, cache=True)
    assert (final.generations, final.documents, final.vectors, final.indexes) == (0, 0, 0, 0)
    folders = {each.name for each in (tmp_path / "indexes" / "guide").iterdir()}
    assert folders == {each.index_id for each in service.list_tracks("guide")}


def test_pruning_deletes_bytes_that_nothing_else_keeps(make: Make, folder: Path, blobs: MemoryBlobs) -> None:
    kept_elsewhere: set[str] = set()
    service = make(is_used_elsewhere=kept_elsewhere.__contains__)
    service.ingest("guide", folder)
    salt, water = (digest_bytes((folder / name).read_bytes()) for name in ("salt.md", "water.md"))
    sleep = digest_bytes((folder / "sleep.md").read_bytes())
    kept_elsewhere.add(water)
    for name in ("salt.md", "water.md"):
        (folder / name).unlink()
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    service.ingest("guide", folder, allow_mass_deletion=True)
    service.prune("guide", keep=0)
    assert salt not in blobs.kept
    assert {water, sleep} <= blobs.kept.keys()
    assert failing(service, deep=True) == []


def test_two_bases_over_the_same_files_do_not_prune_each_other(
    make: Make, folder: Path, blobs: MemoryBlobs, sqlite_engine: Engine
) -> None:
    service = make(is_used_elsewhere=lambda _: False)
    service.ingest("guide", folder)
    service.ingest("other", folder)
    (folder / "salt.md").unlink()
    service.ingest("guide", folder)
    service.prune("guide", keep=0, cache=True)
    assert service.retrieve("other", "cheese", 1).hits[0].document == "salt.md"
    assert [each.check for each in service.verify("other", deep=True) if each.state == "failed"] == []
    assert count(sqlite_engine, "knowledge_documents") == 5
