"""Single files of this machine, named one by one or by a pattern such as `reports/*.pdf`.

Follows no symbolic link in what a pattern leaves open, so a pattern cannot lead outside the folder it begins in.
"""

import glob
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.kinds.folder import make_entry
from penstock.knowledge.sources.properties import FOLDER_FILE, SIDECAR_SUFFIXES
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.tree import Entry, Listing, walk_tree
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem


class FilesSettings(SourceSettings, frozen=True, kw_only=True):
    """`location` is a file, or a pattern: `*` within a folder, `**` over folders."""

    also: list[str] = msgspec.field(default_factory=list)
    """More files or patterns."""
    watch: bool = False
    """Look for changes every few seconds, and take them up by themselves."""

    def local_places(self) -> list[str]:
        """Return the files, or the folders that patterns begin in."""
        return [fixed_part(each) for each in (self.location, *self.also)]

    def check(self) -> None:
        """Also refuse patterns that lead up again."""
        super().check()
        for each in (self.location, *self.also):
            check_pattern(each)


class FilesSource:
    """Files by name. A file's path is its name, or what a pattern left open."""

    def __init__(
        self, source_id: str, settings: FilesSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._clock = clock

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield the files that are there; one that is named and is not there is left out with a line."""
        del known
        roots: dict[Path, dict[str, dict[str, Entry]]] = {}
        taken: dict[str, Path] = {}
        for pattern in [self._settings.location, *self._settings.also]:
            found = list(find_files(pattern))
            if not found:
                yield LeftOut(path=Path(pattern).name, reason=f"there is no file {pattern!r}")
            for path, absolute in found:
                if taken.setdefault(path, absolute) != absolute:
                    reason = f"{str(absolute)!r} has the name of another file; give it a source of its own"
                    yield LeftOut(path=f"{path} ({absolute.parent})", reason=reason)
                    continue
                root = absolute.parents[path.count("/")]
                self._add(roots.setdefault(root, {}), root, path)
        for folders in roots.values():
            listings = (Listing(path=path, files=folders[path]) for path in sorted(folders))
            yield from walk_tree(self._source_id, listings, self._settings)
        self.complete = not self.problems

    def _add(self, folders: dict[str, dict[str, Entry]], root: Path, path: str) -> None:
        """Add a file, and what is told of it beside it and in the folders above, up to where its pattern begins."""
        for each in told_in(path):
            place = root / each
            if place.is_file() or place.is_symlink():
                parent, _, name = each.rpartition("/")
                folders.setdefault(f"{parent}/" if parent else "", {})[name] = self._entry(place, each)

    def _entry(self, place: Path, path: str) -> Entry:
        """A file, or one that is not read because a link leads to it."""
        entry = make_entry(place, self._clock())
        is_linked = is_behind_link(place, path)
        return (
            replace(entry, reason=entry.reason or "symbolic links are not followed") if is_linked else entry
        )


def check_pattern(pattern: str) -> None:
    """Raise `InvalidSource` for a pattern that leads up again behind a wildcard."""
    if glob.has_magic(pattern) and ".." in Path(pattern).parts:
        raise InvalidSource(
            f"{pattern!r} leads up by `..`.", hint="Write the pattern from the folder that it begins in."
        )


def is_behind_link(place: Path, path: str) -> bool:
    """Return whether a symbolic link stands within the part of `place` that a pattern left open, which is `path`."""
    depth = path.count("/")
    root = place.parents[depth]
    return place.resolve() != root.resolve() / place.relative_to(root)


def told_in(path: str) -> Iterator[str]:
    """Yield a file's path, and those of all files that may say something of it."""
    yield path
    for suffix in SIDECAR_SUFFIXES:
        yield path + suffix
    for above in _folders_above(path.removesuffix(path.rpartition("/")[2])):
        yield above + FOLDER_FILE


def _folders_above(folder: str) -> Iterator[str]:
    """Yield a folder and those above it: of `a/b/` it is `a/b/`, `a/` and the root."""
    yield folder
    while folder:
        folder = folder.rstrip("/").rpartition("/")[0]
        folder += "/" if folder else ""
        yield folder


def fixed_part(pattern: str) -> str:
    """Return a pattern up to its first wildcard, or all of it."""
    parts = Path(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(Path(*parts[:fixed])) if fixed else "."


def find_files(pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield path and place of the files that a pattern names, in order."""
    if not glob.has_magic(pattern):
        place = Path(pattern)
        if place.is_file() or place.is_symlink():
            yield place.name, place
        return
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed]) if fixed else Path()
    for each in sorted(root.glob("/".join(parts[fixed:]))):
        if each.is_file():
            yield each.relative_to(root).as_posix(), each
