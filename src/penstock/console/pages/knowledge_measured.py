"""One measurement, and one comparison of two generations: figures with intervals, verdict, what was missed, what changed."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import NotFound
from penstock.console.estimate_lines import (
    ComparisonLine,
    EstimateLine,
    build_comparison_lines,
    build_estimate_line,
)
from penstock.console.interval_marks import Mark, scale_of_estimates
from penstock.console.knowledge_words import BaseHead, make_head
from penstock.console.links import link
from penstock.console.pages.knowledge import ACTIVE, find_base
from penstock.console.pages.knowledge_quality import name_generation, report_tabs
from penstock.console.pages.knowledge_search import quality_of
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.quality.types import (
    Change,
    GenerationComparison,
    MeasuredMode,
    MeasuredQuestion,
    Measurement,
)
from penstock.spec.evaluations import RuleResult

MODE_WORDS = {
    "as_is": "as it is",
    "dense": "by meaning alone",
    "lexical": "by words alone",
    "hybrid": "both",
    "reranked": "with a second look",
}
MAX_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class ModeLine:
    """One way of searching, a figure a row."""

    mode: MeasuredMode
    words: str
    figures: tuple[EstimateLine | None, ...]
    differences: tuple[ComparisonLine, ...]


@dataclass(frozen=True, kw_only=True)
class QuestionLine:
    """A question for which nothing was found."""

    item: MeasuredQuestion
    href: str


@dataclass(frozen=True, kw_only=True)
class MeasurementPage(Page):
    """One measurement."""

    template: ClassVar[str] = "knowledge_measurement.html"
    head: BaseHead
    reports: tuple[tuple[str, str, str], ...]
    made: Measurement
    of: str
    columns: tuple[str, ...]
    modes: tuple[ModeLine, ...]
    slices: tuple[EstimateLine, ...]
    worst: tuple[QuestionLine, ...]


@dataclass(frozen=True, kw_only=True)
class RuleLine:
    """One rule with how it came out."""

    item: RuleResult
    mark: Mark | None
    method: str


@dataclass(frozen=True, kw_only=True)
class ChangeLine:
    """A question whose results differ."""

    item: Change
    href: str


@dataclass(frozen=True, kw_only=True)
class ComparisonPage(Page):
    """One comparison."""

    template: ClassVar[str] = "knowledge_comparison.html"
    head: BaseHead
    reports: tuple[tuple[str, str, str], ...]
    made: GenerationComparison
    baseline: str
    candidate: str
    rules: tuple[RuleLine, ...]
    labelled: tuple[ComparisonLine, ...]
    replayed: tuple[ComparisonLine, ...]
    likeness: tuple[EstimateLine, ...]
    changes: tuple[ChangeLine, ...]
    switch_href: str | None
    """Where the candidate can go live on this evidence; None where it is no track any more."""


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the pages below `/knowledge/NAME/quality`."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{ACTIVE}/{{name}}/quality/measurements/{{measurement_id}}")
    @needs(Permission.KNOWLEDGE_READ, Permission.DATASETS_READ)
    def show_measurement(request: Request, name: str, measurement_id: str) -> Response:
        base, _ = find_base(services, name)
        made = quality_of(services).measuring.get(measurement_id)
        if made.base != name:
            raise NotFound(f"{name!r} has no measurement {measurement_id!r}.")
        tracks = services.knowledge.list_tracks(name) if base else []
        page = _measurement_page(
            renderer, request, name, made, name_generation(made.generation, made.version, tracks)
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/quality/comparisons/{{comparison_id}}")
    @needs(Permission.KNOWLEDGE_READ, Permission.TRACES_CONTENT)
    def show_comparison(request: Request, name: str, comparison_id: str) -> Response:
        base, _ = find_base(services, name)
        made = quality_of(services).comparing.get(comparison_id)
        if made.base != name:
            raise NotFound(f"{name!r} has no comparison {comparison_id!r}.")
        tracks = [each.name for each in services.knowledge.list_tracks(name)] if base else []
        return renderer.show(_comparison_page(renderer, request, name, made, tracks))

    return router


def _measurement_page(
    renderer: Renderer, request: Request, name: str, made: Measurement, of: str
) -> MeasurementPage:
    columns = tuple(dict.fromkeys(each.name for mode in made.modes for each in mode.estimates))
    modes = []
    for mode in made.modes:
        found = {each.name: each for each in mode.estimates}
        figures = tuple(
            build_estimate_line(found[column], scale_of_estimates([found[column]]))
            if column in found
            else None
            for column in columns
        )
        modes.append(
            ModeLine(
                mode=mode,
                words=MODE_WORDS[mode.mode],
                figures=figures,
                differences=build_comparison_lines(
                    mode.differences, MODE_WORDS[made.modes[0].mode], MODE_WORDS[mode.mode]
                ),
            )
        )
    slices = made.modes[0].slices if made.modes else []
    return MeasurementPage(
        frame=renderer.frame(request, f"Measurement of {name}", ACTIVE),
        head=make_head(name, made.version, "quality"),
        reports=report_tabs(name),
        made=made,
        of=of,
        columns=columns,
        modes=tuple(modes),
        slices=tuple(
            build_estimate_line(each, (0.0, 1.0), name=f"{each.slice} {each.name}") for each in slices
        ),
        worst=tuple(
            QuestionLine(item=each, href=link(f"{ACTIVE}/{name}/search", {"q": each.question}))
            for each in made.worst[:MAX_SHOWN]
        ),
    )


def _comparison_page(
    renderer: Renderer, request: Request, name: str, made: GenerationComparison, tracks: list[str]
) -> ComparisonPage:
    baseline = made.baseline_track or made.baseline[:12]
    candidate = made.candidate_track or made.candidate[:12]
    replay = made.replay
    sides = {"a": made.baseline_track or made.baseline, "b": made.candidate_track or made.candidate}
    return ComparisonPage(
        frame=renderer.frame(request, f"Comparison of {candidate} and {baseline}", ACTIVE),
        head=make_head(name, None, "quality"),
        reports=report_tabs(name),
        made=made,
        baseline=baseline,
        candidate=candidate,
        rules=tuple(_rule(each, baseline, candidate) for each in made.rules),
        labelled=build_comparison_lines(made.labelled, baseline, candidate),
        replayed=build_comparison_lines(replay.differences, baseline, candidate) if replay else (),
        likeness=tuple(
            build_estimate_line(each, (0.0, 1.0)) for each in (replay.estimates if replay else ())
        ),
        changes=tuple(
            ChangeLine(item=each, href=link(f"{ACTIVE}/{name}/search", {"q": each.question, **sides}))
            for each in (replay.changes if replay else ())
        ),
        switch_href=f"{ACTIVE}/{name}#switch-{made.candidate_track}"
        if made.candidate_track in tracks
        else None,
    )


def _rule(item: RuleResult, baseline: str, candidate: str) -> RuleLine:
    if item.comparison is not None:
        line = build_comparison_lines([item.comparison], baseline, candidate)[0]
        return RuleLine(item=item, mark=line.mark, method=line.method)
    if item.estimate is not None:
        told = build_estimate_line(item.estimate, scale_of_estimates([item.estimate]))
        return RuleLine(item=item, mark=told.mark, method=told.method)
    return RuleLine(item=item, mark=None, method="")
