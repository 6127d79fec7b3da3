"""A declared recipe is what a new base begins with, and never changes what is live."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChunkRecipe, Recipe
from tests.knowledge.embedders import HashingEmbedder
from tests.knowledge.sources.conftest import CountingBlobs


def test_a_new_base_begins_with_its_declared_recipe_and_a_live_one_keeps_its_own(
    sqlite_engine: Engine, blobs: CountingBlobs, write: Callable[..., Path], tmp_path: Path
) -> None:
    write("a.md", "# A\n\nText of A.\n")
    service = KnowledgeService(sqlite_engine, blobs, tmp_path / "indexes", OneEmbedder(HashingEmbedder()))
    declared, other = Recipe(chunk=ChunkRecipe(size=40)), Recipe(chunk=ChunkRecipe(size=50))
    assert service.declare("guide", other) == "made"
    assert service.declare("guide", declared, is_trial=True) == "made"
    assert service.declare("guide", other) == "same"
    assert service.declare("guide", declared) == "made"
    service.ingest("guide", tmp_path / "docs")
    assert [(track.name, track.recipe["chunk"]["size"]) for track in service.list_tracks("guide")] == [
        ("live", 40)
    ]
    assert service.declare("guide", declared) == "same"
    assert service.declare("guide", other) == "differs"
    assert [track.recipe["chunk"]["size"] for track in service.list_tracks("guide")] == [40]
