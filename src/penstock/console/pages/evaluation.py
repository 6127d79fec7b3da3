"""One evaluation: its figures, parts and errors, its cases, and the one that is looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.console.case_words import (
    OutputWords,
    ScoreWord,
    answer_of,
    asked_of,
    preview,
    problem_of,
    tell_outputs,
    tell_score,
    text_of,
)
from penstock.console.estimate_lines import (
    EstimateLine,
    build_estimate_line,
    build_estimate_lines,
    lay_beside,
    tell_ends,
)
from penstock.console.formats import format_ago, format_money, format_ms
from penstock.console.histograms import Histogram, draw_histogram
from penstock.console.interval_marks import scale_of_estimates
from penstock.console.links import link
from penstock.console.pages.evaluations import ACTIVE, tell_cost
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.evals.figures import OPERATIONAL
from penstock.evals.types import (
    CaseQuery,
    CaseSort,
    CaseView,
    ErrorGroup,
    EstimateReport,
    EvaluationQuery,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.spec.cases import OutputStatus
from penstock.spec.scores import ScoreStatus

PAGE_SIZE = 50
MAX_PEERS = 50
MAX_COLUMNS = 4
"""Scores beside each case in the list; the case itself shows all."""
SORTS: tuple[tuple[CaseSort, str], ...] = (
    ("position", "as in the dataset"),
    ("score", "lowest score first"),
    ("-score", "highest score first"),
    ("-latency", "slowest first"),
    ("-cost", "dearest first"),
)
FINAL = frozenset({"done", "stopped", "failed"})
_KEPT = ("score", "text", "status", "output", "slice", "low", "high", "sort")


@dataclass(frozen=True, kw_only=True)
class CaseLine:
    """One case in the list."""

    view: CaseView
    href: str
    panel_href: str
    asked: str
    expected: str
    answer: str
    problem: str
    scores: tuple[ScoreWord | None, ...]
    latency: str
    cost: str
    is_shown: bool


@dataclass(frozen=True, kw_only=True)
class CasePanel:
    """The case that is looked at."""

    view: CaseView
    asked: str
    variables: tuple[tuple[str, str], ...]
    expected: str
    outputs: tuple[OutputWords, ...]
    metadata: tuple[tuple[str, str], ...]
    close_href: str
    label_href: str


@dataclass(frozen=True, kw_only=True)
class CasePage(Page):
    """That case alone, for the script of the list."""

    template: ClassVar[str] = "evaluation_case.html"
    panel: CasePanel


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an evaluation is."""

    record: EvaluationRecord
    is_final: bool
    done_pct: float | None
    rest: str
    """How long it will take, in words; empty when nobody knows."""
    cost: str
    cost_note: str


@dataclass(frozen=True, kw_only=True)
class ProgressPage(Page):
    """The part of the page that asks for itself again while the evaluation runs."""

    template: ClassVar[str] = "evaluation_progress.html"
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class HistogramPage(Page):
    """How one score is spread over the cases."""

    template: ClassVar[str] = "evaluation_histogram.html"
    histogram: Histogram | None


