"""Documents in a folder of this machine, and below it.

Follows no symbolic link, so a folder cannot lead outside itself. What is hidden is left out.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from penstock.base.errors import InvalidInput
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.tree import Entry, Listing, walk_tree
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem

SETTLED_NS = 2_000_000_000
"""A file that changed less long ago may change again without its times showing it: it is read again."""


class FolderSettings(SourceSettings, frozen=True, kw_only=True):
    """`location` is the folder."""

    watch: bool = False
    """Look for changes every few seconds, and take them up by themselves."""

    def local_places(self) -> list[str]:
        """Return the folder."""
        return [self.location]


class FolderSource:
    """A folder."""

    def __init__(
        self,
        source_id: str,
        settings: FolderSettings,
        *,
        private_root: Path | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Nothing below `private_root` is read."""
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._root = Path(settings.location)
        self._private = None if private_root is None else private_root.resolve()
        self._clock = clock

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield what lies in the folder; raise `InvalidInput` when there is no folder."""
        del known
        if not self._root.is_dir():
            raise InvalidInput(
                f"{str(self._root)!r} is not a folder.", hint="Name a folder that holds documents."
            )
        yield from walk_tree(self._source_id, self._list(), self._settings)
        self.complete = not self.problems

    def _list(self) -> Iterator[Listing]:
        unreadable: list[LeftOut] = []

        def note(error: OSError) -> None:
            path = _relative(self._root, str(error.filename)) + "/"
            unreadable.append(
                LeftOut(path=path, reason=f"cannot be opened: {error.strerror}", is_unreadable=True)
            )
            self.problems.append(f"{path} cannot be opened: {error.strerror}")

        for parent, folders, names in os.walk(self._root, onerror=note):
            path = _relative(self._root, parent)
            path = "" if path == "." else f"{path}/"
            left_out = unreadable[:]
            unreadable.clear()
            for name in sorted(folders):
                reason = _reason_against(Path(parent, name), name)
                if self._private is not None and Path(parent, name).resolve() == self._private:
                    reason = "Penstock's own home"
                if reason:
                    folders.remove(name)
                    left_out.append(LeftOut(path=f"{path}{_readable(name)}/", reason=reason))
            folders.sort()
            files = {_readable(name): make_entry(Path(parent, name), self._clock()) for name in names}
            yield Listing(path=path, files=files, left_out=tuple(left_out))
        if unreadable:
            yield Listing(path="", files={}, left_out=tuple(unreadable))


def make_entry(absolute: Path, now_ns: int) -> Entry:
    """Return a file of this machine as it lies in a listing."""
    reason = _reason_against(absolute, absolute.name)
    try:
        found = absolute.lstat()
    except OSError as error:
        reason = reason or f"cannot be read: {error.strerror}"
        return Entry(size_bytes=None, token=None, modified_ns=None, read=absolute.read_bytes, reason=reason)
    if not stat.S_ISREG(found.st_mode):
        reason = reason or "not a plain file"
    newest = max(found.st_mtime_ns, found.st_ctime_ns)
    return Entry(
        size_bytes=found.st_size,
        token=f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
        if newest < now_ns - SETTLED_NS
        else None,
        modified_ns=found.st_mtime_ns,
        read=absolute.read_bytes,
        reason=reason,
    )


def _reason_against(absolute: Path, name: str) -> str | None:
    if absolute.is_symlink():
        return "symbolic links are not followed"
    return "hidden" if name.startswith(".") else None


def _relative(root: Path, absolute: str) -> str:
    return _readable(os.path.relpath(absolute, root).replace(os.sep, "/"))


def _readable(name: str) -> str:
    # Names need not be valid Unicode on every file system; databases and JSON need them to be.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
