"""What a source is: a single file by its layout, a folder as Hugging Face lays it out, or a repository of a hub.

Layout is told by the file's name, else by its first bytes. In a folder each file's split is told by its name, as the hub does it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.base.errors import InvalidInput
from penstock.datasets.errors import UnreadableSource
from penstock.datasets.readers.arrow import read_arrow
from penstock.datasets.readers.json_array import read_json_array
from penstock.datasets.readers.json_lines import read_json_lines
from penstock.datasets.readers.parquet import read_parquet
from penstock.datasets.readers.tables import read_table
from penstock.datasets.types import Read

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_SPLIT = re.compile(
    r"(?:^|[/._-])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?=[/._-]|$)"
)
_SPLITS = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
MAX_FILES = 10_000


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source."""

    path: Path
    name: str
    """As places say it: the file's name, or its path below the folder."""
    layout: str
    split: str | None = None


def find_files(source: Path, name: str, layout: str | None) -> list[SourceFile]:
    """Return the files that hold the rows of a source; raise `UnreadableSource`."""
    if source.is_dir():
        return _folder_files(source)
    if not source.is_file():
        raise UnreadableSource(f"There is no file {name!r}.", hint="Name a file, or a folder of files.")
    if source.stat().st_size == 0:
        raise UnreadableSource(f"{name} is empty.", hint="Name a file that holds rows.")
    return [SourceFile(path=source, name=name, layout=layout or detect_layout(source, name))]


def detect_layout(path: Path, name: str) -> str:
    """Return how a file holds its rows; raise `UnreadableSource` when nothing tells."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableSource(f"{name} is UTF-16.", hint="Save it as UTF-8.")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith((b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"PK\x03\x04")):
        raise UnreadableSource(f"{name} is compressed.", hint="Unpack it first.")
    known = _BY_SUFFIX.get(Path(name).suffix.lower())
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if known in {"json", None} and text[:1] in {b"[", b"{"}:
        return "json" if text[:1] == b"[" else "jsonl"
    if known is not None:
        return known
    line = text.partition(b"\n")[0]
    if b"\x00" not in start and any(mark in line for mark in (b",", b"\t", b";")):
        return "tsv" if b"\t" in line else "csv"
    raise UnreadableSource(
        f"Nobody can tell how {name} holds its rows.", hint="Say --layout jsonl, json, csv, tsv or parquet."
    )


def read_file(file: SourceFile) -> Iterator[Read]:
    """Yield the rows of one file, and what is wrong with it."""
    if file.layout == "jsonl":
        return read_json_lines(file.path, file.name)
    if file.layout == "json":
        return read_json_array(file.path, file.name)
    if file.layout in {"csv", "tsv"}:
        return read_table(file.path, file.name, "\t" if file.layout == "tsv" else None)
    if file.layout == "parquet":
        return read_parquet(file.path, file.name)
    if file.layout == "arrow":
        return read_arrow(file.path, file.name)
    raise InvalidInput(f"There is no layout {file.layout!r}.", hint="Use jsonl, json, csv, tsv or parquet.")


def split_of(name: str) -> str | None:
    """Return the split that a file's path names, in the hub's words: `data/train-00000-of-00002.parquet` is `train`."""
    found = _SPLIT.findall(name.lower().rpartition(".")[0])
    return None if not found else _SPLITS.get(found[-1], found[-1])


def _folder_files(folder: Path) -> list[SourceFile]:
    files = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        layout = _BY_SUFFIX.get(path.suffix.lower())
        if layout is None or relative.name in {
            "dataset_info.json",
            "dataset_infos.json",
            "state.json",
            "dataset_dict.json",
        }:
            continue
        files.append(
            SourceFile(
                path=path,
                name=relative.as_posix(),
                layout=detect_layout(path, relative.name) if layout == "json" else layout,
                split=split_of(relative.as_posix()),
            )
        )
        if len(files) > MAX_FILES:
            raise UnreadableSource(f"{folder.name} holds more than {MAX_FILES:,} files.")
    layouts = {file.layout for file in files}
    if len(layouts) > 1:
        # several forms of the same rows lie side by side on hubs: the one that keeps types best counts
        best = next(each for each in ("parquet", "arrow", "jsonl", "json", "csv", "tsv") if each in layouts)
        files = [file for file in files if file.layout == best]
    if not files:
        raise UnreadableSource(
            f"{folder.name} holds no Parquet, JSON lines, JSON, CSV or Arrow file.",
            hint="Name a folder with rows.",
        )
    return files
