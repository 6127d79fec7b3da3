"""Walks anything that is folders and files: which files are documents, and what is told of them beside them.

Folders of this machine and object stores give their listings; the rules here are the same for both. A file of
properties is no document. Where properties cannot be read, what they describe is left as it was: they may say who
may find it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from penstock.base.errors import PenstockError
from penstock.knowledge.parse import SUFFIXES
from penstock.knowledge.sources.patterns import reason_against
from penstock.knowledge.sources.properties import (
    FOLDER_FILE,
    MAX_PROPERTY_BYTES,
    SIDECAR_SUFFIXES,
    merge_properties,
    parse_properties,
)
from penstock.knowledge.sources.settings import SourceSettings
from penstock.knowledge.sources.types import LeftOut, SourceItem
from penstock.spec.knowledge import Properties


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file in a listing."""

    size_bytes: int | None
    token: str | None
    modified_ns: int | None
    read: Callable[[], bytes]
    reason: str | None = None
    """Why it cannot be a document whatever its name is."""
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One folder: its path below the root (`""` or `a/b/`), its files by name, and what was left out in it."""

    path: str
    files: Mapping[str, Entry]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inherited:
    """What holds in a folder and below it."""

    properties: Properties
    problem: str | None = None


def walk_tree(
    source_id: str, listings: Iterator[Listing], settings: SourceSettings
) -> Iterator[SourceItem | LeftOut]:
    """Yield every file of `listings`, which come with each folder before what lies below it."""
    above: dict[str, _Inherited] = {}
    for listing in listings:
        yield from listing.left_out
        inherited = _inherit(listing, above, settings)
        above[listing.path] = inherited
        sidecars = dict(_find_sidecars(listing.files))
        used: set[str] = set()
        for name in sorted(listing.files):
            entry = listing.files[name]
            if name == FOLDER_FILE or name in sidecars:
                continue
            path = listing.path + name
            reason = entry.reason or _reason_against(path, name, entry, settings)
            beside = [each for each, document in sidecars.items() if document == name]
            used.update(beside)
            if reason is not None:
                yield LeftOut(path=path, reason=reason)
                continue
            properties, problem = inherited.properties, inherited.problem
            for each in beside:
                try:
                    told = parse_properties(listing.path + each, _read_small(listing.files[each]))
                except (PenstockError, OSError) as error:
                    problem = f"its properties cannot be read: {_told(error)}"
                    continue
                properties = merge_properties(properties, told)
            if problem is not None:
                yield LeftOut(path=path, reason=problem, is_unreadable=True)
                continue
            yield SourceItem(
                source_id=source_id,
                path=path,
                token=entry.token,
                size_bytes=entry.size_bytes,
                properties=merge_properties(
                    Properties(modified_ns=entry.modified_ns, url=entry.url), properties
                ),
                read=entry.read,
            )
        for each in sidecars:
            if each not in used:
                yield LeftOut(path=listing.path + each, reason="describes a document that is not there")


def _inherit(listing: Listing, above: Mapping[str, _Inherited], settings: SourceSettings) -> _Inherited:
    parent = _find_parent(listing.path, above) or _Inherited(properties=settings.common_properties())
    entry = listing.files.get(FOLDER_FILE)
    if entry is None or listing.path in above:
        return above.get(listing.path, parent)
    path = listing.path + FOLDER_FILE
    try:
        told = parse_properties(path, _read_small(entry))
    except (PenstockError, OSError) as error:
        return _Inherited(
            properties=parent.properties, problem=f"its properties cannot be read: {_told(error)}"
        )
    return _Inherited(properties=merge_properties(parent.properties, told), problem=parent.problem)


def _find_parent(path: str, above: Mapping[str, _Inherited]) -> _Inherited | None:
    """Return what holds in the nearest folder above that was listed: stores and patterns list not every one."""
    while path:
        path = path.rstrip("/").rpartition("/")[0]
        path += "/" if path else ""
        if path in above:
            return above[path]
    return None


def _find_sidecars(files: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """Yield names of sidecars with the name of the document that each describes."""
    for name in files:
        for suffix in SIDECAR_SUFFIXES:
            if name.endswith(suffix) and len(name) > len(suffix):
                yield name, name.removesuffix(suffix)


def _reason_against(path: str, name: str, entry: Entry, settings: SourceSettings) -> str | None:
    reason = reason_against(path, settings.include, settings.exclude)
    if reason is not None:
        return reason
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in SUFFIXES:
        return f"no parser for {suffix or 'a file without suffix'}"
    return reason_against_size(entry.size_bytes, settings.max_bytes)


def reason_against_size(size_bytes: int | None, max_bytes: int) -> str | None:
    """Return why a document is too large, or None."""
    if size_bytes is None or size_bytes <= max_bytes:
        return None
    return f"{size_bytes:,} bytes; the limit is {max_bytes:,}."


def _read_small(entry: Entry) -> bytes:
    if entry.reason is not None:
        raise OSError(entry.reason)
    if entry.size_bytes is not None and entry.size_bytes > MAX_PROPERTY_BYTES:
        raise OSError(f"{entry.size_bytes:,} bytes are too many")
    return entry.read()


def _told(error: PenstockError | OSError) -> str:
    return error.message if isinstance(error, PenstockError) else str(error.strerror or error)
