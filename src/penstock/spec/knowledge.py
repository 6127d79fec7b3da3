"""Knowledge as data: recipes, filters and document properties that several rooms speak of. Frozen, no behaviour."""

from typing import Any, Literal

import msgspec

PropertyValue = str | int | float | bool | list[str]
EVERYONE = "everyone"
"""The principal that every caller has."""


class Scrubbing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to personal data in a document before anything of it is cut, embedded or shown."""

    action: Literal["keep", "mask", "refuse"] = "keep"
    """`mask` writes the kind in place of the value; `refuse` leaves the document out, with the reason."""
    kinds: list[str] = []
    """Kinds of personal data, such as `email`; empty means all that are known."""


class ParseRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How bytes become sections of text."""

    main_content: bool = True
    """Of a web page take the main content, not menus and footers."""
    boilerplate: bool = True
    """Take out lines that repeat on most pages of a document: running heads, page numbers."""
    ocr: Literal["off", "auto"] = "off"
    """`auto` reads pages without text by text recognition, where that is installed."""
    languages: list[str] = []
    """For text recognition, such as `deu`; empty means English."""
    scrub: Scrubbing = Scrubbing()
    max_bytes: int = 64 * 1024 * 1024
    max_seconds: float = 120.0
    """Of processor time for one document."""
    max_memory_mb: int = 700
    """For one document, in the process that parses it."""


class ChunkRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How sections are cut into passages."""

    strategy: Literal["sections", "recursive", "sentences", "rows"] = "sections"
    """`sections` never crosses a heading; `recursive` fills the budget across short sections of one document;
    `sentences` makes one passage a sentence; `rows` one a table row or record."""
    size: int = 160
    """Longest passage, in `unit`."""
    unit: Literal["words", "tokens"] = "words"
    """`tokens` are the embedder's own."""
    overlap: int = 0
    """Of a passage with the one before it in the same section, in `unit`."""
    parent: Literal["none", "section", "document"] = "none"
    """What a model is shown for a passage that was found: the passage itself, or what it stands in."""
    parent_size: int = 640
    """Longest parent, in `unit`; longer ones are cut around the passage."""


class EmbedRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How passages and questions become vectors."""

    model: str | None = None
    """A route that embeds; None takes the home's own embedding model."""
    query_prefix: str = ""
    document_prefix: str = ""
    """Put before each text, as some models need it, such as `query: ` and `passage: `."""
    context: Literal["headings", "none"] = "headings"
    """What is embedded with a passage besides its text: title and heading, or nothing."""
    dims: int | None = None
    """Length of a vector. Asked of models that can shorten theirs; checked with all."""
    batch_size: int = 32


class IndexRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where vectors are searched."""

    kind: Literal["auto", "exact", "usearch", "qdrant", "pgvector", "none"] = "auto"
    """`auto` is exact up to `exact_below` passages and, where it is installed, usearch above; `none` has words alone."""
    exact_below: int = 25_000
    """A scan of so many vectors of 384 numbers takes about 3 ms."""
    connection: str | None = None
    """Of a server's index: an address whose credentials are secrets of the vault, such as
    `postgresql://rag:{{secret:rag_db}}@db/rag`."""
    precision: Literal["f32", "f16", "i8"] | None = None
    """How vectors are held by an approximate index. None takes what suits the engine: `i8` for usearch, whose
    candidates are scored again from the exact vectors, `f32` for servers."""
    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int | None = None
    """HNSW's M, efConstruction and ef. None lets ef grow with the number of passages, so that recall does not fall."""
    oversample: float = 2.0
    """Candidates asked of an approximate index per candidate wanted, before they are scored exactly."""


class RerankRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A second look at the best passages."""

    kind: Literal["late-interaction", "cross-encoder", "provider", "model"]
    """By the vectors of single tokens, a local cross-encoder, a provider's reranking, or a chat model's verdict."""
    model: str | None = None
    """The route that does it; None takes the home's embedding model for late interaction."""
    depth: int = 30
    """How many of the best are looked at."""
    weight: float = 1.0
    """Share of the second score; the rest is the first one's."""
    timeout_s: float = 10.0
    """Past it the first order stands, noted."""


class SearchRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a question finds passages. A change of it makes another generation over the same index."""

    fusion: Literal["convex", "rrf", "dense", "lexical"] = "convex"
    dense_weight: float | None = None
    """Share of the vector score: 0 is lexical alone, 1 dense alone. None takes what suits the embedder; a
    generation always holds the number."""
    rrf_constant: float = 60.0
    title_weight: float = 1.0
    section_weight: float = 1.0
    """BM25 weights of an article's title and a section's heading; a passage's own text weighs 1."""
    n_candidates: int = 100
    """How many of the best of each kind are mixed."""
    identifier_weight: float | None = None
    """The dense weight for questions that quote words or hold identifiers such as `E-1042`; None: as others."""
    rerank: RerankRecipe | None = None
    diversity: float = 0.0
    """Maximal marginal relevance: 0 ranks by score alone, 1 by difference from what stands above alone."""
    freshness_weight: float = 0.0
    freshness_half_life_days: float = 180.0
    """A document's age halves this part of its score in so many days; unknown age counts as one half-life."""
    authority_weight: float = 0.0
    """Share of the document's property `authority` (0 to 1; unknown counts as 0.5)."""
    max_per_document: int | None = None
    min_dense_score: float | None = None
    """A passage that shares no word with the question counts only from this cosine on."""
    min_relative_score: float = 0.0
    """Passages below this share of the best one's score are left out."""
    min_rerank_score: float | None = None
    """Passages that the second look finds irrelevant are left out."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a knowledge base is read, cut, embedded, indexed and searched. Part of every generation's id."""

    parse: ParseRecipe = ParseRecipe()
    chunk: ChunkRecipe = ChunkRecipe()
    embed: EmbedRecipe = EmbedRecipe()
    index: IndexRecipe = IndexRecipe()
    search: SearchRecipe = SearchRecipe()


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One demand on a document's properties, or several joined. Text is compared without regard to case."""

    op: Literal[
        "is",
        "not",
        "any",
        "none",
        "lt",
        "lte",
        "gt",
        "gte",
        "exists",
        "prefix",
        "all_of",
        "any_of",
        "none_of",
    ]
    """`any` and `none` compare with each value of a list; a property that is a list holds when one item does.
    `all_of`, `any_of` and `none_of` join `parts` and have no field."""
    field: str = ""
    """A property, or one of the built-in `source`, `path`, `title`, `media_type`, `language`, `modified`, `added`."""
    value: Any = None
    parts: list["Condition"] = []


class Properties(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about a document besides its text."""

    values: dict[str, PropertyValue] = {}
    readers: list[str] | None = None
    """Principals that may find it, such as `user:ada` or `group:finance`; None: everyone who may search the base."""
    subjects: list[str] = []
    """People it is about, as they are named when their data is to be erased."""
    language: str | None = None
    modified_ns: int | None = None
    """When its source says it changed last."""
    url: str | None = None
    """Where a reader can open it."""


class ChosenScope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a search may find."""

    conditions: list[Condition] = []
    """All must hold."""
    principals: list[str] | None = None
    """Who asks. None sees everything: only for those who keep the base. An empty list sees what has no readers."""
