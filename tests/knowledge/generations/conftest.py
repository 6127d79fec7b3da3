"""A base of three documents, and embedders by the model that a recipe names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import UpstreamUnavailable
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import EmbedRecipe
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs

TEXTS = {
    "sleep.md": "# Sleep\n\n## Length\n\nAdults need 7 to 9 hours.\n\n## Noise\n\nQuiet rooms help.\n",
    "water.md": "# Water\n\nDrink when thirsty.\n",
    "salt.md": "# Salt\n\nBread holds little of it, cheese much.\n",
}


class ManyEmbedders:
    """One embedder a model; those in `gone` are not served any more, those in `down` cannot be reached."""

    def __init__(self) -> None:
        self.made: dict[str, HashingEmbedder] = {}
        self.default = "small"
        self.gone: set[str] = set()
        self.down: set[str] = set()

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> HashingEmbedder:
        name = made_with or f"{recipe.model or self.default}@1"
        if name in self.gone:
            name = "other@1"
        if name in self.down:
            raise UpstreamUnavailable(f"{name} cannot be reached.")
        dims = 32 if name.startswith("small") else 48
        return self.made.setdefault(name, HashingEmbedder(name, dims=dims))

    @property
    def n_texts(self) -> int:
        return sum(each.n_texts for each in self.made.values())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    root.mkdir()
    for name, text in TEXTS.items():
        (root / name).write_text(text)
    return root


@pytest.fixture
def embedders() -> ManyEmbedders:
    return ManyEmbedders()


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


Make = Callable[..., KnowledgeService]


@pytest.fixture
def make(tmp_path: Path, sqlite_engine: Engine, embedders: ManyEmbedders, blobs: MemoryBlobs) -> Make:
    def build(**more: Any) -> KnowledgeService:
        return KnowledgeService(sqlite_engine, blobs, tmp_path / "indexes", embedders, **more)

    return build


@pytest.fixture
def service(make: Make, folder: Path) -> KnowledgeService:
    service = make()
    service.ingest("guide", folder)
    return service
