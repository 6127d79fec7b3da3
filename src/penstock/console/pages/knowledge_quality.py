"""The quality of one base: measurements over time, comparisons with their verdicts, sets of questions, what people said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.estimate_lines import EstimateLine, build_estimate_line
from penstock.console.interval_charts import IntervalChart, Measured, draw_intervals
from penstock.console.knowledge_words import BaseHead, make_head
from penstock.console.links import link
from penstock.console.pages.knowledge import ACTIVE, find_base
from penstock.console.pages.knowledge_base import find_comparisons, may, say_failure, say_notice
from penstock.console.pages.knowledge_search import quality_of
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.generations.types import LIVE, TrackRow
from penstock.knowledge.quality.measuring import check_request
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.quality.types import (
    CompareRequest,
    GenerationComparison,
    MeasurementRow,
    MeasureRequest,
    Mode,
    QuestionSet,
)
from penstock.spec.evaluations import Estimate

MEASURE_JOB, COMPARE_JOB = "knowledge.measure", "knowledge.compare"
ROWS = 50
MODES: tuple[tuple[Mode, str], ...] = (
    ("dense", "by meaning alone"),
    ("lexical", "by words alone"),
    ("hybrid", "both"),
    ("reranked", "with a second look"),
)
SHOWN = ("recall@5", "ndcg@10", "mrr@10", "hit@1")
"""Figures beside each measurement, where it has them."""
REPORTS = (
    ("quality", "Measured", ""),
    ("unanswered", "Unanswered", "/unanswered"),
    ("stale", "Stale", "/stale"),
    ("unused", "Never found", "/unused"),
)


@dataclass(frozen=True, kw_only=True)
class MeasurementLine:
    """One measurement of the list."""

    row: MeasurementRow
    href: str
    of: str
    """Which version, track or generation."""
    figures: tuple[EstimateLine | None, ...]


@dataclass(frozen=True, kw_only=True)
class QualityPage(Page):
    """How well a base finds what it should."""

    template: ClassVar[str] = "knowledge_quality.html"
    head: BaseHead
    reports: tuple[tuple[str, str, str], ...]
    sets: tuple[QuestionSet, ...]
    tracks: tuple[TrackRow, ...]
    candidate: str
    questions: str
    """The set that was measured last, else the first one."""
    modes: tuple[tuple[Mode, str], ...] = MODES
    chart: IntervalChart | None
    figure: str
    figures: tuple[tuple[str, str], ...]
    """Name and link of each figure that can be charted."""
    columns: tuple[str, ...]
    lines: tuple[MeasurementLine, ...]
    next_href: str | None
    first_href: str | None
    comparisons: tuple[GenerationComparison, ...]
    feedback: tuple[tuple[str, int], ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge/NAME/quality` and what it begins."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{ACTIVE}/{{name}}/quality")
    @needs(Permission.KNOWLEDGE_READ)
    def show_quality(
        request: Request,
        name: str,
        *,
        figure: str = "",
        candidate: str = "",
        cursor: str | None = None,
        notice: str | None = None,
    ) -> Response:
        base, _ = find_base(services, name)
        quality = quality_of(services)
        tracks = tuple(services.knowledge.list_tracks(name)) if base else ()
        found = quality.measuring.list_measurements(name, cursor=cursor, limit=ROWS)
        sets = _find_sets(quality, request)
        here = f"{ACTIVE}/{name}/quality"
        names = _figure_names(found.rows)
        chosen = figure if figure in names else next((each for each in SHOWN if each in names), "")
        columns = tuple(each for each in SHOWN if each in names)
        page = QualityPage(
            frame=renderer.frame(request, f"Quality of {name}", ACTIVE, notice=notice),
            head=make_head(name, base.version if base else None, "quality"),
            reports=report_tabs(name),
            sets=sets,
            tracks=tracks,
            candidate=candidate
            or next((each.name for each in tracks if each.name not in {LIVE, "previous"}), ""),
            questions=_last_questions(name, found.rows, sets),
            chart=_chart(name, found.rows, chosen, tracks),
            figure=chosen,
            figures=tuple((each, link(here, {"figure": each})) for each in names),
            columns=columns,
            lines=tuple(_line(name, each, columns, tracks) for each in found.rows),
            next_href=link(here, {"cursor": found.next_cursor}) if found.next_cursor else None,
            first_href=here if cursor else None,
            comparisons=find_comparisons(services, request, name)[:ROWS],
            feedback=_count_feedback(quality, request, name),
        )
        return renderer.show(page)

    _add_work(router, services)
    return router


def _add_work(router: APIRouter, services: ConsoleServices) -> None:
    @router.post(f"{ACTIVE}/{{name}}/quality/measure")
    @needs(Permission.KNOWLEDGE_WRITE, Permission.DATASETS_READ)
    def measure(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        form = caller.form
        modes: list[Mode] = ["as_is", *(mode for mode, _ in MODES if form.get(f"mode-{mode}"))]
        limit = form.get("limit", "").strip()
        asked = MeasureRequest(
            questions=form.get("questions", "").strip(),
            track=form.get("track", "").strip() or None,
            modes=tuple(modes),
            where=form.get("where", "").strip() or None,
            limit=int(limit) if limit.isdigit() else None,
            note=form.get("note", "").strip(),
        )
        try:
            check_request(asked)
            spec = {"base": name, "actor": actor_of(caller), "request": msgspec.to_builtins(asked)}
            job = services.jobs.submit(MEASURE_JOB, spec)
        except PenstockError as error:
            return say_failure(name, error, "/quality")
        return RedirectResponse(f"/jobs/{job.id}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/quality/compare")
    @needs(Permission.KNOWLEDGE_WRITE, Permission.DATASETS_READ, Permission.TRACES_CONTENT)
    def compare(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        form = caller.form
        asked = CompareRequest(
            candidate=form.get("candidate", "").strip(),
            baseline=form.get("baseline", "").strip() or LIVE,
            questions=form.get("questions", "").strip() or None,
            rules=[line.strip() for line in form.get("rules", "").splitlines() if line.strip()],
            note=form.get("note", "").strip(),
        )
        try:
            quality_of(services).comparing.check(asked)
            spec = {"base": name, "actor": actor_of(caller), "request": msgspec.to_builtins(asked)}
            job = services.jobs.submit(COMPARE_JOB, spec)
        except PenstockError as error:
            return say_failure(name, error, "/quality")
        return RedirectResponse(f"/jobs/{job.id}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/quality/questions")
    @needs(Permission.DATASETS_WRITE, Permission.TRACES_CONTENT)
    def make_questions(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        target = caller.form.get("dataset", "").strip()
        questions = quality_of(services).questions
        try:
            if caller.form.get("from") == "traces":
                made = questions.from_traces(name, target, actor=actor_of(caller))
            else:
                made = questions.from_feedback(name, target, actor=actor_of(caller))
        except PenstockError as error:
            return say_failure(name, error, "/quality")
        left = sum(made.left_out.values())
        told = f"{made.n_added} questions are in {made.ref or target} now" + (
            f"; {made.n_known} were there before" if made.n_known else ""
        )
        return say_notice(name, f"{told}{f'; {left} were left out' if left else ''}.", "/quality")


def report_tabs(base: str) -> tuple[tuple[str, str, str], ...]:
    """Return key, label and link of the parts of a base's quality."""
    return tuple((key, label, f"{ACTIVE}/{base}/quality{path}") for key, label, path in REPORTS)


