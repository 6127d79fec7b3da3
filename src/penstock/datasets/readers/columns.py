"""Values of columnar files as JSON values: dates become texts, decimals numbers; what JSON does not have is a problem."""

import datetime as dt
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from penstock.datasets.rows import decode_json
from penstock.datasets.types import RawRow, Read, RowProblem


class NoJson(ValueError):
    """A value that JSON does not have."""


def column_row(names: list[str], values: Any, place: str, json_columns: frozenset[str]) -> Read:
    """Return the row of a columnar file; columns in `json_columns` hold JSON text."""
    row: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if value is None:
            continue
        try:
            row[name] = (
                decode_json(value.encode())
                if name in json_columns and isinstance(value, str)
                else to_json(value)
            )
        except ValueError as error:
            return RowProblem(
                place=place, column=name, message=str(error), reason="value that cannot be kept"
            )
    return RawRow(place, row)


def to_json(value: Any) -> Any:
    """Return a value as JSON has it. Members of objects that are null are left out: columnar files pad with them."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NoJson("NaN or Infinity, which is no value; write null")
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise NoJson("NaN or Infinity, which is no value; write null")
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | dt.timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray):
        raise NoJson("bytes, which are no text")
    raise NoJson(f"a {type(value).__name__}, which JSON does not have")
