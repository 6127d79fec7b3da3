"""The nouns of retrieval quality: labelled questions, measurements, comparisons, explanations, reports. Frozen.

A label names what should be found so that cutting the documents anew keeps it valid: a document, a section of it, or words
of it; a passage's id only as a last resort. Which passages of a generation fulfil it is worked out when it is needed.
"""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.evaluations import Comparison, Estimate, RuleResult, VerdictWord

Granularity = Literal["finest", "document", "section", "quote", "answer"]
"""What of a label counts. `finest` takes words where there are any, else the section, else the document; `answer` takes the
words of the reference answer."""
Phrasing = Literal["asked", "alternatives", "both"]
"""Which wordings of a question are asked: as written, its other phrasings (metadata `alternatives`), or both."""
Unmapped = Literal["miss", "leave_out"]
"""What a label counts that no passage of a generation can fulfil: something that was not found, or nothing."""
Mode = Literal["as_is", "dense", "lexical", "hybrid", "reranked"]
FeedbackKind = Literal["click", "up", "down", "missing", "label"]
"""`missing`: this document should have been found. `label`: a person says that the passage answers the question."""
METRICS = ("recall", "precision", "ndcg", "mrr", "hit")
DEFAULT_KS = (1, 3, 5, 10)
MAX_QUESTIONS = 20_000


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that should be found."""

    document: str | None = None
    section: str | None = None
    """A heading or an anchor of the document."""
    quote: str | None = None
    """Words of the document, as they stand there."""
    passage_id: str | None = None
    grade: int = 1
    """0: judged and not relevant; from 1 on relevant, more is better."""

    @property
    def name(self) -> str:
        """What it is called in lists, unique among the labels of one question as far as they differ."""
        place = "#".join(part for part in (self.document, self.section) if part) or self.passage_id or ""
        if self.quote is None:
            return place
        words = " ".join(self.quote.split())
        return f"{place}: “{words[:60]}{'…' if len(words) > 60 else ''}”" if place else f"“{words[:60]}”"


class LabelledQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question with everything that is known about what should be found."""

    id: str
    question: str
    labels: list[Label] = []
    alternatives: list[str] = []
    answer: str | None = None
    group: str | None = None
    """Questions of one group are not independent of each other; without one, the document of the first label."""
    split: str | None = None
    tags: list[str] = []
    source: str | None = None
    """Where it came from: `trace:ID`, `feedback:ID`, `model:NAME`, `import:FILE`; anything else was written by hand."""


class MappedLabel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A label in one generation."""

    label: Label
    passages: list[str] = []
    """Ids of the passages that fulfil it, each by itself."""
    how: Literal["document", "section", "words", "near", "id", "none"] = "none"
    """`near`: by most of its words, because the text is no longer quite the same."""
    reason: str | None = None
    """Why no passage does."""


class UnmappedLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label that no passage of the generation can fulfil."""

    question_id: str
    label: str
    reason: str


# measuring


class MeasureRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is to be measured; also the spec of the job."""

    questions: str
    """`dataset:NAME@ALIAS` (or NAME), or `handbook:questions`."""
    track: str | None = None
    generation: str | None = None
    """Neither: what is live."""
    ks: tuple[int, ...] = DEFAULT_KS
    modes: tuple[Mode, ...] = ("as_is",)
    """The first is the row that the others are compared with."""
    by: Granularity = "finest"
    phrasing: Phrasing = "asked"
    where: str | None = None
    """Which rows of the dataset, such as `split:test`."""
    unmapped: Unmapped = "miss"
    limit: int | None = None
    level: float = 0.95
    note: str = ""


class MeasuredQuestion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question of a measurement, as it came out in its first mode."""

    id: str
    question: str
    ranks: list[int] = []
    """Of the passages that fulfil a label, up to the deepest k."""
    n_wanted: int = 0
    n_found: int = 0
    n_unmapped: int = 0
    group: str | None = None
    error: str | None = None


class MeasuredMode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way of searching: its figures, and how they differ from the first row's."""

    mode: Mode
    estimates: list[Estimate]
    """`recall@5`, `ndcg@10` …, `unjudged@5`, `latency_ms`, `context_tokens`."""
    slices: list[Estimate] = []
    differences: list[Comparison] = []
    """Paired with the first row, p-values corrected over all modes and figures of the table (Holm)."""
    quantiles: dict[str, Estimate] = {}
    """`latency_ms p50`, `latency_ms p95`."""
    notes: list[str] = []
    """Why some searches were less than asked for, each once with its number."""
    n_errors: int = 0


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measured quality of one generation on one set of questions."""

    id: str
    base: str
    generation: str
    version: str | None = None
    """`knowledge:NAME@3` where the registry knows it."""
    questions: str
    """Pinned, `dataset:NAME@3`."""
    request: MeasureRequest
    embedder: str | None = None
    n_questions: int
    n_groups: int | None = None
    n_labels: int
    n_graded: int = 0
    """Questions with grades beyond yes and no; their nDCG weighs them."""
    labels_per_question: float | None = None
    """Few labels a question mean that what else was found is not judged rather than wrong."""
    modes: list[MeasuredMode]
    unmapped: list[UnmappedLabel] = []
    """The first 200."""
    n_unmapped: int = 0
    left_out: dict[str, int] = {}
    """Why questions were not asked, to their number."""
    worst: list[MeasuredQuestion] = []
    """Questions for which nothing was found, the first 200."""
    reservations: list[str] = []
    """What a reader must know before believing the figures."""
    actor: str = ""
    made_ns: int = 0

    def find(self, name: str, mode: Mode | None = None) -> Estimate | None:
        """Return a figure of a mode (the first one when None), over all questions."""
        rows = [row for row in self.modes if mode is None or row.mode == mode]
        return next((each for each in (rows[0].estimates if rows else []) if each.name == name), None)


class MeasurementRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A measurement, as lists and charts over time show it: figures of its first mode alone."""

    id: str
    base: str
    generation: str
    version: str | None = None
    questions: str
    mode: Mode
    n_questions: int
    estimates: list[Estimate]
    actor: str = ""
    note: str = ""
    made_ns: int = 0


