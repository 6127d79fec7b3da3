"""A workshop for each test; its base is made once."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.tuning.runs.workshop import Workshop, open_workshop


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny-base")


@pytest.fixture
def workshop(tmp_path: Path, sqlite_engine: Engine, tiny_base: Path) -> Workshop:
    return open_workshop(tmp_path / "tuning", sqlite_engine, tiny_base)
