"""Versions as files that others read: JSON lines, CSV, Parquet, OpenAI's fine-tuning files, a folder for Hugging Face.

What comes out as JSON lines, CSV, Parquet or folder comes back as the same rows when its format is named. In CSV and Parquet a
column that is not all texts holds JSON: in CSV its name ends in `:json`, a Parquet file says so in its metadata.
"""

import csv
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from penstock.datasets.convert import convert_row
from penstock.datasets.errors import WrongFormat
from penstock.datasets.readers.parquet import MARK, open_duckdb
from penstock.datasets.readers.tables import JSON_MARK
from penstock.spec.datasets import DatasetFacts, DatasetFormat, DatasetRow

ExportForm = Literal["jsonl", "csv", "tsv", "parquet", "openai", "huggingface"]
FORMS: tuple[str, ...] = get_args(ExportForm)
MEDIA_TYPES: Mapping[str, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "openai": "application/x-ndjson",
    "huggingface": "application/zip",
}
SUFFIXES: Mapping[str, str] = {
    "jsonl": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
    "openai": "jsonl",
    "huggingface": "zip",
}
UNSPLIT = "unsplit"
_FIRST = ("id",)
_LAST = ("split", "group", "tags", "metadata", "provenance")
_CHUNK = 1 << 18
_INT64 = 1 << 63
_FORMULA = tuple("=+-@\t\r\n")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_OTHER = re.compile(r"[^\w.]+")
Read = Callable[[], Iterable[DatasetRow]]
"""Gives the rows from the first on, each time it is called."""


def flatten(row: DatasetRow) -> dict[str, Any]:
    """Return a row as one object: its id, its fields, and what else it has."""
    flat: dict[str, Any] = {"id": row.id, **row.fields}
    if row.split is not None:
        flat["split"] = row.split
    if row.group is not None:
        flat["group"] = row.group
    if row.tags:
        flat["tags"] = row.tags
    if row.metadata:
        flat["metadata"] = row.metadata
    if row.provenance is not None:
        flat["provenance"] = msgspec.to_builtins(row.provenance)
    return flat


def write_lines(read: Read) -> Iterator[bytes]:
    """Yield JSON lines."""
    return _in_chunks(msgspec.json.encode(flatten(row)) + b"\n" for row in read())


def write_openai(read: Read, form: DatasetFormat) -> Iterator[bytes]:
    """Yield OpenAI's fine-tuning lines: `messages`, or for preferences `input` with both outputs. Raises `WrongFormat`."""
    return _in_chunks(msgspec.json.encode(_openai(row, form)) + b"\n" for row in read())


def write_table(read: Read, separator: str, *, is_for_spreadsheet: bool = False) -> Iterator[bytes]:
    """Yield a table; reads the rows twice. For a spreadsheet, what it would take for a formula gets an apostrophe in front."""
    shield = _shielded if is_for_spreadsheet else str
    columns = _columns(read, _is_plain_cell)
    held = io.StringIO()
    writer = csv.writer(held, delimiter=separator, lineterminator="\n")
    writer.writerow([shield(name if kind == "text" else name + JSON_MARK) for name, kind in columns.items()])
    for row in read():
        flat = flatten(row)
        writer.writerow(
            ["" if name not in flat else shield(_cell(flat[name], kind)) for name, kind in columns.items()]
        )
        if held.tell() > _CHUNK:
            yield held.getvalue().encode()
            held.seek(0)
            held.truncate()
    yield held.getvalue().encode()


def write_parquet(read: Read, folder: Path) -> Iterator[bytes]:
    """Yield a Parquet file, which is made in `folder` first."""
    path = folder / "rows.parquet"
    make_parquet(read, path, _columns(read, lambda value: isinstance(value, str)))
    return _stream(path)


def write_folder(
    read: Read, folder: Path, facts: DatasetFacts, name: str, stamp: str, *, is_whole: bool = True
) -> Iterator[bytes]:
    """Yield a zip of a folder that `datasets.load_dataset(FOLDER)` reads: a Parquet file for each split, and its card.

    `facts` are of the version; without `is_whole` the rows are some of its rows, and the card says so.
    """
    columns = _columns(read, lambda value: isinstance(value, str))
    counts = Counter(row.split or "" for row in read())
    called = _split_names(counts)
    packed = folder / "folder.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("README.md", _card(facts, counts, called, name, stamp, is_whole=is_whole))
        for number, (split, short) in enumerate(called.items()):
            path = folder / f"{number}.parquet"
            make_parquet(_of_split(read, split), path, columns)
            archive.write(path, _file_of(short))
            path.unlink()
    return _stream(packed)


def make_parquet(read: Read, path: Path, columns: Mapping[str, str]) -> None:
    """Write a Parquet file with these columns, in bounded memory."""
    lines = path.with_suffix(".lines")
    longest = _CHUNK
    with lines.open("wb") as file:
        for row in read():
            flat = flatten(row)
            held = {name: _value(flat[name], kind) for name, kind in columns.items() if name in flat}
            file.write(line := msgspec.json.encode(held) + b"\n")
            longest = max(longest, len(line))
    types = {name: _TYPES.get(kind, "VARCHAR") for name, kind in columns.items()}
    marks = json.dumps([name for name, kind in columns.items() if kind == "json"])
    shape = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in types.items())
    connection = open_duckdb(memory_mb=256 + 12 * longest // 1_000_000)
    try:
        connection.execute(
            f"COPY (SELECT * FROM read_json({_quoted(str(lines))}, format='newline_delimited',"  # noqa: S608 - quoted
            f" columns={{{shape}}}, maximum_object_size={longest + 1})) TO {_quoted(str(path))}"
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 10000, KV_METADATA {{{MARK}: {_quoted(marks)}}})"
        )
    finally:
        connection.close()
        lines.unlink()


