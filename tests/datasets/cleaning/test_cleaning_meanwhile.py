"""Cleaning while others change the dataset, and from which version it begins."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.datasets.cleaning.service import CleaningService
from penstock.datasets.errors import NewerVersion
from penstock.datasets.service import DatasetService
from penstock.spec.datasets import DatasetRow
from tests.datasets.workbench import make_datasets

TWICE = [DatasetRow(id=f"q{n}", fields={"input": f"ask {n // 2} ada@example.com"}) for n in range(6)]


@pytest.fixture
def datasets(tmp_path: Path, sqlite_engine: Engine) -> DatasetService:
    made = make_datasets(tmp_path, sqlite_engine)
    made.create_from_rows("a", TWICE, "cases")
    return made


@pytest.mark.parametrize("step", ["dedupe", "scrub"])
def test_rows_that_come_while_a_dataset_is_cleaned_are_not_lost(
    datasets: DatasetService, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    read = datasets.read
    waiting = [DatasetRow(id="new", fields={"input": "came meanwhile"})]

    def read_slowly(ref: str, where: Any = None) -> Iterator[DatasetRow]:
        yield from read(ref, where)
        if waiting:
            datasets.append("a", [waiting.pop()])

    monkeypatch.setattr(datasets, "read", read_slowly)
    cleaning = CleaningService(datasets)
    with pytest.raises(NewerVersion, match="dataset:a@2 was made"):
        getattr(cleaning, step)("a")
    assert "new" in [row.id for row in read("a@latest")]
    made = getattr(cleaning, step)("a").version
    assert "new" in [row.id for row in read(made.ref)]


def test_cleaning_begins_with_the_newest_version_whatever_prod_names(datasets: DatasetService) -> None:
    registry: Any = datasets.store._versions
    registry.move_alias("dataset", "a", "prod", 1, actor="t", override_reason="t")
    datasets.append("a", [DatasetRow(id="new", fields={"input": "another thing altogether"})])
    made = CleaningService(datasets).dedupe("a").version
    assert made is not None
    assert [row.id for row in datasets.read(made.ref)][-1] == "new"
    again = CleaningService(datasets).dedupe("a@1").version
    assert again is not None and again.facts.n_rows == 3, (
        "an older version that is named is what was asked for"
    )
