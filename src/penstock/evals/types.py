"""The nouns of evaluations as REST, command line and console show them: records, pages, plans, tables. No behaviour."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import (
    Comparison,
    Direction,
    Estimate,
    EvaluationSpec,
    EvaluationState,
    Scale,
)
from penstock.spec.scores import Score, ScoreSource


class ScoreColumn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One score of an evaluation: what its figures are read by."""

    name: str
    stamp: str
    """Of the scorer, `NAME@VERSION#DIGEST`."""
    direction: Direction = "higher"
    scale: Scale = "bounded"
    low: float | None = 0.0
    high: float | None = 1.0
    unit: str | None = None
    counted_by: Literal["group", "case"] = "group"
    """`case`: it describes the service, so that every case stands alone whatever its group."""
    source: ScoreSource = "code"
    summary: str = ""
    undefined_when: str = ""
    scorer: str = ""
    """With `parameters` makes the scorer again, as the specification says; empty for user code."""
    parameters: dict[str, Any] = {}
    has_figure: bool = False
    """The figure over many outputs is not the mean of their values."""
    added_ns: int | None = None
    """When it was scored later than the evaluation was made."""


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outputs or scores that failed alike."""

    code: str
    where: str
    """`target`, or the name of the score."""
    n: int
    example: str
    """The message of one of them."""
    case_id: str
    is_transient: bool = False


class EvaluationRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One evaluation as it stands. Times are nanoseconds since the epoch; unknown is None."""

    id: str
    """`eval_…`; written `eval:ID` where a target or baseline is named."""
    name: str
    state: EvaluationState
    spec: EvaluationSpec
    """As it is run: aliases pinned."""
    asked: EvaluationSpec | None = None
    """As it was written, when that differs."""
    target: str = ""
    """How the target is called in tables."""
    target_stamp: str = ""
    versions: dict[str, str] = {}
    """Asset to stamp: dataset, prompt, app, model … of what was asked, completed from the traces."""
    dataset: str | None = None
    """Pinned, `dataset:NAME@3`; None for a file or for cases that were sent."""
    dataset_stamp: str = ""
    """Version and digest of the dataset, or digest of the file."""
    cases_digest: str = ""
    """Over the cases that were drawn, twelve characters: evaluations with equal ones were asked the same."""
    columns: list[ScoreColumn] = []
    actor: str = ""
    is_local: bool = False
    """It runs, or ran, in the process of the person who asked."""
    source: str | None = None
    """The evaluation whose outputs are scored again here."""
    experiment_id: str | None = None
    cell: str | None = None
    """Which cell of the experiment's grid."""
    tags: list[str] = []
    job_id: str | None = None
    run: int = 0
    """How often it was queued again; a job of an earlier run does nothing more."""
    replaces: list[str] = []
    """Names of scores that the next run makes anew: it forgets those that are there when it begins."""
    created_ns: int = 0
    started_ns: int | None = None
    finished_ns: int | None = None
    set_id: str | None = None
    """Where its cases lie; several evaluations may share them."""
    n_cases: int | None = None
    """None until the cases were read."""
    n_groups: int | None = None
    n_outputs: int = 0
    """Outputs that are final, of `n_cases × repeats`."""
    n_ok: int = 0
    n_refused: int = 0
    n_errors: int = 0
    n_skipped: int = 0
    n_cached: int = 0
    cost_usd: Decimal | None = None
    """Known costs of targets and judges together; None when none is known."""
    judge_cost_usd: Decimal | None = None
    n_cost_unknown: int = 0
    """Calls whose cost is unknown: the sum is of the others."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    p50_latency_ms: float | None = None
    eta_s: float | None = None
    """While it runs."""
    reason: str | None = None
    """Why it stopped or failed."""
    error: dict[str, Any] | None = None

    @property
    def n_asked(self) -> int | None:
        """How many outputs there are to be; None until the cases were read."""
        return None if self.n_cases is None else self.n_cases * self.spec.repeats

    @property
    def progress(self) -> float | None:
        """0 to 1 of the outputs; None until the cases were read."""
        n_asked = self.n_asked
        return None if not n_asked else min(1.0, self.n_outputs / n_asked)


class EvaluationQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which evaluations: those that match every filter that is set, newest first."""

    name: str | None = None
    target: str | None = None
    """As in the record: how the target is called."""
    dataset: str | None = None
    """`dataset:NAME`, or with `@3`."""
    experiment_id: str | None = None
    tag: str | None = None
    states: list[EvaluationState] = []
    cursor: str | None = None
    limit: int = 50


class EvaluationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of evaluations."""

    rows: list[EvaluationRecord]
    next_cursor: str | None = None


CaseSort = Literal["position", "score", "-score", "latency", "-latency", "cost", "-cost"]


class CaseQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cases of an evaluation, in which order."""

    text: str | None = None
    """Stands in inputs, expected or output."""
    score: str | None = None
    """The score that `low`, `high`, `status` and sorting are about."""
    low: float | None = None
    high: float | None = None
    status: str | None = None
    """Of the score: scored, undefined, error, skipped."""
    output_status: str | None = None
    """ok, refused, error, skipped."""
    slice: str | None = None
    """`KEY=VALUE`."""
    sort: CaseSort = "position"
    cursor: str | None = None
    limit: int = 50


