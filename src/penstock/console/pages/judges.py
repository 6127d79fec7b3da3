"""Judges: how well each agrees with people, which one to take, and what people said."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import NotFound
from penstock.console.case_words import answer_of, asked_of, preview
from penstock.console.formats import format_money, format_ms
from penstock.console.judge_lines import (
    ANSWERS,
    Disagreement,
    FigureLine,
    answers_of,
    build_figure,
    build_figures,
    count_words,
    find_disagreements,
    name_labels,
    say_value,
)
from penstock.console.links import link
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.evals.judges.benchmark import rank_judges
from penstock.evals.judges.types import JudgeCalibration, JudgeEntry, JudgeRow, LabelItem, LabelSet

ACTIVE = "/judges"
MAX_RANKED = 12
MAX_EVALUATIONS = 50
EXAMPLE = "penstock judge calibrate rubric --labels correct --model MODEL"


@dataclass(frozen=True, kw_only=True)
class CalibrationLine:
    """One judge held against one name of labels."""

    item: JudgeCalibration
    href: str
    agreement: FigureLine
    kappa: FigureLine | None
    cost: str
    latency: str


@dataclass(frozen=True, kw_only=True)
class SetLine:
    """All labels of one name."""

    item: LabelSet
    href: str
    words: tuple[tuple[str, int], ...]
    answers: str


@dataclass(frozen=True, kw_only=True)
class JudgesPage(Page):
    """All judges."""

    template: ClassVar[str] = "judges.html"
    calibrations: tuple[CalibrationLine, ...]
    sets: tuple[SetLine, ...]
    kept: tuple[JudgeEntry, ...]
    kinds: tuple[tuple[str, tuple[JudgeEntry, ...]], ...]
    evaluations: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str], ...] = ANSWERS
    example: str = EXAMPLE


@dataclass(frozen=True, kw_only=True)
class CalibrationPage(Page):
    """One calibration."""

    template: ClassVar[str] = "calibration.html"
    item: JudgeCalibration
    figures: tuple[FigureLine, ...]
    labels: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]
    prevalences: tuple[tuple[str, str], ...]
    """Share of yes, and what kappa would be there."""
    set_href: str
    cost: str
    latency: str


@dataclass(frozen=True, kw_only=True)
class RankLine:
    """One judge of a benchmark."""

    row: JudgeRow
    href: str
    agreement: FigureLine
    difference: FigureLine | None
    cost: str
    latency: str
    is_choice: bool


@dataclass(frozen=True, kw_only=True)
class LabelledLine:
    """One output with what people said of it."""

    asked: str
    answer: str
    href: str | None
    said: tuple[tuple[str, str, str], ...]
    """Answer, rater, comment."""


@dataclass(frozen=True, kw_only=True)
class LabelsPage(Page):
    """The labels of one name, and the judges that were held against them."""

    template: ClassVar[str] = "label_set.html"
    line: SetLine
    sentence: str
    n_shared: int
    ranks: tuple[RankLine, ...]
    items: tuple[LabelledLine, ...]
    first_href: str | None
    next_href: str | None
    evaluations: tuple[tuple[str, str], ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/judges` and below, without the page where outputs are labelled."""
    router = APIRouter(include_in_schema=False)
    judges = services.judges

    @router.get(ACTIVE)
    @needs(Permission.EVALS_READ)
    def list_judges(request: Request) -> Response:
        groups: dict[str, list[JudgeEntry]] = {}
        entries = judges.list()
        for entry in entries:
            if entry.stamp is None and entry.group != "kept":
                groups.setdefault(entry.group, []).append(entry)
        page = JudgesPage(
            frame=renderer.frame(request, "Judges", ACTIVE, notice=request.query_params.get("notice")),
            calibrations=tuple(_line(each) for each in judges.calibrations(limit=50)),
            sets=tuple(tell_set(each) for each in judges.labels.sets()),
            kept=tuple(each for each in entries if each.group == "kept"),
            kinds=tuple((name, tuple(found)) for name, found in groups.items()),
            evaluations=list_evaluations(services),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/calibrations/{{identity}}")
    @needs(Permission.EVALS_READ)
    def show_calibration(request: Request, identity: str) -> Response:
        found = judges.calibration(identity)
        page = CalibrationPage(
            frame=renderer.frame(request, found.stamp, ACTIVE),
            item=found,
            figures=build_figures(found),
            labels=name_labels(found),
            disagreements=find_disagreements(found),
            prevalences=tuple(
                (share.replace("%", " %"), f"{kappa:.2f}".replace("-", "−"))
                for share, kappa in found.kappa_by_prevalence.items()
            ),
            set_href=link(f"{ACTIVE}/labels", {"name": found.name}),
            cost=format_money(found.cost_usd),
            latency=format_ms(found.p50_latency_ms),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/labels")
    @needs(Permission.EVALS_READ)
    def show_labels(request: Request, name: str, cursor: str = "") -> Response:
        found = find_set(services, name)
        if found is None:
            raise NotFound(f"There is no label {name!r}.", hint="/judges lists what people were asked.")
        items = judges.labels.page(name, cursor=cursor or None, limit=25)
        sentence, n_shared, ranks = rank(services, name)
        path = f"{ACTIVE}/labels"
        page = LabelsPage(
            frame=renderer.frame(request, name, ACTIVE, notice=request.query_params.get("notice")),
            line=tell_set(found),
            sentence=sentence,
            n_shared=n_shared,
            ranks=ranks,
            items=tuple(_tell_item(each, found) for each in items.rows),
            first_href=link(path, {"name": name}) if cursor else None,
            next_href=link(path, {"name": name}, cursor=items.next_cursor) if items.next_cursor else None,
            evaluations=list_evaluations(services),
        )
        return renderer.show(page)

    return router


def find_set(services: ConsoleServices, name: str) -> LabelSet | None:
    """Return what is counted of a label; None when nobody gave it."""
    return next((each for each in services.judges.labels.sets() if each.name == name), None)


def tell_set(found: LabelSet) -> SetLine:
    """Return the labels of one name in words."""
    return SetLine(
        item=found,
        href=link(f"{ACTIVE}/labels", {"name": found.name}),
        words=tuple(count_words(found)),
        answers=answers_of(found),
    )


def list_evaluations(services: ConsoleServices) -> tuple[tuple[str, str], ...]:
    """Return the newest evaluations: id, and what to call it."""
    return tuple(
        (each.id, f"{each.name} · {each.target or '–'}")
        for each in services.evaluations.list().rows[:MAX_EVALUATIONS]
        if each.n_outputs
    )


def rank(services: ConsoleServices, name: str) -> tuple[str, int, tuple[RankLine, ...]]:
    """Return what can be said of the judges that were held against these labels, over the outputs that all of them judged.

    Only the latest calibration of each judge counts; no judge is asked anything.
    """
    latest: dict[str, JudgeCalibration] = {}
    for each in services.judges.calibrations(name=name):
        latest.setdefault(each.stamp, each)
    whole = [services.judges.calibration(each.id) for each in list(latest.values())[:MAX_RANKED]]
    shared = set.intersection(*({pair.item for pair in each.pairs} for each in whole)) if whole else set()
    if len(whole) < 2 or not shared:
        return "", 0, ()
    found = rank_judges(whole, name=name)
    return (
        found.sentence,
        found.n_items,
        tuple(
            RankLine(
                row=row,
                href=f"{ACTIVE}/calibrations/{row.calibration.id}",
                agreement=build_figure(row.calibration.agreement, name="Agreement"),
                difference=None
                if row.difference is None
                else build_figure(row.difference, name="Against the best", scale=(-1.0, 1.0)),
                cost=format_money(row.cost_per_output_usd),
                latency=format_ms(row.calibration.p50_latency_ms),
                is_choice=row.calibration.stamp == found.choice,
            )
            for row in found.rows
        ),
    )


def _tell_item(item: LabelItem, found: LabelSet) -> LabelledLine:
    words = [(each.label or say_value(each.value, found), each.rater, each.comment) for each in item.labels]
    return LabelledLine(
        asked=preview(asked_of(item.case)) or item.case.id,
        answer=preview(answer_of(item.output)),
        href=link(f"/evaluations/{item.evaluation_id}", {"case": item.case.id}) + "#case"
        if item.evaluation_id
        else None,
        said=tuple(words),
    )


def _line(found: JudgeCalibration) -> CalibrationLine:
    return CalibrationLine(
        item=found,
        href=f"{ACTIVE}/calibrations/{found.id}",
        agreement=build_figure(found.agreement, name="Agreement"),
        kappa=None if found.kappa is None else build_figure(found.kappa, name="Kappa", scale=(-1.0, 1.0)),
        cost=format_money(found.cost_usd),
        latency=format_ms(found.p50_latency_ms),
    )
