"""Folders that Hugging Face's `save_to_disk` wrote: Arrow streams, read by pyarrow where it is installed."""

from collections.abc import Iterator
from pathlib import Path

from penstock.datasets.errors import UnreadableSource
from penstock.datasets.readers.columns import column_row
from penstock.datasets.types import Read


def read_arrow(path: Path, source: str) -> Iterator[Read]:
    """Yield the rows of an Arrow stream file; they count from 1. Raises `UnreadableSource` without pyarrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UnreadableSource(
            f"{source} is an Arrow file, which needs pyarrow; Parquet, JSON lines and CSV are read without it.",
            hint="Install penstock[datasets], or write the data set with to_parquet() instead of save_to_disk().",
        ) from error
    number = 0
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            names = stream.schema.names
            for batch in stream:
                for start in range(0, batch.num_rows, 1000):
                    for row in batch.slice(start, 1000).to_pylist():
                        number += 1
                        yield column_row(
                            names, [row[name] for name in names], f"{source}:{number}", frozenset()
                        )
    except pa.ArrowException as error:
        raise UnreadableSource(f"{source} cannot be read as an Arrow stream: {error}.") from error
