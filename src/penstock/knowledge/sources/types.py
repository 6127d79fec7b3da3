"""The nouns of sources: what a source yields, what is known of it from before, and what a scan found in all.

This is what ingesting is told: after `SourceService.scan_all`, every document that belongs into the base is a
`ScannedItem` whose bytes lie in the blobs under `digest`, whether they were read now or in an earlier scan.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from penstock.knowledge.types import Dropped
from penstock.spec.knowledge import Properties

KIND_NAMES = ("folder", "files", "web", "store", "database", "jsonl")
"""The kinds of places, as the catalogue has them; help texts name them without loading what opens each."""
ItemState = Literal["live", "unreadable", "left_out", "gone"]
"""`unreadable` documents that were read before stay in the base as they were last read."""
SourceState = Literal["new", "running", "ok", "incomplete", "failed"]
"""How the last scan ended: `incomplete` deleted nothing because a part of the source could not be listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceItem:
    """A document that a source holds, not read yet."""

    source_id: str
    path: str
    """Address within the source, with `/` between its parts. Identity is (source, path), never content."""
    token: str | None
    """Equal to the one of the scan before only when the bytes are surely the same; None: nobody can tell."""
    size_bytes: int | None
    properties: Properties
    read: Callable[[], bytes]
    """Gives the bytes; valid until the next item is asked for. Raises `PenstockError` or `OSError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something that a source holds and that does not go into the base, or cannot."""

    path: str
    reason: str
    is_unreadable: bool = False
    """It would belong into the base, and could not be read now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownItem:
    """What the scan before knew of a document."""

    token: str | None
    digest: str
    size_bytes: int | None
    properties: Mapping[str, Any]
    """As JSON values; `msgspec.convert(…, Properties)` reads them."""
    read: Callable[[], bytes]
    """Gives the bytes as they were read last, from the blobs."""


MAX_PROBLEMS = 100


def note_problem(problems: list[str], problem: str) -> None:
    """Add a problem to a list, up to so many; the last line says that there are more."""
    if len(problems) < MAX_PROBLEMS:
        problems.append(problem)
    elif len(problems) == MAX_PROBLEMS:
        problems.append("and more problems of such kinds")


class Source(Protocol):
    """A place that holds documents. Blocking; holds at most one document's bytes at a time."""

    @property
    def complete(self) -> bool:
        """After `scan` ended: everything was listed. An incomplete scan deletes nothing."""

    @property
    def problems(self) -> list[str]:
        """Why the scan is incomplete, and what else is to be told."""

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield everything the source holds, each path once. `known` is what the scan before found, by path.

        Raises `PenstockError` when nothing can be listed at all.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedItem:
    """A document that belongs into the base; its bytes lie in the blobs under `digest`."""

    source_id: str
    source: str
    """Name of the source."""
    path: str
    """Path of the document in the base: the source's prefix and the item's path."""
    digest: str
    size_bytes: int
    properties: Properties
    """What the source says of it. Readers told here win over what the document says of itself."""
    moved_from: str | None = None
    """Path in the base that the same bytes had before, when they have left it."""
    problem: str | None = None
    """Why the present bytes could not be read, when these are the ones read last."""


class SourceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan of one source did; kept with the source."""

    source: str
    complete: bool
    seen: int
    """Documents that are there."""
    read: int
    """Documents whose bytes were fetched, because nothing showed that they are unchanged."""
    read_bytes: int
    added: int
    changed: int
    moved: int
    gone: int
    unreadable: int
    left_out: int
    seconds: float
    problems: list[str] = []
    error: str | None = None
    """Why nothing of it was taken over."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a base holds after its sources were scanned: the scanned ones as they are now, others as before."""

    items: list[ScannedItem]
    """Sorted by path."""
    left_out: list[Dropped]
    """Everything else that was seen, with why: also what could not be read."""
    gone: list[str]
    """Paths in the base that this scan took away."""
    outcomes: list[SourceOutcome] = field(default_factory=list)
    """One for each source that was scanned."""


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """A source, as lists show it."""

    id: str
    base: str
    name: str
    kind: str
    location: str
    settings: dict[str, Any]
    schedule: dict[str, Any] | None
    is_paused: bool
    is_detached: bool
    """It is never read again, and its documents stay."""
    state: SourceState
    error: str | None
    """Why the last scan or the last run failed."""
    counts: dict[str, int]
    """Items by state."""
    outcome: SourceOutcome | None
    """What the last scan that ended well did."""
    failures: int
    """Runs in a row that failed."""
    job: str | None
    """The run under way, or the last one."""
    due_ns: int | None
    started_ns: int | None
    ended_ns: int | None
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """What a source holds at one address, as lists show it."""

    source: str
    path: str
    """Of the document in the base."""
    item: str
    """Within the source."""
    state: ItemState
    reason: str | None
    digest: str | None
    size_bytes: int | None
    properties: dict[str, Any]
    moved_from: str | None
    first_seen_ns: int
    last_seen_ns: int
    changed_ns: int


@dataclass(frozen=True, kw_only=True)
class ItemPage:
    """A page of items."""

    items: list[ItemRow]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class DocumentVersion:
    """One version of a document that was parsed."""

    id: str
    digest: str
    title: str | None
    media_type: str | None
    size_bytes: int
    n_passages: int
    n_dropped_chars: int
    problems: list[str]
    error: str | None
    properties: dict[str, Any] | None
    is_live: bool
    created_ns: int


@dataclass(frozen=True, kw_only=True)
class DocumentDetails:
    """A document of a base: what its source says, and every version of it, newest first."""

    base: str
    path: str
    item: ItemRow | None
    """None when no source holds it any more."""
    versions: list[DocumentVersion]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a scan would find; nothing was written."""

    seen: int
    left_out: int
    complete: bool
    first: list[dict[str, Any]]
    """Path, size and properties of the first documents."""
    errors: list[Dropped]
    """The first things that would be left out, with why."""
    problems: list[str]
    is_cut: bool
    """The source holds more than was looked at."""
