"""Parquet, by DuckDB, a few thousand rows at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.datasets.errors import UnreadableSource
from penstock.datasets.readers.columns import column_row
from penstock.datasets.types import Read

MARK = "penstock_json_columns"
"""Key of a file's metadata under which our own export names the columns that hold JSON text."""
_AT_ONCE = 1000


def open_duckdb(*, memory_mb: int = 256) -> Any:
    """Return a connection of its own, with bounds and without a way to the network."""
    import duckdb

    return duckdb.connect(
        config={
            "memory_limit": f"{memory_mb}MB",
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


def read_parquet(path: Path, source: str) -> Iterator[Read]:
    """Yield the rows of a Parquet file; they count from 1. Raises `UnreadableSource` for what is none."""
    import duckdb

    connection = open_duckdb()
    try:
        try:
            marks = _json_columns(connection, path)
            cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in cursor.description]
            number = 0
            while rows := cursor.fetchmany(_AT_ONCE):
                for values in rows:
                    number += 1
                    yield column_row(names, values, f"{source}:{number}", marks)
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise UnreadableSource(f"{source} cannot be read as Parquet: {reason}.") from error
    finally:
        connection.close()


def _json_columns(connection: Any, path: Path) -> frozenset[str]:
    found = connection.execute(
        "SELECT value FROM parquet_kv_metadata(?) WHERE decode(key) = ?", [str(path), MARK]
    ).fetchone()
    return frozenset(json.loads(bytes(found[0]))) if found else frozenset()
