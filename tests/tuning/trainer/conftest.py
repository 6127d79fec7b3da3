"""One runtime for all tests of training: see `serve_runtime`."""

from collections.abc import Iterator

import pytest

from penstock.tuning.runtimes import find_runtime
from tests.tuning.trainer.runtime import Runtime


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The training runtime with its libraries loaded, forking for each request."""
    served = Runtime(find_runtime().python, tmp_path_factory.mktemp("runtime"))
    yield served
    served.close()