class MeasurementPage(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements, newest first."""

    rows: list[MeasurementRow]
    next_cursor: str | None = None


# comparing


class CompareRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Which two generations are compared, on what, and by which rules; also the spec of the job."""

    candidate: str
    """A track's name or a generation's id."""
    baseline: str = "live"
    questions: str | None = None
    """Labelled ones, as in `MeasureRequest`; None: recorded questions alone."""
    recorded: int = 200
    """How many of the newest recorded questions are replayed on both."""
    since_ns: int | None = None
    k: int = 5
    rules: list[str] = []
    """As gates write them: `recall@5 >= baseline - 3 points`, `overlap@5 >= 0.6`, `latency_ms p95 <= baseline + 20 %`.
    Empty: those that fit what there is."""
    level: float = 0.95
    by: Granularity = "finest"
    where: str | None = None
    unmapped: Unmapped = "miss"
    note: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question whose results differ between both sides."""

    question: str
    overlap: float | None
    baseline: list[str] = []
    """Documents with sections, best first."""
    candidate: list[str] = []
    trace_id: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Recorded questions on both sides. Nobody judged these: they tell how much changes, not whether it is better."""

    n_questions: int
    estimates: list[Estimate] = []
    """`overlap@K`, `rank_overlap` (rank-biased, p = 0.9), `same_first`, of the pair."""
    differences: list[Comparison] = []
    """Paired `latency_ms`, `errors`, `nothing_found`, `context_tokens`."""
    changes: list[Change] = []
    """The most different, at most 50."""
    left_out: dict[str, int] = {}


class GenerationComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two generations beside each other with a verdict: what a switch demands as its evidence."""

    id: str
    base: str
    baseline: str
    """Generation ids."""
    candidate: str
    baseline_track: str | None = None
    candidate_track: str | None = None
    baseline_recipe: str = ""
    candidate_recipe: str = ""
    """Digests of recipe and embedder: they stay while documents come and go."""
    verdict: VerdictWord
    reason: str
    rules: list[RuleResult] = []
    sentences: list[str] = []
    """The verdict in words, one a rule."""
    request: CompareRequest
    questions: str | None = None
    n_labelled: int = 0
    labelled: list[Comparison] = []
    """Paired differences of all figures on labelled questions, Holm-corrected."""
    replay: Replay | None = None
    measurements: list[str] = []
    """Ids of the measurements of both sides, the candidate's first."""
    reservations: list[str] = []
    level: float = 0.95
    actor: str = ""
    made_ns: int = 0


class ComparisonPage(msgspec.Struct, frozen=True, kw_only=True):
    """Comparisons, newest first."""

    rows: list[GenerationComparison]
    next_cursor: str | None = None


# explaining


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


# feedback


class FeedbackDraft(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What somebody says of a passage or a document for a question."""

    question: str
    kind: FeedbackKind
    document: str | None = None
    passage_id: str | None = None
    rank: int | None = None
    trace_id: str | None = None
    generation: str | None = None


class Feedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A kept judgement."""

    id: str
    base: str
    question: str
    kind: FeedbackKind
    document: str | None = None
    passage_id: str | None = None
    rank: int | None = None
    actor: str = ""
    trace_id: str | None = None
    generation: str | None = None
    made_ns: int = 0


class FeedbackPage(msgspec.Struct, frozen=True, kw_only=True):
    """Judgements, newest first."""

    rows: list[Feedback]
    counts: dict[str, int] = {}
    """Of each kind, over all of the base."""
    next_cursor: str | None = None


# question sets


class QuestionSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset whose questions say what should be found."""

    ref: str
    """`dataset:NAME@3`; `handbook:questions` is shipped."""
    name: str
    n_questions: int | None = None
    updated_ns: int | None = None
    is_shipped: bool = False


class MadeQuestions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What building a set of questions came to."""

    ref: str | None
    """The version that was made; None when there was nothing to add."""
    n_added: int
    n_known: int = 0
    """Asked already."""
    left_out: dict[str, int] = {}
    preview: list[LabelledQuestion] = []
    """The first few."""


# reports


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question as it was asked in traffic, with how it came out."""

    question: str
    time_ns: int
    trace_id: str | None = None
    app: str | None = None
    n_hits: int | None = None
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


# watching traffic


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
    n_judged: int = 0
    n_failed: int = 0
    spent_usd: Decimal = Decimal(0)
    n_unpriced: int = 0
    day: str = ""
    cursor_ns: int = 0
    last_error: str | None = None
    updated_ns: int = 0
    actor: str = ""
