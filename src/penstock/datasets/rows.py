"""Rows as bytes and back, their ids and digests, and what no row may hold. Pure functions.

The digest of a row leaves out its provenance: the same rows are the same version, wherever they came from. The surprise:
msgspec writes NaN as null, so values that do not come from JSON text are walked for it first.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.spec.datasets import DatasetRow

MAX_ROW_BYTES = 16 * 1024 * 1024
MAX_ID_CHARS = 512
MAX_NAME_CHARS = 200
"""Of splits, groups' names and tags."""
MAX_DEPTH = 60
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_encoder = msgspec.json.Encoder()
_sorted = msgspec.json.Encoder(order="sorted")
_row_decoder = msgspec.json.Decoder(DatasetRow)
_any_decoder = msgspec.json.Decoder()


def encode_row(row: DatasetRow) -> bytes:
    """Return the row as one line of JSON, without its end."""
    return _encoder.encode(row)


def decode_row(line: bytes) -> DatasetRow:
    """Return the row that `encode_row` wrote."""
    return _row_decoder.decode(line)


def row_content(row: DatasetRow) -> bytes:
    """Return what a row is, as bytes that are equal for equal rows, whatever the order of keys and wherever it came from."""
    return _sorted.encode(msgspec.structs.replace(row, provenance=None) if row.provenance else row)


def derive_id(fields: Mapping[str, Any]) -> str:
    """Return an id that follows from the fields alone, for rows whose source gives none."""
    return f"row-{hashlib.sha256(_sorted.encode(fields)).hexdigest()[:16]}"


def decode_json(data: bytes) -> Any:
    """Return a JSON value; raise `ValueError` whose text a person can act on."""
    try:
        return _any_decoder.decode(data)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"bytes that are not UTF-8 ({error.object[error.start : error.start + 4].hex(' ')})"
        ) from error
    except RecursionError as error:
        raise ValueError("values within values too deep") from error
    except msgspec.ValidationError as error:
        raise ValueError("a number that is too large to be one") from error
    except msgspec.DecodeError as error:
        raise ValueError(_explain(data, str(error))) from error


def _explain(data: bytes, told: str) -> str:
    if _LONE_SURROGATE.search(data):
        return "half a character (a lone surrogate such as \\ud83d)"
    if re.search(rb"[:\[,]\s*-?(NaN|Infinity)", data):
        return "NaN or Infinity, which JSON does not have; write null or leave it out"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16; save it as UTF-8"
    return f"not JSON: {told.removeprefix('JSON is malformed: ')}"


def find_unfit(value: Any, depth: int = 0) -> str | None:
    """Return why a value that did not come from JSON text cannot be kept exactly, or None when it can."""
    if value is None or isinstance(value, bool | int):
        return None
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else "half a character (a lone surrogate)"
    if isinstance(value, float):
        return None if math.isfinite(value) else "NaN or Infinity, which is no value; leave it out"
    if depth > MAX_DEPTH:
        return "values within values too deep"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"the key {key!r}, which is no text"
            reason = find_unfit(key) or find_unfit(item, depth + 1)
            if reason:
                return reason
        return None
    if isinstance(value, list | tuple):
        return next((reason for item in value if (reason := find_unfit(item, depth + 1))), None)
    return f"a {type(value).__name__}, which JSON does not have"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