def _columns(read: Read, is_text: Callable[[Any], bool]) -> dict[str, str]:
    """Return column to kind, in order: id, fields by how common they are, and the rest."""
    kinds: dict[str, str] = {}
    counts: dict[str, int] = {}
    for row in read():
        for name, value in flatten(row).items():
            counts[name] = counts.get(name, 0) + 1
            kind = "text" if is_text(value) else _kind(value)
            known = kinds.setdefault(name, kind)
            if known != kind:
                kinds[name] = "json"
    fields = sorted(
        (name for name in counts if name not in (*_FIRST, *_LAST)), key=lambda name: (-counts[name], name)
    )
    return {name: kinds[name] for name in (*_FIRST, *fields, *_LAST) if name in kinds}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            return "texts"
        if all(_is_plain_turn(each) for each in value):
            return "turns"
    return "json"


_TYPES = {
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float": "DOUBLE",
    "texts": "VARCHAR[]",
    "turns": "STRUCT(role VARCHAR, content VARCHAR)[]",
}


def _is_plain_turn(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"role", "content"}
        and all(isinstance(each, str) for each in value.values())
    )


def _is_plain_cell(value: Any) -> bool:
    """Return whether a cell can hold the text so that it comes back as it was."""
    return (
        isinstance(value, str)
        and value != ""
        and value[0] not in "[{"
        and "\r" not in value
        and "\x00" not in value
    )


def _cell(value: Any, kind: str) -> str:
    return value if kind == "text" else msgspec.json.encode(value).decode()


def _shielded(cell: str) -> str:
    is_number = _NUMBER.fullmatch(cell)
    return f"'{cell}" if cell[:1] in _FORMULA and not is_number else cell


def _value(value: Any, kind: str) -> Any:
    return msgspec.json.encode(value).decode() if kind == "json" else value


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _openai(row: DatasetRow, form: DatasetFormat) -> dict[str, Any]:
    if form == "preference":
        asked = row.fields.get("messages") or [{"role": "user", "content": row.fields["prompt"]}]
        tools = {"tools": row.fields["tools"]} if row.fields.get("tools") else {}
        return {
            "input": {"messages": asked, **tools},
            "preferred_output": _turns(row.fields["chosen"]),
            "non_preferred_output": _turns(row.fields["rejected"]),
        }
    told = convert_row(row, form, "chat").fields
    if told["messages"][-1]["role"] != "assistant":
        raise WrongFormat(
            f"Row {row.id!r} does not end with an answer, so nothing could be learned from it.",
            hint="Leave it out with --where.",
            row=row.id,
        )
    return {name: told[name] for name in ("messages", "tools") if told.get(name)}


def _turns(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}]


def _split_names(splits: Iterable[str]) -> dict[str, str]:
    """Return split to the name it has in a folder: letters, digits and dots, no two alike in any case of letters."""
    short = {split: _OTHER.sub("_", split) or UNSPLIT for split in splits}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for split in sorted(
        short, key=lambda each: (short[each] != each, each)
    ):  # who needs no change keeps its name
        name, number = short[split], 1
        while name.casefold() in taken:
            number += 1
            name = f"{short[split]}_{number}"
        taken.add(name.casefold())
        names[split] = name
    return {split: names[split] for split in short}


def _file_of(split: str) -> str:
    return f"data/{split}-00000-of-00001.parquet"


def _of_split(read: Read, split: str) -> Read:
    return lambda: (row for row in read() if (row.split or "") == split)


def _card(
    facts: DatasetFacts,
    counts: Mapping[str, int],
    called: Mapping[str, str],
    name: str,
    stamp: str,
    *,
    is_whole: bool,
) -> str:
    lines = ["---"]
    if facts.license:
        lines.append(f"license: {json.dumps(facts.license)}")
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split, short in called.items():
        shown = "train" if not split and len(called) == 1 else short
        lines += [f"  - split: {json.dumps(shown)}", f"    path: {json.dumps(_file_of(short))}"]
    told = ", ".join(f"{split or UNSPLIT} {n:,}" for split, n in counts.items())
    n_rows = sum(counts.values())
    of = (
        f"Version {stamp}, rows {facts.rows_digest}."
        if is_whole
        else f"Some of the {facts.n_rows:,} rows of version {stamp}."
    )
    return "\n".join(
        [
            *lines,
            "---",
            f"# {name}",
            "",
            *([facts.description, ""] if facts.description else []),
            f"Format `{facts.format}`, {n_rows:,} rows ({told}). {of}",
            "",
            "Columns that hold JSON text are named in each file's metadata under `" + MARK + "`.",
            "",
        ]
    )


def _stream(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _in_chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size > _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
