"""Two evaluations of the same cases side by side: what can be said, figure by figure, and case by case."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.case_words import (
    PREVIEW_DIFF_CHARS,
    ScoreWord,
    answer_of,
    asked_of,
    diff_texts,
    preview,
    problem_of,
    tell_score,
    text_of,
)
from penstock.console.estimate_lines import ComparisonLine, build_comparison_lines
from penstock.console.kept_figures import KeptFigures
from penstock.console.links import link
from penstock.console.pages.evaluation import find_peers
from penstock.console.pages.evaluations import ACTIVE
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.score_words import format_score, is_in_points
from penstock.console.services import ConsoleServices
from penstock.evals.types import (
    CaseView,
    ChangeKind,
    ComparedCase,
    ComparedPage,
    ComparedQuery,
    ComparisonReport,
    EvaluationRecord,
    ScoreColumn,
)
from penstock.spec.cases import Output
from penstock.spec.evaluations import Comparison
from penstock.traces.alignment import Change

PATH = f"{ACTIVE}/compare"
PAGE_SIZE = 20
N_KEPT = 32
CHANGES: tuple[tuple[ChangeKind, str], ...] = (
    ("regressed", "regressed"),
    ("improved", "improved"),
    ("changed", "other words"),
    ("errored", "failed"),
    ("undefined", "undefined"),
    ("only_one", "on one side only"),
    ("same", "the same"),
)
_KEPT = ("score", "change", "slice", "text")


@dataclass(frozen=True, kw_only=True)
class SideWords:
    """What one side answered to a case."""

    output: Output | None
    problem: str
    score: ScoreWord | None
    href: str
    """The case within its evaluation."""


@dataclass(frozen=True, kw_only=True)
class ComparedLine:
    """One case with both sides."""

    case_id: str
    asked: str
    expected: str
    texts: tuple[str, str]
    """Both answers, for where there is nothing to compare."""
    change: str
    kind: ChangeKind
    gap: str
    """Difference of the score, in words; empty where there is none."""
    baseline: SideWords
    candidate: SideWords
    words: tuple[Change, ...]
    """The baseline's answer against the candidate's."""
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class ComparePage(Page):
    """The comparison."""

    template: ClassVar[str] = "evaluation_compare.html"
    baseline: EvaluationRecord
    candidate: EvaluationRecord
    names: tuple[str, str]
    lines: tuple[ComparisonLine, ...]
    slices: tuple[ComparisonLine, ...]
    problems: tuple[str, ...]
    score: str | None
    tabs: tuple[tuple[str, str], ...]
    changes: tuple[tuple[str, str, int, bool], ...]
    """What to call it, link, how many cases, whether it is chosen."""
    chosen: Mapping[str, str]
    slice_names: tuple[str, ...]
    cases: tuple[ComparedLine, ...]
    n_matching: int
    first_href: str | None
    next_href: str | None
    all_href: str
    peers: tuple[tuple[str, str], ...]
    swap_href: str


@dataclass(frozen=True, kw_only=True)
class CompareStartPage(Page):
    """Where the one or other evaluation was not named."""

    template: ClassVar[str] = "evaluation_compare_start.html"
    baseline: EvaluationRecord | None
    choices: tuple[tuple[str, str], ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/evaluations/compare`."""
    router = APIRouter(include_in_schema=False)
    kept: KeptFigures[ComparisonReport] = KeptFigures(N_KEPT)

    def find_report(a: str, b: str) -> ComparisonReport:
        evaluations = services.evaluations
        one, two = evaluations.get(a), evaluations.get(b)
        return kept.get((one, two), lambda: evaluations.compare(one.id, two.id))

    @router.get(PATH)
    @needs(Permission.EVALS_READ)
    def compare(request: Request, a: str = "", b: str = "") -> Response:
        frame = renderer.frame(request, "Comparison", ACTIVE)
        if not a or not b:
            return renderer.show(build_start(frame, services, a or b))
        return renderer.show(build_page(frame, services, find_report(a, b), request.query_params))

    return router


def build_start(frame: Frame, services: ConsoleServices, named: str) -> CompareStartPage:
    """Return the page that asks for what is missing."""
    record = services.evaluations.get(named) if named else None
    if record is not None:
        choices = find_peers(services, record)
    else:
        rows = services.evaluations.list().rows
        choices = tuple(
            (each.id, f"{each.name} · {each.target or '–'} · {each.dataset or 'sent cases'}") for each in rows
        )
    return CompareStartPage(frame=frame, baseline=record, choices=choices)


