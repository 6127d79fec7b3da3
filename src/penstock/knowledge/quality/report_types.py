"""The nouns of explanations, reports and judged answers. Frozen."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.knowledge.quality.types import Label, MappedLabel
from penstock.spec.knowledge import Condition


class ExplainedHit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A passage that was found, with its scores at every stage."""

    rank: int
    passage_id: str
    document: str
    title: str | None = None
    section: str | None = None
    anchor: str | None = None
    text: str
    score: float
    dense_score: float | None = None
    lexical_score: float | None = None
    dense_rank: int | None = None
    lexical_rank: int | None = None
    fused_score: float | None = None
    rerank_score: float | None = None
    freshness: float | None = None
    authority: float | None = None
    is_expected: bool | None = None
    """None when nothing was expected."""
    shared_words: list[str] = []


class ExplainedStage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one stage of the search did."""

    name: str
    ms: float
    n_in: int
    n_out: int
    note: str | None = None
    n_dropped: int = 0
    dropped: list[dict[str, Any]] = []
    """{passage_id, document, reason}, the first 50."""


MissReason = Literal[
    "unknown_document",
    "left_out",
    "parse_error",
    "not_indexed",
    "text_missing",
    "no_access",
    "filtered",
    "dropped",
    "below_k",
    "not_a_candidate",
]


class Missed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that was expected and not found, and why."""

    label: Label
    why: MissReason
    sentence: str
    """`alcohol.md is in the index, but stands at rank 143 by meaning and shares no word with the question.`"""
    next: str = ""
    """What may mend it."""
    passage_id: str | None = None
    document: str | None = None
    section: str | None = None
    text: str | None = None
    dense_rank: int | None = None
    dense_score: float | None = None
    lexical_rank: int | None = None
    lexical_score: float | None = None
    rank: int | None = None
    """Where it stands when more than k are asked for."""
    shared_words: list[str] = []
    near_words: dict[str, list[str]] = {}
    """Word of the question to words of the passage that are nearly the same."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a question found, what it missed, and why."""

    base: str
    generation: str
    version: str | None = None
    question: str
    k: int
    mode: str
    note: str | None = None
    embedder: str | None = None
    hits: list[ExplainedHit]
    stages: list[ExplainedStage] = []
    missed: list[Missed] = []
    found: list[MappedLabel] = []
    """Expected things that were found."""
    n_rows: int | None = None
    """Passages that were searched."""
    words: list[str] = []
    """Words of the question that count."""
    absent_words: list[str] = []
    """Those that stand nowhere in the index."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question as it was asked in traffic, with how it came out."""

    question: str
    time_ns: int
    trace_id: str | None = None
    app: str | None = None
    n_hits: int | None = None
    n_wordings: int = 0
    """Further wordings that the app searched for."""
    top_score: float | None = None
    top_dense_score: float | None = None
    has_abstained: bool | None = None
    thumbs: Literal["up", "down"] | None = None
    is_unanswerable: bool = False
    """An error rather than an answer."""
    documents: list[str] = []
    """What was found, best first."""
    cited: list[str] = []
    """Documents that the answer cites."""
    generation: str | None = None
    conditions: list[Condition] = []
    principals: list[str] | None = None
    """What was searched and as whom; None: by somebody who may read everything."""


UnansweredReason = Literal["abstained", "nothing_found", "low_score", "thumbs_down", "error"]


class QuestionCluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Questions that ask nearly the same and were not answered."""

    title: str
    """The most typical of them, as it was asked."""
    n: int
    reasons: dict[str, int]
    examples: list[Asked]
    first_ns: int
    last_ns: int
    candidates: list[str] = []
    """Documents that come nearest: they may lack a section."""


class UnansweredReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people asked and did not get."""

    base: str
    since_ns: int
    until_ns: int
    n_asked: int
    n_unanswered: int
    reasons: dict[str, int]
    clusters: list[QuestionCluster]
    by: Literal["vectors", "words"]
    """What likeness was told by."""
    low_score: float | None = None
    note: str | None = None


StaleReason = Literal["expired", "source_changed", "gone", "error", "superseded", "old"]


class StaleDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document that may no longer say what is true."""

    path: str
    title: str | None = None
    reason: StaleReason
    sentence: str
    since_ns: int | None = None
    modified_ns: int | None = None
    indexed_ns: int | None = None
    source: str | None = None
    n_retrieved: int | None = None
    n_cited: int | None = None
    """Since the report's beginning; None where traffic is not at hand."""
    last_cited_ns: int | None = None


class StaleReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Documents whose content may be out of date, those that answers cite first."""

    base: str
    generation: str
    made_ns: int
    n_documents: int
    rows: list[StaleDocument]
    n_cited: int = 0
    """Of the rows, those that answers cite nevertheless."""
    reasons: dict[str, int] = {}
    note: str | None = None


class UnusedDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document that no question found."""

    path: str
    title: str | None = None
    n_passages: int
    indexed_ns: int
    last_retrieved_ns: int | None = None


class UnusedReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Documents that were never found in a time."""

    base: str
    generation: str
    since_ns: int
    n_documents: int
    n_retrievals: int
    """Few of them say little."""
    rows: list[UnusedDocument]
    n_unused: int
    note: str | None = None


class TriadSettings(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How answers of an app are judged as they come: a share of them, within a budget."""

    app: str
    judge: str
    """The route that judges."""
    share: float = 0.05
    judges: tuple[str, ...] = ("context_relevance", "groundedness", "answer_relevance")
    budget_usd_per_day: Decimal | None = None
    """Past it nothing more is judged until the next day (UTC). Calls without a known price count as nothing, and are told."""
    max_per_day: int = 200
    is_on: bool = True


class TriadState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the watch over an app stands."""

    settings: TriadSettings
    n_seen: int = 0
    """Answers that passed by, today."""
    n_unreadable: int = 0
    """Further ones that cannot be judged: they failed, or were recorded without what was said."""
    n_judged: int = 0
    n_failed: int = 0
    spent_usd: Decimal = Decimal(0)
    dearest_usd: Decimal = Decimal(0)
    """What the dearest answer cost this judge so far; less after days on which none was judged."""
    n_unpriced: int = 0
    day: str = ""
    cursor_ns: int = 0
    last_error: str | None = None
    updated_ns: int = 0
    actor: str = ""
