"""The form of a dashboard: new ones, copies, changes, with a preview of what is not kept yet."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.clock import now_ns
from penstock.base.errors import CallerError, ConflictError, PenstockError
from penstock.console.dashboard_forms import (
    CHARTS,
    SUBJECTS,
    WINDOWS,
    DashboardDraft,
    PanelDraft,
    draft_of,
    read_draft,
    suggest_dimensions,
    suggest_measures,
    take_step,
    to_dashboard,
)
from penstock.console.links import link
from penstock.console.pages.dashboards import ACTIVE
from penstock.console.panels import PanelCard, build_card
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.traces.measures.types import Dashboard

_S = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class DashboardEditPage(Page):
    """The form, and what it would show."""

    template: ClassVar[str] = "dashboard_edit.html"
    draft: DashboardDraft
    back: str
    problem: SearchProblem | None
    cards: tuple[PanelCard, ...]
    window_label: str
    charts: tuple[tuple[str, str], ...] = tuple((name, name) for name in CHARTS)
    subjects: tuple[tuple[str, str], ...] = SUBJECTS
    windows: tuple[tuple[int, str], ...] = WINDOWS
    measures: tuple[tuple[str, str], ...] = suggest_measures()
    dimensions: tuple[str, ...] = suggest_dimensions()


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return the forms below `/dashboards`."""
    router = APIRouter(include_in_schema=False)
    dashboards = services.dashboards

    def show(
        request: Request,
        draft: DashboardDraft,
        *,
        problem: PenstockError | None = None,
        preview: Dashboard | None = None,
    ) -> Response:
        title = f"Edit {draft.title}" if draft.version else "New dashboard"
        page = DashboardEditPage(
            frame=renderer.frame(request, title, ACTIVE),
            draft=draft,
            back=f"{ACTIVE}/{draft.name}" if draft.version else ACTIVE,
            problem=None if problem is None else tell_problem(problem),
            cards=() if preview is None else fill(preview),
            window_label=next(
                (label for size, label in WINDOWS if str(size) == draft.window_s), "its window"
            ),
        )
        return renderer.show(page, status=problem.status if problem else 200)

    def fill(dashboard: Dashboard) -> tuple[PanelCard, ...]:
        until_ns = now_ns()
        since_ns = max(0, until_ns - dashboard.window_s * _S)
        view = dashboards.fill(dashboard, since_ns=since_ns, until_ns=until_ns)
        return tuple(build_card(each, zoom_href="") for each in view.panels)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.DASHBOARDS_WRITE)
    def start(request: Request, copy: str = "") -> Response:
        if copy:
            return show(request, draft_of(dashboards.get(copy), is_copy=True))
        return show(request, DashboardDraft(panels=(PanelDraft(title="Calls", measures="calls"),)))

    @router.get(f"{ACTIVE}/{{name}}/edit")
    @needs(Permission.DASHBOARDS_WRITE)
    def edit(request: Request, name: str) -> Response:
        return show(request, draft_of(dashboards.get(name)))

    @router.post(f"{ACTIVE}/edit")
    @needs(Permission.DASHBOARDS_WRITE)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        step = caller.form.get("step", "preview")
        draft = read_draft(caller.form)
        if step == "delete" and draft.version:
            dashboards.delete(draft.name)
            return _to("overview", f"Deleted the dashboard {draft.title}.")
        if step not in {"save", "preview"}:
            return show(request, take_step(draft, step))
        try:
            dashboard = to_dashboard(draft)
            if step == "save":
                kept = dashboards.put(dashboard, actor=actor_of(caller), expected_version=draft.version)
                return _to(kept.name, f"Saved {kept.title}, version {kept.version}.")
            shown = dashboard if dashboard.name else msgspec.structs.replace(dashboard, name="preview")
            dashboards.check(shown)
            return show(request, draft, preview=shown)
        except (CallerError, ConflictError) as error:
            return show(request, draft, problem=error)

    return router


def _to(name: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{name}", {"notice": notice}), status_code=303)