@dataclass(frozen=True, kw_only=True)
class EvaluationPage(ProgressPage):
    """One evaluation."""

    template: ClassVar[str] = "evaluation.html"
    record: EvaluationRecord
    estimates: tuple[EstimateLine, ...]
    has_corrections: bool
    tabs: tuple[tuple[str, str], ...]
    """Name and link of each score."""
    score: ScoreColumn | None
    """The one that slices, bars and order of the cases are about."""
    slices: tuple[EstimateLine, ...]
    slice_ends: str
    """What their axis goes from and to."""
    errors: tuple[tuple[ErrorGroup, str], ...]
    """Each with the link to its example."""
    notes: tuple[str, ...]
    histogram_href: str | None
    cases: tuple[CaseLine, ...]
    heads: tuple[ScoreColumn, ...]
    n_matching: int
    chosen: Mapping[str, str]
    """What the list is narrowed to."""
    is_narrowed: bool
    slice_names: tuple[str, ...]
    first_href: str | None
    next_href: str | None
    all_href: str
    panel: CasePanel | None
    peers: tuple[tuple[str, str], ...]
    """Evaluations of the same cases: id and what to call it."""
    versions: tuple[tuple[str, str], ...]
    sorts: tuple[tuple[CaseSort, str], ...] = SORTS
    statuses: tuple[str, ...] = get_args(ScoreStatus)
    output_statuses: tuple[str, ...] = get_args(OutputStatus)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the URL asks for."""

    base: dict[str, str]
    score: ScoreColumn | None
    query: CaseQuery
    case_id: str


def read_asked(params: Mapping[str, str], columns: Sequence[ScoreColumn]) -> _Asked:
    """Return what the parameters ask for; raise `InvalidInput` for a bound that is no number."""
    base = {name: params[name].strip() for name in _KEPT if params.get(name, "").strip()}
    wanted = base.get("score", "")
    named = next((each for each in columns if each.name == wanted), None) or OPERATIONAL.get(wanted)
    score = named or (columns[0] if columns else None)
    sorts = [name for name, _ in SORTS if name == base.get("sort")]
    return _Asked(
        base=base,
        score=score,
        case_id=params.get("case", ""),
        query=CaseQuery(
            text=base.get("text"),
            score=score.name if score else None,
            low=_read_number(base.get("low"), "low"),
            high=_read_number(base.get("high"), "high"),
            status=base.get("status"),
            output_status=base.get("output"),
            slice=base.get("slice"),
            sort=sorts[0] if sorts else "position",
            cursor=params.get("cursor") or None,
            limit=PAGE_SIZE,
        ),
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/evaluations/ID` and its fragments."""
    router = APIRouter(include_in_schema=False)
    evaluations = services.evaluations

    @router.get(f"{ACTIVE}/{{evaluation_id}}")
    @needs(Permission.EVALS_READ)
    def show_evaluation(request: Request, evaluation_id: str) -> Response:
        record = evaluations.get(evaluation_id)
        frame = renderer.frame(request, record.name, ACTIVE, notice=request.query_params.get("notice"))
        return renderer.show(build_page(frame, services, record, request.query_params))

    @router.get(f"{ACTIVE}/{{evaluation_id}}/progress")
    @needs(Permission.EVALS_READ)
    def show_progress(request: Request, evaluation_id: str) -> Response:
        record = evaluations.get(evaluation_id)
        page = ProgressPage(
            frame=renderer.frame(request, record.name, ACTIVE), progress=tell_progress(record)
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{evaluation_id}}/case")
    @needs(Permission.EVALS_READ)
    def show_case(request: Request, evaluation_id: str) -> Response:
        record = evaluations.get(evaluation_id)
        asked = read_asked(request.query_params, record.columns)
        panel = build_panel(record, evaluations.case(record.id, asked.case_id), asked.base)
        return renderer.show(CasePage(frame=renderer.frame(request, "", ACTIVE), panel=panel))

    @router.get(f"{ACTIVE}/{{evaluation_id}}/histogram")
    @needs(Permission.EVALS_READ)
    def show_histogram(request: Request, evaluation_id: str, score: str) -> Response:
        cases, column = evaluations.scored_cases(evaluation_id, score)
        path, base = f"{ACTIVE}/{evaluation_id}", {"score": score}
        drawn = draw_histogram(
            [sum(each.values) / len(each.values) for each in cases if each.values],
            column,
            is_repeated=any(len(each.values) > 1 for each in cases),
            link_of=lambda low, high: link(path, base, low=f"{low:.9g}", high=f"{high:.9g}") + "#cases",
        )
        return renderer.show(HistogramPage(frame=renderer.frame(request, "", ACTIVE), histogram=drawn))

    return router


def tell_progress(record: EvaluationRecord) -> Progress:
    """Return how far an evaluation is."""
    cost, note = tell_cost(record)
    return Progress(
        record=record,
        is_final=record.state in FINAL,
        done_pct=None if record.progress is None else round(100 * record.progress, 1),
        rest="" if record.eta_s is None else format_ms(1000 * record.eta_s),
        cost=cost,
        cost_note=note,
    )


def build_page(
    frame: Frame, services: ConsoleServices, record: EvaluationRecord, params: Mapping[str, str]
) -> EvaluationPage:
    """Return the page of one evaluation."""
    asked = read_asked(params, record.columns)
    path, base, score = f"{ACTIVE}/{record.id}", asked.base, asked.score
    report = services.evaluations.estimates(record.id)
    found = services.evaluations.cases(record.id, asked.query)
    heads = _heads(record.columns, score)
    shown = services.evaluations.case(record.id, asked.case_id) if asked.case_id else None
    slices, slice_ends = _slices(report, score, path)
    narrowed = {name: value for name, value in base.items() if name not in {"score", "sort"}}
    return EvaluationPage(
        frame=frame,
        record=record,
        progress=tell_progress(record),
        estimates=_figures(report, path),
        has_corrections=bool(report.corrected),
        tabs=tuple((each.name, link(path, {}, score=each.name)) for each in record.columns),
        score=score,
        slices=slices,
        slice_ends=slice_ends,
        errors=tuple((each, link(path, {}, case=each.case_id) + "#case") for each in report.errors),
        notes=tuple(report.notes),
        histogram_href=link(f"{path}/histogram", {"score": score.name})
        if score and record.n_outputs
        else None,
        cases=tuple(_line(each, record, heads, base, asked.case_id) for each in found.rows),
        heads=heads,
        n_matching=found.n_matching,
        chosen={name: base.get(name, "") for name in _KEPT},
        is_narrowed=bool(narrowed),
        slice_names=tuple(dict.fromkeys(each.slice for each in report.slices if each.slice)),
        first_href=link(path, base) if params.get("cursor") else None,
        next_href=link(path, base, cursor=found.next_cursor) if found.next_cursor else None,
        all_href=link(path, {"score": base.get("score")}),
        panel=None if shown is None else build_panel(record, shown, base),
        peers=find_peers(services, record),
        versions=tuple(
            (asset, stamp)
            for asset, stamp in sorted(record.versions.items())
            if asset not in {_asset_of(record.target), _asset_of(record.dataset or "")}
        ),
    )


