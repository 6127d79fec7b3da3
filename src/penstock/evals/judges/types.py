"""Labels of people, and judges held against them. Frozen, no behaviour."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import Direction, ScorerSpec

LabelSource = Literal["person", "feedback", "import"]
Drawn = Literal["random", "chosen"]
"""Why an output was labelled: by chance, or because something about the answer stood out. Only the first tell rates."""
CalibrationKind = Literal["binary", "numeric", "labels"]


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one person said of one output. Of one person, output and name the latest holds."""

    item: str
    """Id of what was labelled."""
    name: str
    """What was judged: `helpful`, `correct`."""
    rater: str
    value: float | None = None
    """A number; words such as pass and fail are 1 and 0. None: a word that is no number."""
    label: str | None = None
    comment: str = ""
    source: LabelSource = "person"
    drawn: Drawn = "random"
    made_ns: int = 0


class LabelDraft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A label as it is sent or imported: a value or a label, on an output of an evaluation, a trace, or texts."""

    name: str
    value: float | bool | None = None
    label: str | None = None
    rater: str = ""
    """Empty: whoever sends it."""
    comment: str = ""
    drawn: Drawn = "random"
    item: str | None = None
    """Id of an item that is known already."""
    evaluation: str | None = None
    case_id: str | None = None
    repeat: int = 0
    trace_id: str | None = None
    input: str | None = None
    output: str | None = None
    expected: Any = None
    passages: list[str] = []
    group: str | None = None
    model: str | None = None
    """Who wrote the output."""


class LabelItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An output that was or could be labelled, with what it answered to."""

    id: str
    case: Case
    output: Output
    evaluation_id: str | None = None
    trace_id: str | None = None
    labels: list[Label] = []


class LabelPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of labels with their items, the latest label first."""

    rows: list[LabelItem]
    next_cursor: str | None = None


class LabelSet(msgspec.Struct, frozen=True, kw_only=True):
    """All labels of one name, counted."""

    name: str
    n_items: int
    n_labels: int
    n_raters: int
    n_random: int
    """Items that were drawn by chance."""
    values: dict[str, int]
    """Value or word to labels."""
    updated_ns: int


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A figure with its interval; None where it has none, and then `method` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""
    n: int = 0


class LabelledPair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output with what people and the judge said of it: what corrections are computed from."""

    item: str
    human: float | str
    judged: float | str
    group: str | None = None
    evaluation_id: str | None = None
    case_id: str | None = None


class JudgeCalibration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one judge agrees with people about one thing."""

    id: str
    name: str
    """Of the labels."""
    judge: ScorerSpec
    stamp: str
    model: str = ""
    """Who judged, as the replies call it."""
    kind: CalibrationKind
    threshold: float | None = None
    """From which value on the judge says yes (`binary`)."""
    direction: Direction = "higher"
    made_ns: int = 0
    n_items: int
    n_labels: int = 0
    n_raters: int = 1
    n_scored: int = 0
    n_undefined: int = 0
    n_errors: int = 0
    n_chosen: int = 0
    """Labelled outputs left out because they were not drawn by chance."""
    agreement: Figure
    """Share of outputs on which both say the same; for numbers, the correlation."""
    kappa: Figure | None = None
    alpha: Figure | None = None
    sensitivity: Figure | None = None
    specificity: Figure | None = None
    prevalence: Figure | None = None
    """Share of yes by people."""
    labels: list[str] = []
    confusion: list[list[int]] = []
    """Rows: people; columns: the judge."""
    n_positive: int = 0
    n_true_positive: int = 0
    n_negative: int = 0
    n_true_negative: int = 0
    mean_error: Figure | None = None
    """Judge − people, for numbers."""
    human_alpha: float | None = None
    """Krippendorff's alpha among people, where several labelled the same: no judge can be held to more."""
    kappa_by_prevalence: dict[str, float] = {}
    """What kappa would be with the same sensitivity and specificity at other shares of yes."""
    flip_rate: Figure | None = None
    """Of pairwise judges: how often the verdict follows the place."""
    first_place: Figure | None = None
    """How often the answer in the first place wins; 0.5 is fair."""
    length_bias: Figure | None = None
    """Correlation of the judge's value with the answer's length among outputs that people hold equal."""
    self_preference: Figure | None = None
    """How much better the judge is disposed to answers of its own model than to others, people's word aside."""
    cost_usd: Decimal | None = None
    """Of all its judgements; None when one is unknown."""
    n_cost_unknown: int = 0
    p50_latency_ms: float | None = None
    is_usable: bool = True
    """Whether figures of this judge can be corrected."""
    sentences: list[str] = []
    """What a reader should take from it."""
    pairs: list[LabelledPair] = []


class JudgeRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judge of a benchmark."""

    rank: int
    calibration: JudgeCalibration
    difference: Figure | None = None
    """Its agreement − the best one's, over the same outputs; None for the best."""
    p_adjusted: float | None = None
    is_worse: bool = False
    """Surely worse than the best."""
    cost_per_output_usd: Decimal | None = None


class JudgeBenchmark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Several judges on the same labelled outputs."""

    name: str
    rows: list[JudgeRow]
    n_items: int
    """Outputs that every judge has a verdict on."""
    choice: str
    """Stamp of the cheapest judge that is not surely worse than the best."""
    sentence: str


class PairCount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two evaluations judged side by side."""

    baseline: str
    candidate: str
    judge: str
    """Stamp."""
    n_pairs: int
    n_wins: int
    """Pairs that the candidate wins in both orders."""
    n_losses: int
    n_ties: int
    n_flips: int
    """Ties because each order named the other answer."""
    n_errors: int
    win_rate: Figure
    """Wins and half the ties, of all pairs that were judged."""
    flip_rate: Figure
    first_place: Figure
    word: Literal["better", "worse", "undecided"]
    sentence: str
    cost_usd: Decimal | None = None
    errors: dict[str, int] = {}
    pairs: list[dict[str, Any]] = []
    """Case id, winner, whether it flipped, reasons."""


class NextItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An output to label next."""

    item: LabelItem
    drawn: Drawn
    why: str
    """`drawn by chance`, `judges disagree: 0 and 1`, `the judge is undecided: 0.5`."""
    scores: dict[str, float] = {}


class JudgeEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A judge in a list: a kind that can be asked, or one that was kept under a name."""

    name: str
    """`rubric`, or `scorer:tone@2`."""
    summary: str
    group: str = ""
    required: list[str] = []
    parameters: dict[str, Any] = {}
    stamp: str | None = None
    """None for a kind."""
    needs: list[str] = []
    undefined_when: str = ""
    calibrations: list[JudgeCalibration] = []
    """The latest of each name of labels, without their pairs."""
