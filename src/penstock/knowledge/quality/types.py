"""The nouns of retrieval quality: labelled questions, measurements, comparisons, explanations, reports. Frozen.

A label names what should be found so that cutting the documents anew keeps it valid: a document, a section of it, or words
of it; a passage's id only as a last resort. Which passages of a generation fulfil it is worked out when it is needed.
"""

from typing import Literal

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
    how: Literal["document", "section", "words", "near", "moved", "id", "none"] = "none"
    """`near`: by most of its words, because the text is no longer quite the same. `moved`: the document has another path now,
    and most of the words that it had."""
    reason: str | None = None
    """Why no passage does."""
    n_words: int = 0
    """Of the quotation."""
    held: dict[str, list[int]] = {}
    """Passage to the places of the quotation's words that stand in it, of all passages of the document that hold any."""


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
    user: str | None = None
    """Who says it, where one key speaks for many people."""
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
    """Who said it: `user:ID` where that was told, else whoever sent it."""
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
