"""Reads other tools' files without trusting them: YAML and JSON with line numbers, tables, texts, all within bounds and one folder.

Nothing in a file is ever run. YAML is read by the safe loader, whose anchors are counted before anything is made of them, so that a
file of ten lines cannot unfold to gigabytes. A path that a file names counts only within the folder that is imported.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from penstock.evals.importers.errors import ImportTooLarge, ImportUnreadable

MAX_CONFIG_BYTES = 3_000_000
"""Of YAML, which is read at about 100 KB a second."""
MAX_DATA_BYTES = 200_000_000
MAX_NODES = 500_000
MAX_DEPTH = 100
_LFS = "version https://git-lfs"


class Located(dict[str, Any]):
    """An object of a file that knows its line."""

    line: int = 0


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """The safe loader: dates stay texts, objects know their line, and nesting ends before it takes long."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node; raise `ImportTooLarge` below `MAX_DEPTH` levels, which the parser reads ever more slowly."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ImportTooLarge(f"The file is nested deeper than {MAX_DEPTH} levels.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node; raise an error that knows the line for a value that its tag does not fit."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, KeyError, TypeError, OverflowError, IndexError) as error:
            told = f"a value does not fit its tag {node.tag} ({type(error).__name__})"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from error


# a copy without the resolver of timestamps: 2024-01-01 in a variable is a text to everybody but YAML
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_located(loader: Any, node: Any) -> Iterator[Any]:
    mapping = Located()
    mapping.line = node.start_mark.line + 1
    yield mapping
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        mapping[key if isinstance(key, str) else str(key)] = loader.construct_object(value_node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_located)


def read_yaml(text: str, where: str) -> Any:
    """Return what YAML (or JSON) text says; raise `ImportUnreadable` with the line, `ImportTooLarge`."""
    if len(text) > MAX_CONFIG_BYTES:
        raise ImportTooLarge(f"{where} has more than {MAX_CONFIG_BYTES // 1_000_000} MB.")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, set(), where)
            return _plain_numbers(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ImportUnreadable(f"{where} is no plain YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise ImportTooLarge(f"{where} is nested deeper than anybody writes.") from error


def _count(node: Any, known: dict[int, int], open_nodes: set[int], where: str) -> int:
    """Return how many nodes it unfolds to, aliases written out."""
    identity = id(node)
    if identity in known:
        return known[identity]
    if identity in open_nodes:
        raise ImportUnreadable(f"{where} holds an anchor that refers to itself.")
    open_nodes.add(identity)
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count(each, known, open_nodes, where) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            total += _count(key, known, open_nodes, where)
            total += _count(value, known, open_nodes, where)
    open_nodes.discard(identity)
    if total > MAX_NODES:
        raise ImportTooLarge(f"{where} unfolds to more than {MAX_NODES:,} values.")
    known[identity] = total
    return total


def _plain_numbers(value: Any) -> Any:
    """Return the value with infinities and NaN as texts, which JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Located):
        for key, each in value.items():
            value[key] = _plain_numbers(each)
        return value
    if isinstance(value, list):
        return [_plain_numbers(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class Folder:
    """One folder that is imported; files outside it are never opened."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, path: str, *, beside: Path | None = None) -> Path:
        """Return the file that `path` names, seen from the folder of `beside`; raise `ImportUnreadable` that says why not."""
        name = path.removeprefix("file://").replace("\\", "/")
        base = self.root if beside is None else beside.parent
        found = (base / name).resolve()
        if not found.is_relative_to(self.root):
            _refuse(f"{path} lies outside {self.root.name}/ and is not read")
        if not found.is_file():
            _refuse(f"{path} is not there")
        return found

    def list_files(self, path: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[str]]:
        """Return the files of these kinds below `path` (or `path` itself), and the names of those that links lead out to."""
        listed = sorted(path.rglob("*")) if path.is_dir() else [path]
        found = [each for each in listed if each.suffix in suffixes and not each.is_dir()]
        inside = [each for each in found if each.resolve().is_relative_to(self.root)]
        return inside, [str(each.relative_to(path.parent)) for each in found if each not in set(inside)]

    def name(self, path: Path) -> str:
        """Return a file's name as reports show it."""
        resolved = path.resolve()
        return str(resolved.relative_to(self.root)) if resolved.is_relative_to(self.root) else path.name

    def text(self, path: Path, *, max_bytes: int = MAX_DATA_BYTES) -> str:
        """Return a file's text; raise `ImportTooLarge`, `ImportUnreadable`, so for a link that leads out of the folder."""
        if not path.resolve().is_relative_to(self.root):
            _refuse(f"{path.name} lies outside {self.root.name}/ and is not read")
        try:
            if path.exists() and not path.is_file():
                _refuse(f"{self.name(path)} is no file")
            if path.stat().st_size > max_bytes:
                raise ImportTooLarge(f"{self.name(path)} has more than {max_bytes // 1_000_000} MB.")
            data = path.read_bytes()
            if path.suffix == ".gz":
                with gzip.open(io.BytesIO(data)) as file:
                    data = file.read(max_bytes + 1)
                if len(data) > max_bytes:
                    raise ImportTooLarge(
                        f"{self.name(path)} unpacks to more than {max_bytes // 1_000_000} MB."
                    )
            text = data.decode("utf-8-sig")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ImportUnreadable(f"{self.name(path)} cannot be read: {error}.") from error
        if text.startswith(_LFS):
            _refuse(f"{self.name(path)} is a Git LFS pointer, not the data: run `git lfs pull` there first")
        return text

    def document(self, path: Path) -> Any:
        """Return what a YAML or JSON file says."""
        if path.suffix == ".json":
            text = self.text(path)
            try:
                return json.loads(text, object_pairs_hook=Located, parse_constant=str)
            except (ValueError, RecursionError) as error:
                raise ImportUnreadable(f"{self.name(path)} is no JSON: {error}.") from error
        return read_yaml(self.text(path, max_bytes=MAX_CONFIG_BYTES), self.name(path))

    def json_lines(self, path: Path) -> Iterator[tuple[int, Any]]:
        """Yield line number and value of each line that is not empty; raise `ImportUnreadable` with the line."""
        for number, line in enumerate(self.text(path).split("\n"), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ImportUnreadable(f"{self.name(path)}:{number} is no JSON: {error}.") from error

    def table(self, path: Path) -> list[list[str]]:
        """Return the rows of a CSV or TSV file."""
        delimiter = "\t" if path.suffix == ".tsv" else ","
        try:
            return [row for row in csv.reader(io.StringIO(self.text(path)), delimiter=delimiter) if row]
        except csv.Error as error:
            raise ImportUnreadable(f"{self.name(path)} is no table: {error}.") from error


def line_of(value: Any) -> str:
    """Return `:17` for an object that knows its line, else nothing."""
    return f":{value.line}" if isinstance(value, Located) and value.line else ""


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, or an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, an empty one for None, and one of a single value for anything else."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _refuse(why: str) -> NoReturn:
    raise ImportUnreadable(why[0].upper() + why[1:] + ".")