def build_page(
    frame: Frame, services: ConsoleServices, report: ComparisonReport, params: Mapping[str, str]
) -> ComparePage:
    """Return the page of a comparison."""
    base = {"a": report.baseline.id, "b": report.candidate.id}
    base |= {name: params[name].strip() for name in _KEPT if params.get(name, "").strip()}
    changes = [kind for kind in get_args(ChangeKind) if kind == base.get("change")]
    query = ComparedQuery(
        score=base.get("score"),
        change=changes[0] if changes else None,
        slice=base.get("slice"),
        text=base.get("text"),
        cursor=params.get("cursor") or None,
        limit=PAGE_SIZE,
    )
    found = services.evaluations.compared_cases(report.baseline.id, report.candidate.id, query)
    names = name_sides(report)
    plain = {"a": base["a"], "b": base["b"]}
    return ComparePage(
        frame=frame,
        baseline=report.baseline,
        candidate=report.candidate,
        names=names,
        lines=build_comparison_lines(
            report.comparisons,
            *names,
            link_of=lambda item: link(PATH, plain, score=item.name) + "#cases",
        ),
        slices=_slices(report, found.score, names, plain),
        problems=tuple(report.problems),
        score=found.score,
        tabs=tuple(
            (each.name, link(PATH, base, score=each.name, cursor=None)) for each in report.comparisons
        ),
        changes=_tabs(found, base),
        chosen={name: base.get(name, "") for name in _KEPT},
        slice_names=tuple(dict.fromkeys(each.slice for each in report.slices if each.slice)),
        cases=build_cases(found, report),
        n_matching=found.n_matching,
        first_href=link(PATH, base) if params.get("cursor") else None,
        next_href=link(PATH, base, cursor=found.next_cursor) if found.next_cursor else None,
        all_href=link(PATH, {**plain, "score": base.get("score")}),
        peers=find_peers(services, report.baseline),
        swap_href=link(PATH, {"a": plain["b"], "b": plain["a"]}),
    )


def name_sides(report: ComparisonReport) -> tuple[str, str]:
    """Return what both sides are called: by target where these differ, else by evaluation."""
    one, two = report.baseline, report.candidate
    if one.target and two.target and one.target != two.target:
        return one.target, two.target
    if one.name != two.name:
        return one.name, two.name
    return f"{one.name} (baseline)", f"{two.name} (candidate)"


def _slices(
    report: ComparisonReport, score: str | None, names: tuple[str, str], plain: Mapping[str, str]
) -> tuple[ComparisonLine, ...]:
    def lead(item: Comparison) -> str:
        return link(PATH, plain, score=item.name, slice=item.slice) + "#cases"

    chosen = [each for each in report.slices if each.name == score]
    return build_comparison_lines(chosen, *names, link_of=lead, name_of=lambda item: item.slice or item.name)


def _tabs(found: ComparedPage, base: Mapping[str, str]) -> tuple[tuple[str, str, int, bool], ...]:
    chosen = base.get("change")
    tabs = [
        (label, link(PATH, base, change=kind), found.counts.get(kind, 0), kind == chosen)
        for kind, label in CHANGES
        if found.counts.get(kind) or kind == chosen or kind in {"regressed", "improved"}
    ]
    return (("all", link(PATH, base, change=None), -1, chosen is None), *tabs)


def build_cases(found: ComparedPage, report: ComparisonReport) -> tuple[ComparedLine, ...]:
    """Return the cases of one page in words."""
    columns = {each.name: each for each in (*report.baseline.columns, *report.candidate.columns)}
    column = columns.get(found.score or "")
    item = next((each for each in report.comparisons if each.name == found.score), None)
    return tuple(_line(each, report, column, item) for each in found.rows)


def _line(
    row: ComparedCase, report: ComparisonReport, column: ScoreColumn | None, item: Comparison | None
) -> ComparedLine:
    one, two = _first(row.baseline), _first(row.candidate)
    texts = answer_of(one), answer_of(two)
    return ComparedLine(
        case_id=row.case.id,
        asked=preview(asked_of(row.case)) or row.case.id,
        expected=preview(text_of(row.case.expected)),
        texts=(texts[0][:PREVIEW_DIFF_CHARS], texts[1][:PREVIEW_DIFF_CHARS]),
        change=dict(CHANGES)[row.change],
        kind=row.change,
        gap=_gap(row.difference, column, item),
        baseline=_side(row, row.baseline, report.baseline, column),
        candidate=_side(row, row.candidate, report.candidate, column),
        words=diff_texts(*texts, n_chars=PREVIEW_DIFF_CHARS) if all(texts) else (),
        is_cut=max(map(len, texts)) > PREVIEW_DIFF_CHARS,
    )


def _first(view: CaseView | None) -> Output | None:
    return view.outputs[0] if view is not None and view.outputs else None


def _side(
    row: ComparedCase, view: CaseView | None, record: EvaluationRecord, column: ScoreColumn | None
) -> SideWords:
    output = _first(view)
    word = None
    if view is not None and column is not None:
        score = next((each for each in view.scores if each.name == column.name), None)
        word = None if score is None else tell_score(score, column)
    return SideWords(
        output=output,
        problem="The case was not asked here." if view is None else problem_of(output),
        score=word,
        href=link(f"{ACTIVE}/{record.id}", {"case": row.case.id}) + "#case",
    )


def _gap(difference: float | None, column: ScoreColumn | None, item: Comparison | None) -> str:
    if difference is None or not difference:
        return ""
    sign = "+" if difference > 0 else ""
    if item is not None and is_in_points(item):
        return f"{sign}{100 * difference:.0f} points".replace("-", "−")
    return sign + format_score(
        difference, scale=column.scale if column else "bounded", unit=column.unit if column else None
    )