class CaseView(msgspec.Struct, frozen=True, kw_only=True):
    """One case with what was answered and how that was judged."""

    position: int
    """0, 1, 2 … within the evaluation."""
    case: Case
    outputs: list[Output]
    """One a repeat, in order."""
    scores: list[Score]
    """Of the first repeat, or over all of them, in the order of the columns."""
    repeat_scores: dict[int, list[Score]] = {}
    """By repeat, when there are several."""
    means: dict[str, float] = {}
    """Score name to mean over the repeats that have one."""


class AnsweredCase(msgspec.Struct, frozen=True, kw_only=True):
    """That a case was answered, and what models thought of it, without any text."""

    case_id: str
    repeat: int
    split: str | None
    judged: list[Score]
    """Of model judges: name, value, status and scorer alone."""


class CasePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of cases."""

    rows: list[CaseView]
    n_matching: int
    next_cursor: str | None = None


class EstimateReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of an evaluation."""

    evaluation: str
    estimates: list[Estimate]
    """One a score, over all cases; operational ones (`cost_usd`, `latency_ms`) last."""
    slices: list[Estimate] = []
    corrected: list[Estimate] = []
    """Of calibrated judges: what the raw figure becomes when the judge's known errors are taken into account."""
    errors: list[ErrorGroup] = []
    notes: list[str] = []
    """Sentences a reader should see, such as that the costs of 3 calls are unknown."""


ChangeKind = Literal["improved", "regressed", "same", "changed", "errored", "undefined", "only_one"]
"""`improved` and `regressed` by the score that is looked at; `changed`: another text, whatever the score."""


class ComparedQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which cases of a comparison."""

    score: str | None = None
    """Changes are judged by it; the first one when None."""
    change: ChangeKind | None = None
    slice: str | None = None
    text: str | None = None
    cursor: str | None = None
    limit: int = 50


class ComparedCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case with both sides."""

    case: Case
    baseline: CaseView | None
    candidate: CaseView | None
    change: ChangeKind
    is_text_changed: bool
    difference: float | None
    """Of the score, candidate − baseline; None unless both have one."""


class ComparedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of compared cases."""

    rows: list[ComparedCase]
    score: str | None
    n_matching: int
    counts: dict[str, int]
    """Of all cases, by change."""
    next_cursor: str | None = None


class ComparisonReport(msgspec.Struct, frozen=True, kw_only=True):
    """Two evaluations side by side, score by score, over the cases that both have."""

    baseline: EvaluationRecord
    candidate: EvaluationRecord
    comparisons: list[Comparison]
    slices: list[Comparison] = []
    problems: list[str] = []
    """Why figures may not be compared: other cases, other scorer versions. Such a score is `invalid`."""
    sentences: list[str] = []
    """One a score."""


class EvaluationPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an evaluation would do and cost, before anything is spent."""

    spec: EvaluationSpec
    """Aliases pinned."""
    n_cases: int
    n_groups: int | None = None
    n_calls: int
    """Of the target; those that are kept already are not counted."""
    n_kept: int = 0
    """Outputs that would be taken from earlier evaluations."""
    n_judge_calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    """None when no price is known."""
    cost_note: str = ""
    """What the estimate rests on."""
    detectable: list[dict[str, Any]] = []
    """{discordance, difference}: the smallest difference a comparison of this size would show (80 % power, 95 %)."""
    problems: list[str] = []
    """What would keep it from running, or make its figures weak."""


class ExperimentSpec(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A grid: every combination of prompts, models and parameters over the same cases."""

    name: str
    evaluation: EvaluationSpec
    """What all cells share; its target is what a cell starts from."""
    prompts: list[str] = []
    """`prompt:NAME@3` …; with `models`, each prompt is sent to each model."""
    models: list[str] = []
    parameters: dict[str, list[Any]] = {}
    """`{"temperature": [0, 0.7]}`: every combination."""
    score: str | None = None
    """What cells are compared by; the first scorer's when None."""
    tags: list[str] = []


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One combination and the evaluation that ran it."""

    key: str
    """`prompt:triage@2 · small · temperature=0`."""
    settings: dict[str, Any]
    evaluation_id: str | None = None


class ExperimentRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One experiment as it stands."""

    id: str
    """`exp_…`"""
    name: str
    spec: ExperimentSpec
    cells: list[Cell]
    state: EvaluationState
    actor: str = ""
    job_id: str | None = None
    run: int = 0
    """How often it was queued again; a job of an earlier run does nothing more."""
    created_ns: int = 0
    finished_ns: int | None = None
    n_done: int = 0
    """Cells that are done or stopped."""
    cost_usd: Decimal | None = None
    n_cost_unknown: int = 0
    reason: str | None = None
    tags: list[str] = []


class ExperimentPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of experiments."""

    rows: list[ExperimentRecord]
    next_cursor: str | None = None


class LeaderboardRow(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation in a leaderboard."""

    rank: int | None
    """By the score's estimate; None without one."""
    key: str
    evaluation_id: str
    quality: Estimate | None
    """With an interval that holds for all rows at once."""
    cost_per_case_usd: Decimal | None
    n_cost_unknown: int
    p50_latency_ms: float | None
    is_front: bool
    """Nobody is better in one of quality, cost and latency without being worse in another (only what is known counts)."""
    beats: list[str] = []
    """Keys of rows that it beats after correction for all pairs with the best."""
    settings: dict[str, Any] = {}


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluations by quality, cost and latency."""

    score: str
    rows: list[LeaderboardRow]
    best: str | None
    """Key of the row whose lead is certain; None when undecided."""
    sentence: str
    """What can be said of the best, in words."""
    comparisons: list[Comparison] = []
    """Of the first with each other one, corrected together."""
    problems: list[str] = []
