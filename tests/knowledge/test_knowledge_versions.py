"""The live generation is the registry's `knowledge:NAME@prod`: published with evidence, rolled back in one step."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.versions import RegistryVersions
from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore
from tests.knowledge.embedders import HashingEmbedder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a.txt").write_text("Apples grow on trees.")
    return root


def test_each_ingest_that_changes_something_is_a_version_with_its_figures(
    sqlite_engine: Engine, tmp_path: Path, folder: Path
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    registry = Registry(sqlite_engine, blobs)
    service = KnowledgeService(
        sqlite_engine, blobs, tmp_path / "indexes", HashingEmbedder(), RegistryVersions(registry)
    )
    first = service.ingest("fruit", folder)
    assert first.version == "knowledge:fruit@1"
    assert service.ingest("fruit", folder).version == "knowledge:fruit@1"
    (folder / "b.txt").write_text("Pears are green.")
    second = service.ingest("fruit", folder)
    assert second.version == "knowledge:fruit@2"
    (move, *_) = registry.history("knowledge", "fruit", "prod")
    assert move.evidence is not None
    assert move.evidence["ingest"]["added"] == 1
    assert service.retrieve("fruit", "green pears").version == "knowledge:fruit@2"
    assert service.list_bases()[0].version == "knowledge:fruit@2"

    registry.rollback_alias("knowledge", "fruit", "prod", actor="test")
    back = service.retrieve("fruit", "green pears")
    assert (back.version, back.generation) == ("knowledge:fruit@1", first.generation)
    assert {hit.document for hit in back.hits} <= {"a.txt"}
    assert [row.path for row in service.list_documents("fruit")] == ["a.txt"]

    again = service.ingest("fruit", folder)
    assert (again.version, again.generation) == ("knowledge:fruit@2", second.generation)


def test_bytes_of_every_document_version_are_kept(
    sqlite_engine: Engine, tmp_path: Path, folder: Path
) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    service = KnowledgeService(sqlite_engine, blobs, tmp_path / "indexes", HashingEmbedder())
    service.ingest("fruit", folder)
    (row,) = service.list_documents("fruit")
    assert blobs.get(row.digest) == b"Apples grow on trees."
