"""The table of faults to the record: every row names tests that exist, so that no promise stands without its proof."""

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FAULTS: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "faults.toml").read_text())["fault"]


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["does"][:60])
def test_every_row_is_shown_by_tests_that_are_there(fault: dict[str, Any]) -> None:
    assert set(fault) == {"group", "does", "then", "shown"}
    assert fault["shown"]
    for name in fault["shown"]:
        file, _, function = name.partition("::")
        assert function in functions_of(ROOT / file), name


def test_rows_of_a_group_stand_together_and_each_once() -> None:
    groups = [fault["group"] for fault in FAULTS]
    assert sorted(groups, key=groups.index) == groups
    rows = [(fault["group"], fault["does"]) for fault in FAULTS]
    assert len(set(rows)) == len(rows)
