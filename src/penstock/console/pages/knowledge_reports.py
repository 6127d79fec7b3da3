"""What a base lacks: questions that were not answered, documents that may be out of date, documents that nobody finds."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.formats import format_share
from penstock.console.knowledge_words import BaseHead, make_head, say_error
from penstock.console.links import link
from penstock.console.pages.knowledge import ACTIVE, find_base
from penstock.console.pages.knowledge_quality import report_tabs
from penstock.console.pages.knowledge_search import quality_of
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.quality.report_types import StaleReport, UnansweredReport, UnusedReport

CHOICES = (7, 30, 90, 365)
Days = Annotated[int, Query(ge=1, le=3660)]


@dataclass(frozen=True, kw_only=True)
class ReportPage(Page):
    """One report; `problem` says why there is none."""

    head: BaseHead
    reports: tuple[tuple[str, str, str], ...]
    days: int
    choices: tuple[tuple[int, str], ...]
    problem: str


@dataclass(frozen=True, kw_only=True)
class UnansweredPage(ReportPage):
    """What people asked and did not get."""

    template: ClassVar[str] = "knowledge_unanswered.html"
    report: UnansweredReport | None
    share: str


@dataclass(frozen=True, kw_only=True)
class StalePage(ReportPage):
    """Documents that may be out of date."""

    template: ClassVar[str] = "knowledge_stale.html"
    report: StaleReport | None
    max_age_days: str


@dataclass(frozen=True, kw_only=True)
class UnusedPage(ReportPage):
    """Documents that no question found."""

    template: ClassVar[str] = "knowledge_unused.html"
    report: UnusedReport | None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the reports below `/knowledge/NAME/quality`."""
    router = APIRouter(include_in_schema=False)

    def head_of(name: str) -> BaseHead:
        base, _ = find_base(services, name)
        return make_head(name, base.version if base else None, "quality")

    @router.get(f"{ACTIVE}/{{name}}/quality/unanswered")
    @needs(Permission.KNOWLEDGE_READ, Permission.TRACES_CONTENT)
    def show_unanswered(request: Request, name: str, days: Days = 30) -> Response:
        head, found, problem = head_of(name), None, ""
        try:
            found = quality_of(services).reports.unanswered(name, days=days)
        except PenstockError as error:
            problem = say_error(error)
        page = UnansweredPage(
            frame=renderer.frame(request, f"Unanswered by {name}", ACTIVE),
            head=head,
            reports=report_tabs(name),
            days=days,
            choices=_choices(name, "unanswered"),
            problem=problem,
            report=found,
            share=format_share(found.n_unanswered, found.n_asked) if found else "",
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/quality/stale")
    @needs(Permission.KNOWLEDGE_READ)
    def show_stale(request: Request, name: str, days: Days = 30, older: str = "") -> Response:
        head, found, problem = head_of(name), None, ""
        age = float(older) if older.isdigit() and int(older) else None
        try:
            found = quality_of(services).reports.stale(name, days=days, max_age_days=age)
        except PenstockError as error:
            problem = say_error(error)
        page = StalePage(
            frame=renderer.frame(request, f"Stale in {name}", ACTIVE),
            head=head,
            reports=report_tabs(name),
            days=days,
            choices=_choices(name, "stale"),
            problem=problem,
            report=found,
            max_age_days=older if age else "",
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/quality/unused")
    @needs(Permission.KNOWLEDGE_READ)
    def show_unused(request: Request, name: str, days: Days = 90) -> Response:
        head, found, problem = head_of(name), None, ""
        try:
            found = quality_of(services).reports.unused(name, days=days)
        except PenstockError as error:
            problem = say_error(error)
        page = UnusedPage(
            frame=renderer.frame(request, f"Never found in {name}", ACTIVE),
            head=head,
            reports=report_tabs(name),
            days=days,
            choices=_choices(name, "unused"),
            problem=problem,
            report=found,
        )
        return renderer.show(page)

    return router


def _choices(base: str, report: str) -> tuple[tuple[int, str], ...]:
    return tuple((days, link(f"{ACTIVE}/{base}/quality/{report}", {"days": days})) for days in CHOICES)
