"""The nouns of knowledge: documents, sections, passages, hits, reports, and the ports this room needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from penstock.spec.knowledge import EmbedRecipe, Properties, PropertyValue

if TYPE_CHECKING:  # the processes that parse load these records and no numpy
    import numpy as np
    from numpy.typing import NDArray

    from penstock.knowledge.retrieval.types import Stage

Output = TypeVar("Output")
TextKind = Literal["query", "document"]
SearchMode = Literal["hybrid", "lexical", "dense", "none"]
DroppedKind = Literal["unreadable", "left_out", "part"]
"""A document that belongs into the base and could not be read; a file that is none of it; a part of a document."""
SectionKind = Literal["text", "table", "code", "record"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A stretch of text under one heading. Paragraphs are separated by a blank line."""

    heading: str | None
    """None for what stands before the first heading."""
    text: str
    anchor: str | None = None
    """Where a reader can open it: `page=3`, `row=12`, or a fragment such as `how-much-sleep`."""
    headings: tuple[str, ...] = ()
    """The path to `heading`, outermost first, `heading` last; the document's title is not part of it."""
    page: int | None = None
    """Page, slide or sheet on which it begins, counted from 1."""
    kind: SectionKind = "text"
    """What all of it is. A section of text may hold Markdown tables and fenced code between its paragraphs."""


@dataclass(frozen=True, kw_only=True)
class ParsedDocument:
    """What a parser found. `problems` names everything that was in the file and is not in the sections."""

    title: str | None
    media_type: str
    sections: tuple[Section, ...]
    problems: tuple[str, ...] = ()
    language: str | None = None
    """ISO 639-1, as the document says itself or its words show; None where neither does."""
    n_pages: int | None = None
    """Of what has pages, slides or sheets."""
    properties: Properties = field(default_factory=Properties)
    """What the document says of itself: front matter, headers of a mail, metadata of a file."""

    @property
    def n_chars(self) -> int:
        """Characters of text in all sections."""
        return sum(len(section.text) for section in self.sections)

    @property
    def text(self) -> str:
        """All sections, separated by a blank line. Passages count their offsets in this text."""
        return "\n\n".join(section.text for section in self.sections)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document, cut between sentences; `text` is `document.text[start:end]`."""

    id: str
    """Stays the same while path, section and text stay the same, wherever the passage moves."""
    section: str | None
    anchor: str | None
    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()
    """The path to `section`, outermost first, where it has more than one step; `section` comes last."""
    lead: str | None = None
    """What stands above it in the document and is needed to read it: the header of a table that was cut, the line
    that begins a list. Embedded with the passage and no part of its text."""
    parent_start: int | None = None
    parent_end: int | None = None
    """What a model is shown in its place, as offsets in the document's text; None: the passage itself."""
    n_tokens: int | None = None
    """Of `text`, in the embedder's tokens; None where nobody counted."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that was found, best first. Scores of a kind that did not run are None."""

    passage_id: str
    document: str
    """Path of the file below its source folder."""
    title: str | None
    section: str | None
    anchor: str | None
    text: str
    sentences: tuple[str, ...]
    score: float
    """The mixed score, between 0 and 1 within one search."""
    dense_score: float | None
    """Cosine of query and passage."""
    lexical_score: float | None
    """BM25; higher is better. None when no word of the query is in the passage."""
    rerank_score: float | None = None
    """Of the second look, where there was one."""
    merged: tuple[str, ...] = ()
    """Ids of further passages that were found and stand in the same text."""
    url: str | None = None
    """Where a reader can open the document."""
    attributes: dict[str, PropertyValue] = field(default_factory=dict)
    """What is known of its document, for whoever may read it: its properties, and its language. Never its readers."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """The answer to one query, and what produced it."""

    hits: tuple[Hit, ...]
    generation: str
    version: str | None
    """The registry's name for it, such as `knowledge:handbook@3`; None when no registry keeps it."""
    embedder: str
    mode: SearchMode
    note: str | None = None
    """Why the search was less than hybrid."""
    shortfall: str | None = None
    """Why there are fewer hits than were asked for."""
    n_rows: int | None = None
    """Passages that were searched, where the caller may know."""
    stages: "tuple[Stage, ...]" = ()
    """What each stage did; with its candidates where an explanation was asked for."""


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """A document of the live generation, as lists show it."""

    path: str
    title: str | None
    media_type: str | None
    digest: str
    size_bytes: int
    n_passages: int
    n_dropped_chars: int
    problems: tuple[str, ...]
    error: str | None
    """Why it, or what is at its place now, is not searchable; None where nothing is wrong."""
    created_ns: int
    source: str | None = None
    """Name of the source that told of it."""
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, kw_only=True)
class DocumentText:
    """A live document as a whole."""

    path: str
    title: str | None
    media_type: str | None
    language: str | None
    url: str | None
    modified_ns: int | None
    properties: Properties
    text: str
    """As it was parsed; passages count their offsets in it."""
    generation: str
    version: str | None


