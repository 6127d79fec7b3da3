"""A service over a fresh home."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.datasets.service import DatasetService
from tests.datasets.workbench import make_datasets


@pytest.fixture
def datasets(tmp_path: Path, sqlite_engine: Engine) -> DatasetService:
    """Datasets of a fresh home."""
    return make_datasets(tmp_path, sqlite_engine)
