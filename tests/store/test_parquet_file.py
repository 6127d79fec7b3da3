"""One Parquet file of any number of spans of any weight, within a bound on memory, in the order they came."""

from pathlib import Path

import duckdb
import pytest

from penstock.store.spans import parquet_file
from penstock.store.spans.parquet_file import ParquetFile
from tests.fixtures.spans import make_span


def read(path: Path, what: str) -> list[tuple[object, ...]]:
    return duckdb.sql(f"SELECT {what} FROM '{path}'").fetchall()


@pytest.mark.parametrize(
    ("n_spans", "n_bytes"), [(2500, 120_000), (60, 6_000_000)], ids=["many heavy ones", "few very heavy ones"]
)
def test_more_text_than_fits_into_memory_is_written(tmp_path: Path, n_spans: int, n_bytes: int) -> None:
    path, text = tmp_path / "out.parquet", "far " * (n_bytes // 4)
    with ParquetFile(path) as file:
        for start in range(0, n_spans, 20):
            file.write([make_span(number, input=text) for number in range(start, start + 20)])
    assert read(path, "count(*), min(strlen(input)), max(strlen(input))") == [
        (n_spans, len(text) + 2, len(text) + 2)
    ]
    assert [span_id for (span_id,) in read(path, "span_id")] == [f"{n:016x}" for n in range(n_spans)]
    assert [left.name for left in tmp_path.iterdir()] == ["out.parquet"]


def test_parts_of_few_rows_are_one_file_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_file, "PART_ROWS", 3)
    folder = tmp_path / "it's [here]*"
    folder.mkdir()
    spans = [make_span(number, attributes={"n": number} if number % 4 else {}) for number in range(1, 12)]
    with ParquetFile(folder / "out.parquet") as file:
        for span in spans:
            file.write([span])
    with duckdb.connect() as connection:
        found = connection.read_parquet([str(folder / "out.parquet")]).project("span_id, attributes")
        assert found.fetchall() == [
            (span.span_id, f'{{"n":{n}}}' if n % 4 else None) for n, span in enumerate(spans, 1)
        ]


def test_an_export_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def break_off() -> None:
        with ParquetFile(tmp_path / "out.parquet") as file:
            file.write([make_span(1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert list(tmp_path.iterdir()) == []
