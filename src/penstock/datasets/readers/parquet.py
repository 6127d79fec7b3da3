"""Parquet, by DuckDB, a few megabytes at a time.

The surprise: a file says nothing of how large its rows are (a text that stands in all of them is kept once), so each is weighed
in the file before it is taken out of it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.datasets.errors import UnreadableSource
from penstock.datasets.readers.columns import column_row
from penstock.datasets.rows import MAX_ROW_BYTES
from penstock.datasets.types import Read, RowProblem

MARK = "penstock_json_columns"
"""Key of a file's metadata under which our own export names the columns that hold JSON text."""
_BATCH_BYTES = MAX_ROW_BYTES
_AT_ONCE = 1000
_SMALL = frozenset(
    [
        "boolean",
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "uhugeint",
        "float",
        "double",
        "decimal",
        "date",
        "time",
        "interval",
        "uuid",
        "enum",
        "sqlnull",
        "time_tz",
    ]
)
_VALUE_BYTES = 8
"""What a number weighs, and what every value does beside its text."""


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
            for start, n_rows in _batches(connection, path):
                if n_rows == 0:
                    yield RowProblem(
                        place=f"{source}:{start + 1}",
                        message=f"is longer than {MAX_ROW_BYTES:,} bytes",
                        reason="row too large",
                    )
                    continue
                cursor = connection.cursor()
                cursor.execute("SELECT * FROM read_parquet(?) LIMIT ? OFFSET ?", [str(path), n_rows, start])
                names = [column[0] for column in cursor.description]
                number = start
                while rows := cursor.fetchmany(_AT_ONCE):
                    for values in rows:
                        number += 1
                        yield column_row(names, values, f"{source}:{number}", marks)
                cursor.close()
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise UnreadableSource(f"{source} cannot be read as Parquet: {reason}.") from error
    finally:
        connection.close()


def _batches(connection: Any, path: Path) -> Iterator[tuple[int, int]]:
    """Yield where rows begin that can be held at once, and how many; of a row that is too large, none."""
    described = connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(path)]).description
    weight = " + ".join(_weight(_quoted(column[0]), column[1]) for column in described)
    cursor = connection.cursor()
    cursor.execute(f"SELECT {weight} FROM read_parquet(?)", [str(path)])  # noqa: S608 - names are quoted
    start = end = held = 0
    while sizes := cursor.fetchmany(_AT_ONCE):
        for (size,) in sizes:
            if end > start and held + size > _BATCH_BYTES:
                yield start, end - start
                start, held = end, 0
            end += 1
            held += size
            if size > MAX_ROW_BYTES:
                yield start, 0
                start, held = end, 0
    if end > start:
        yield start, end - start


def _weight(value: str, kind: Any, depth: int = 0) -> str:
    """Return what tells in SQL how many bytes a value is about, without making anything of it."""
    name = kind.id
    if name == "varchar":
        return f"coalesce(strlen({value}), 0) + {_VALUE_BYTES}"
    if name == "blob":
        return f"coalesce(octet_length({value}), 0) + {_VALUE_BYTES}"
    if name == "struct":
        parts = (
            _weight(f"struct_extract({value}, {_text(member)})", each, depth)
            for member, each in kind.children
        )
        return " + ".join((str(_VALUE_BYTES), *parts))
    if name == "map":
        (_, keys), (_, values) = kind.children
        return (
            f"{_list_weight(f'map_keys({value})', keys, depth)}"
            f" + {_list_weight(f'map_values({value})', values, depth)}"
        )
    if name in {"list", "array"}:
        return _list_weight(value, kind.children[0][1], depth)
    if name in _SMALL or name.startswith("timestamp") or kind == "NULL":
        return str(_VALUE_BYTES)
    return f"coalesce(strlen(({value})::VARCHAR), 0) + {_VALUE_BYTES}"


def _list_weight(value: str, kind: Any, depth: int) -> str:
    each = f"x{depth}"
    inner = _weight(each, kind, depth + 1)
    return f"coalesce(list_sum(list_transform({value}, lambda {each}: {inner})), 0)::BIGINT + {_VALUE_BYTES}"


def _json_columns(connection: Any, path: Path) -> frozenset[str]:
    found = connection.execute(
        "SELECT value FROM parquet_kv_metadata(?) WHERE decode(key) = ?", [str(path), MARK]
    ).fetchone()
    return frozenset(json.loads(bytes(found[0]))) if found else frozenset()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
