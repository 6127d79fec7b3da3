"""JSON lines: one object a line. A byte order mark and Windows line ends do no harm; everything else that is wrong is told."""

from collections.abc import Iterator
from pathlib import Path

from penstock.datasets.rows import MAX_ROW_BYTES, decode_json
from penstock.datasets.types import RawRow, Read, RowProblem

_BOM = b"\xef\xbb\xbf"


def read_json_lines(path: Path, source: str) -> Iterator[Read]:
    """Yield the objects of a file of JSON lines; empty lines are passed over."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 2):
            number += 1
            place = f"{source}:{number}"
            if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                _skip_line(file)
                yield RowProblem(
                    place=place, message=f"is longer than {MAX_ROW_BYTES:,} bytes", reason="row too large"
                )
                continue
            text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
            if not text:
                continue
            yield read_object(text, place)


def read_object(text: bytes, place: str) -> Read:
    """Return the row that a piece of JSON text is, or what is wrong with it."""
    try:
        value = decode_json(text)
    except ValueError as error:
        reason = "not UTF-8" if "UTF-8" in str(error) and "UTF-16" not in str(error) else "not JSON"
        return RowProblem(place=place, message=str(error), reason=reason)
    if not isinstance(value, dict):
        return RowProblem(
            place=place, message=f"is a JSON {type(value).__name__}, not an object", reason="not an object"
        )
    return RawRow(place, value)


def _skip_line(file: object) -> None:
    read = file.readline  # type: ignore[attr-defined]  # any binary file has it
    while (rest := read(1 << 20)) and not rest.endswith(b"\n"):
        pass
