"""Single files of this machine, named one by one or by a pattern such as `reports/*.pdf`."""

import glob
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from penstock.knowledge.sources.kinds.folder import make_entry
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
        folders: dict[str, dict[str, Entry]] = {}
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
                parent, _, name = path.rpartition("/")
                entries = folders.setdefault(f"{parent}/" if parent else "", {})
                for each in (absolute, *_beside(absolute)):
                    key = name if each is absolute else each.name
                    entries[key] = make_entry(each, self._clock())
        listings = (Listing(path=path, files=folders[path]) for path in sorted(folders))
        yield from walk_tree(self._source_id, listings, self._settings)
        self.complete = not self.problems


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


def _beside(absolute: Path) -> Iterator[Path]:
    for suffix in (".meta.toml", ".meta.yaml", ".meta.yml", ".meta.json"):
        place = absolute.with_name(absolute.name + suffix)
        if place.is_file():
            yield place
