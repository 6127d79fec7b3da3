"""The DuckDB adapters keep the contract of span stores."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.store.span_contract import *  # noqa: F403 - the suite itself
from tests.store.span_contract import MakeStore, StoreUnderTest


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[MakeStore]:
    opened: list[DuckDBSpanStore] = []
    numbers = count()

    def make() -> StoreUnderTest:
        store = DuckDBSpanStore(tmp_path / f"{next(numbers)}.duckdb", threads=1)
        opened.append(store)
        return StoreUnderTest(sink=store, reader=store, scores=store)

    yield make
    for store in opened:
        store.close()
