"""A registry and a service over it, and decoders of each family, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.models import ModelService
from tests.tuning.tiny_models import make_decoder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    yield Registry(engine, BlobStore(str(tmp_path / "blobs")))
    engine.dispose()


@pytest.fixture
def service(registry: Registry, tmp_path: Path) -> ModelService:
    return ModelService(registry, BlobStore(str(tmp_path / "blobs")), work=tmp_path / "work")


@pytest.fixture(scope="session")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decoders")
    return {
        "llama": make_decoder(root / "llama", "llama"),
        "qwen2": make_decoder(root / "qwen2", "qwen2"),
        "qwen3": make_decoder(root / "qwen3", "qwen3", tied=False, head_dim=32),
    }
