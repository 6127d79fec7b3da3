"""The process from which lives are forked, one for all tests that end some."""

from collections.abc import Iterator

import pytest

from tests.fixtures.mortal.house import MortalHouse


@pytest.fixture(scope="session")
def mortal_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalHouse]:
    """A process that has loaded what the lives of `tests.main.lives` need."""
    opened = MortalHouse(tmp_path_factory.mktemp("mortal"), ["tests.main.lives"])
    yield opened
    opened.close()