def _figures(report: EstimateReport, path: str) -> tuple[EstimateLine, ...]:
    return tuple(
        build_estimate_line(
            each,
            scale_of_estimates([each]),
            name=each.name,
            href=None if is_corrected else link(path, {"score": each.name}),
            is_corrected=is_corrected,
        )
        for each, is_corrected in lay_beside(report.estimates, report.corrected)
    )


def _slices(
    report: EstimateReport, score: ScoreColumn | None, path: str
) -> tuple[tuple[EstimateLine, ...], str]:
    if score is None:
        return (), ""
    parts = [each for each in report.slices if each.name == score.name]
    whole = next((each for each in report.estimates if each.name == score.name), None)
    lines = build_estimate_lines(
        parts,
        link_of=lambda item: link(path, {"score": item.name, "slice": item.slice}) + "#cases",
        whole=whole,
    )
    return lines, tell_ends([*parts, *([whole] if whole else [])]) if parts else ""


def _heads(columns: Sequence[ScoreColumn], score: ScoreColumn | None) -> tuple[ScoreColumn, ...]:
    own = [each for each in columns if score is not None and each.name == score.name]
    return tuple([*own, *(each for each in columns if each not in own)][:MAX_COLUMNS])


def _line(
    view: CaseView,
    record: EvaluationRecord,
    heads: Sequence[ScoreColumn],
    base: Mapping[str, str],
    shown: str,
) -> CaseLine:
    first = view.outputs[0] if view.outputs else None
    path = f"{ACTIVE}/{record.id}"
    by_name = {each.name: each for each in view.scores}
    return CaseLine(
        view=view,
        href=link(path, base, case=view.case.id) + "#case",
        panel_href=link(f"{path}/case", base, case=view.case.id),
        asked=preview(asked_of(view.case)) or view.case.id,
        expected=preview(text_of(view.case.expected)),
        answer=preview(answer_of(first)),
        problem=preview(problem_of(first)),
        scores=tuple(
            tell_score(by_name[column.name], column) if column.name in by_name else None for column in heads
        ),
        latency=format_ms(first.latency_ms if first else None),
        cost=format_money(first.cost_usd if first else None),
        is_shown=view.case.id == shown,
    )


def build_panel(record: EvaluationRecord, view: CaseView, base: Mapping[str, str]) -> CasePanel:
    """Return everything about one case."""
    case = view.case
    asked = asked_of(case)
    metadata = {
        "split": case.split,
        "group": case.group,
        "tags": ", ".join(case.tags) or None,
        **case.metadata,
    }
    return CasePanel(
        view=view,
        asked=asked,
        variables=tuple(
            (name, text_of(value)) for name, value in case.inputs.items() if text_of(value) != asked
        ),
        expected=text_of(case.expected),
        outputs=tell_outputs(view, {column.name: column for column in record.columns}),
        metadata=tuple((name, text_of(value)) for name, value in metadata.items() if value is not None),
        close_href=link(f"{ACTIVE}/{record.id}", base) + "#cases",
        label_href=link("/judges/label", {"evaluation": record.id, "case": case.id}),
    )


def find_peers(services: ConsoleServices, record: EvaluationRecord) -> tuple[tuple[str, str], ...]:
    """Return evaluations of the same cases, the newest first: id, and what to call it."""
    query = EvaluationQuery(
        limit=MAX_PEERS, dataset=record.dataset, name=None if record.dataset else record.name
    )
    found = services.evaluations.list(query)
    newest = max((each.created_ns for each in found.rows), default=record.created_ns)
    return tuple(
        (
            each.id,
            f"{each.target or each.name} · {each.name} · {format_ago(each.created_ns, newest)}".removesuffix(
                " · 0 s ago"
            ),
        )
        for each in found.rows
        if each.id != record.id and each.cases_digest == record.cases_digest
    )


def _asset_of(ref: str) -> str:
    return ref.partition("@")[0]


def _read_number(text: str | None, field: str) -> float | None:
    if text is None:
        return None
    try:
        found = float(text.replace(",", "."))
    except ValueError:
        found = float("nan")
    if not isfinite(found):
        raise InvalidInput(f"{field} must be a number, not {text[:40]!r}.")
    return found
