"""One runtime for all tests of training: see `serve_runtime`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuning.trainer.runtime import Runtime


@pytest.fixture(scope="session")
def runtime(tune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The training runtime with its libraries loaded, forking for each request."""
    served = Runtime(tune_python, tmp_path_factory.mktemp("runtime"))
    yield served
    served.close()
