"""What was published, by whom and why; how two configurations differ; and the way back."""

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.console.changes import ShownChange, show_changes
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.deploy.history import ConfigVersion

N_VERSIONS = 50
ACTIVE = "/configuration"


@dataclass(frozen=True, kw_only=True)
class HistoryPage(Page):
    """Configurations, newest first, and what publishing now would change."""

    template: ClassVar[str] = "configuration.html"
    versions: tuple[ConfigVersion, ...]
    next_before: int | None
    is_first_page: bool
    pending: tuple[ShownChange, ...]
    warnings: tuple[str, ...]
    damage: str | None
    """What is wrong with the settings file, while the last good one holds."""


@dataclass(frozen=True, kw_only=True)
class VersionPage(Page):
    """One configuration: how it differs from the one before, from another, or from the present one."""

    template: ClassVar[str] = "configuration_version.html"
    version: ConfigVersion
    newest: int
    against: int | None
    """The other configuration; None for the first of all, which is compared with nothing."""
    changes: tuple[ShownChange, ...]
    numbers: tuple[int, ...]
    is_rollback: bool
    """Whether going back to this configuration is being asked."""


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/configuration` and below."""
    router = APIRouter(include_in_schema=False)
    configuration = services.configuration

    @router.get("/configuration")
    @needs(Permission.CONFIG_READ)
    def list_versions(request: Request, before: int | None = None, notice: str | None = None) -> Response:
        versions = configuration.history(limit=N_VERSIONS + 1, before=before)
        pending = configuration.pending(by_last_good=True) if configuration.published() else None
        page = HistoryPage(
            frame=renderer.frame(request, "Configuration", ACTIVE, notice=notice),
            versions=versions[:N_VERSIONS],
            next_before=versions[N_VERSIONS - 1].number if len(versions) > N_VERSIONS else None,
            is_first_page=before is None,
            pending=show_changes(pending.changes) if pending else (),
            warnings=pending.warnings if pending else (),
            damage=services.find_warnings().get("settings"),
        )
        return renderer.show(page)

    def show(request: Request, number: int, against: int | None, *, is_rollback: bool) -> Response:
        version, _ = configuration.version(number)
        versions = configuration.history(limit=N_VERSIONS)
        earlier = [each.number for each in configuration.history(limit=1, before=number)]
        other = against if against is not None else (earlier[0] if earlier else None)
        if is_rollback:
            changes = configuration.diff(versions[0].number, number)
        elif other is None:
            changes = ()
        else:
            changes = configuration.diff(*sorted((other, number)))
        page = VersionPage(
            frame=renderer.frame(request, f"Configuration {number}", ACTIVE),
            version=version,
            newest=versions[0].number,
            against=None if is_rollback else other,
            changes=show_changes(changes),
            numbers=tuple(each.number for each in versions),
            is_rollback=is_rollback,
        )
        return renderer.show(page)

    @router.get("/configuration/{number}")
    @needs(Permission.CONFIG_READ)
    def show_version(request: Request, number: int, against: int | None = None) -> Response:
        return show(request, number, against, is_rollback=False)

    @router.get("/configuration/{number}/rollback")
    @needs(Permission.CONFIG_READ, Permission.CONFIG_WRITE)
    def ask_rollback(request: Request, number: int) -> Response:
        return show(request, number, None, is_rollback=True)

    @router.post("/configuration/{number}/rollback")
    @needs(Permission.CONFIG_WRITE)
    def roll_back(request: Request, number: int) -> Response:
        caller = request.state.caller
        done = configuration.rollback(
            number, actor=actor_of(caller), note=caller.form.get("note", "").strip()
        )
        what = f"{len(done.restored)} of its parts came back" if done.restored else "Nothing had to change"
        rest = (
            f"; {len(done.remaining)} still differ, because files, environment, keys or secrets keep them"
            if done.remaining
            else ""
        )
        notice = f"Rolled back to configuration {number}. {what}{rest}."
        return RedirectResponse(f"/configuration?{urlencode({'notice': notice})}", status_code=303)

    return router
