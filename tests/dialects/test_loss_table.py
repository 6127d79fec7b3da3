"""The page on dialects says what the writers do, and rows of providers name only quirks that exist."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from penstock.dialects.quirks import find_unknown
from penstock.providers.catalogue import PROVIDERS
from penstock.spec.routes import Provider

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dialect_table", ROOT / "docs" / "dialect_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_that_the_writers_give(table: ModuleType) -> None:
    page = table.PAGE.read_text().split(table.BEGIN, 1)[1].split(table.END, 1)[0].strip()
    assert page.splitlines() == table.write_table().splitlines(), "run `python docs/dialect_table.py`"


def test_the_rows_say_plainly_what_they_mean(table: ModuleType) -> None:
    assert table.is_told("anthropic", "error mark of a result")
    assert not table.is_told("openai", "error mark of a result")
    assert not any(table.is_told(name, "members the hub has no word for") for name in table.DIALECTS)


@pytest.mark.parametrize("row", PROVIDERS, ids=lambda row: row.name)
def test_rows_of_providers_name_known_quirks(row: Provider) -> None:
    assert find_unknown(row.quirks) == []