@dataclass(frozen=True, kw_only=True)
class BaseRow:
    """A knowledge base, as lists show it."""

    name: str
    source: str | None
    generation: str | None
    version: str | None
    embedder: str | None
    n_documents: int
    n_passages: int
    updated_ns: int


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was in the source and is not in the index."""

    path: str
    reason: str
    what: DroppedKind = "part"


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an ingest did. `dropped` also names parts of documents that were otherwise read."""

    base: str
    added: int
    changed: int
    unchanged: int
    deleted: int
    passages: int
    embedded: int
    """Passages that were sent to the embedder; the others were in the cache."""
    dropped: tuple[Dropped, ...]
    embedder: str
    generation: str
    version: str | None
    is_new: bool = True
    """False when what is live holds exactly this already."""
    documents: int = 0
    """Documents that can be found now."""
    parsed: int = 0
    """Documents whose bytes were parsed; parses of others were kept from before."""
    kept_old: tuple[str, ...] = ()
    """Documents whose present bytes cannot be read, so that the version before is still searched."""
    formats: dict[str, int] = {}
    """Documents that were parsed, by media type."""
    reasons: dict[str, int] = {}
    """How often something was left out, by reason; the most frequent ones."""
    seconds: dict[str, float] = {}
    """By stage."""
    embed_tokens: int | None = None
    """What the embedder says it read for this; None where it said nothing."""
    cost_nano_usd: int | None = None
    """Of embedding; None where nobody knows."""
    n_unreadable: int = 0
    """Documents whose present bytes could not be read."""
    n_in_parts: int = 0
    """Passages that were longer than the embedder reads, and were embedded in parts."""
    sources: list[dict[str, Any]] = []
    """What the scan of each source came to."""
    notes: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, for a job's result; of long lists of dropped things the first 500."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        result["n_dropped"] = len(self.dropped)
        result["dropped"] = result["dropped"][:500]
        return result

    def as_evidence(self) -> dict[str, Any]:
        """Return the figures alone, to be kept with the version that went live."""
        return {name: value for name, value in self.as_dict().items() if name != "dropped"}


@dataclass(frozen=True, kw_only=True)
class EmbedUsage:
    """What an embedder was asked for and what it cost. Unknown is None, and makes a sum unknown."""

    n_requests: int = 0
    n_texts: int = 0
    n_tokens: int | None = 0
    cost_nano_usd: int | None = 0
    n_in_parts: int = 0
    """Texts that were too long for the model at once, of which each part was embedded by itself."""


class Embedder(Protocol):
    """Turns texts into vectors. Safe from several threads."""

    @property
    def id(self) -> str:
        """Model, version and whatever else of its recipe vectors depend on: equal ids, equal vectors."""

    @property
    def max_tokens(self) -> int | None:
        """Longest text that it reads; None where nobody knows."""

    @property
    def usage(self) -> EmbedUsage:
        """What it was asked for since it was opened."""

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> "NDArray[np.float32]":
        """Return one row a text. Rows need not be normalised. Raises `PenstockError` when it cannot."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many of its tokens each text has: exactly where its tokenizer is here, else rather too many."""


class EmbedderSource(Protocol):
    """Opens embedders. Made in `main` over the gateway."""

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> Embedder:
        """Return the embedder of a recipe; with `made_with` the one of that id, where it is still served.

        Its own `id` says what was opened: callers that asked for a version compare. Raises `PenstockError` when
        there is none.
        """


class IngestContext(Protocol):
    """The part of a job's context that an ingest needs; `jobs` passes the real one."""

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Output]) -> Output:
        """Run `fn` once for these inputs; on resume return its recorded JSON output."""

    def progress(self, fraction: float, message: str) -> None:
        """Show how far the work is."""

    def log(self, text: str) -> None:
        """Add a line to the job's log."""

    def check_cancelled(self) -> None:
        """Raise when the job was cancelled."""


class VersionKeeper(Protocol):
    """Decides which generation of a base is live. Kept by the registry where there is one."""

    def publish(
        self,
        name: str,
        content: dict[str, Any],
        *,
        evidence: dict[str, Any],
        override_reason: str | None = None,
        actor: str | None = None,
    ) -> str:
        """Make `content` the live version of knowledge `name` and return the version's name."""

    def find_live(self, name: str) -> tuple[dict[str, Any], str] | None:
        """Return content and name of the live version, or None when there is none."""


class InlineContext:
    """Runs every step at once and keeps nothing: for commands and tests that need no durable job."""

    def __init__(self, on_progress: Callable[[float, str], None] | None = None) -> None:
        self._on_progress = on_progress

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Output]) -> Output:
        """Run `fn`."""
        del name, inputs
        return fn()

    def progress(self, fraction: float, message: str) -> None:
        """Pass it on."""
        if self._on_progress is not None:
            self._on_progress(fraction, message)

    def log(self, text: str) -> None:
        """Drop it."""

    def check_cancelled(self) -> None:
        """Never cancelled."""