def name_generation(generation: str, version: str | None, tracks: Sequence[TrackRow]) -> str:
    """Return what people call a generation: the track that has it now, else its version, else its id, short."""
    track = next((each.name for each in tracks if each.generation == generation), None)
    return track or (version or "").removeprefix("knowledge:") or generation[:12]


def find_estimate(row: MeasurementRow, name: str) -> Estimate | None:
    """Return a figure of a measurement."""
    return next((each for each in row.estimates if each.name == name), None)


def _line(
    base: str, row: MeasurementRow, columns: Sequence[str], tracks: Sequence[TrackRow]
) -> MeasurementLine:
    found = [find_estimate(row, name) for name in columns]
    return MeasurementLine(
        row=row,
        href=f"{ACTIVE}/{base}/quality/measurements/{row.id}",
        of=name_generation(row.generation, row.version, tracks),
        figures=tuple(None if each is None else build_estimate_line(each, (0.0, 1.0)) for each in found),
    )


def _chart(
    base: str, rows: Sequence[MeasurementRow], figure: str, tracks: Sequence[TrackRow]
) -> IntervalChart | None:
    items = []
    for row in reversed(rows):
        found = find_estimate(row, figure)
        if found is not None:
            items.append(
                Measured(
                    estimate=found,
                    group=f"{row.questions}, {row.n_questions:,} questions",
                    label=name_generation(row.generation, row.version, tracks),
                    href=f"{ACTIVE}/{base}/quality/measurements/{row.id}",
                )
            )
    return draw_intervals(items, title=figure)


def _figure_names(rows: Sequence[MeasurementRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.name for row in rows for each in row.estimates))


def _find_sets(quality: RetrievalQuality, request: Request) -> tuple[QuestionSet, ...]:
    if not may(request, Permission.DATASETS_READ):
        return ()
    return tuple(quality.questions.list_sets())


def _last_questions(base: str, rows: Sequence[MeasurementRow], sets: Sequence[QuestionSet]) -> str:
    """Return the set that was measured last; else the first that may be about this base: the shipped one is about one alone."""
    refs = [each.ref for each in sets]
    own = [each.ref for each in sets if not each.is_shipped or each.ref.startswith(f"{base}:")]
    last = next((row.questions for row in rows if row.questions in refs), None)
    return last or (own[0] if own else "")


def _count_feedback(quality: RetrievalQuality, request: Request, base: str) -> tuple[tuple[str, int], ...]:
    if not may(request, Permission.TRACES_CONTENT):
        return ()
    return tuple(sorted(quality.feedback.list_feedback(base, limit=1).counts.items()))
