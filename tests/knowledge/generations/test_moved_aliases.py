"""What an alias of the registry names must be there to be searched; where it is not, nobody is told of an empty base."""

from pathlib import Path

import pytest

from penstock.knowledge.errors import DamagedIndex, PrunedGeneration
from penstock.knowledge.living import Living, check_generation
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.versions import RegistryVersions
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs
from tests.knowledge.inline_pool import InlinePool


def test_an_alias_cannot_be_moved_to_a_version_whose_generation_was_pruned(tmp_path: Path) -> None:
    engine = open_control(f"sqlite:///{tmp_path}/control.db")

    def check(version: Version) -> None:
        check_generation(engine, version.name, version.content)

    registry = Registry(engine, BlobStore(str(tmp_path / "kept")), check_target=check)
    versions = RegistryVersions(registry)
    service = KnowledgeService(
        engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), versions, make_pool=InlinePool
    )
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(3):
        (docs / "a.md").write_text(f"# A\n\nText number {number}.\n")
        service.ingest("guide", docs)
    registry.move_alias("knowledge", "guide", "prod", 2, actor="ada", override_reason="back")
    service.ingest("guide")
    service.prune("guide", keep=0)
    before = service.retrieve("guide", "text").generation
    with pytest.raises(PrunedGeneration, match="was pruned"):
        registry.move_alias("knowledge", "guide", "prod", 1, actor="ada", override_reason="back")
    assert service.retrieve("guide", "text").generation == before


def test_a_live_generation_that_is_gone_is_told_with_a_way_out_and_not_listed_as_empty(
    tmp_path: Path,
) -> None:
    engine = open_control(f"sqlite:///{tmp_path}/control.db")
    service = KnowledgeService(
        engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# A\n\nText.\n")
    service.ingest("guide", docs)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE knowledge_bases SET live_generation = 'gen_gone'")
    for ask in (
        service.list_documents,
        service.count_unreadable,
        lambda name: service.retrieve(name, "text"),
    ):
        with pytest.raises(DamagedIndex) as told:
            ask("guide")
        assert "penstock knowledge ingest guide" in (told.value.hint or "")
    assert Living(engine, None).find("guide")[0] == "gen_gone"
