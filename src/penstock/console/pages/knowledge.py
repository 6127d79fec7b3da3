"""Knowledge bases: the list with how each one stands, and the form that begins a new one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, needs
from penstock.access.permissions import Permission, has_permission
from penstock.base.errors import NotFound, PenstockError
from penstock.console.formats import format_share
from penstock.console.knowledge_words import count_state, say_error
from penstock.console.links import link
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.quality.report_types import StaleReport
from penstock.knowledge.sources.catalogue import describe_kinds
from penstock.knowledge.sources.types import SourceRow
from penstock.knowledge.types import BaseRow
from penstock.spec.assets import parse_asset_ref

ACTIVE = "/knowledge"
DAYS = 30.0
"""How far back questions are counted."""


@dataclass(frozen=True, kw_only=True)
class BaseLine:
    """One base of the list."""

    name: str
    base: BaseRow | None
    """None for one whose sources were never read."""
    n_sources: int
    last_ns: int | None
    """When a source of it was read last."""
    state: str
    error: str | None
    n_unreadable: int
    candidates: tuple[str, ...]
    embedder_problem: str | None


@dataclass(frozen=True, kw_only=True)
class BasesPage(Page):
    """All knowledge bases."""

    template: ClassVar[str] = "bases.html"
    bases: tuple[BaseLine, ...]


@dataclass(frozen=True, kw_only=True)
class NewBasePage(Page):
    """The form that begins a base with its first source."""

    template: ClassVar[str] = "knowledge_new.html"
    kinds: tuple[tuple[str, str], ...]
    problem: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class HealthPage(Page):
    """What takes longer to find out of a base: a part of its page that is fetched on its own."""

    template: ClassVar[str] = "knowledge_health.html"
    name: str
    n_asked: int | None
    n_unanswered: int | None
    share: str
    why_not: str
    """Why nobody can tell what was asked."""
    stale: StaleReport | None


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge`, `/knowledge-new` and `/knowledge/NAME/health`."""
    router = APIRouter(include_in_schema=False)

    @router.get(ACTIVE)
    @needs(Permission.KNOWLEDGE_READ)
    def list_bases(request: Request, notice: str | None = None) -> Response:
        page = BasesPage(
            frame=renderer.frame(request, "Knowledge", ACTIVE, notice=notice), bases=_list_lines(services)
        )
        return renderer.show(page)

    @router.get("/knowledge-new")
    @needs(Permission.KNOWLEDGE_WRITE)
    def begin(request: Request, name: str = "", kind: str = "") -> Response:
        kinds = tuple((each["kind"], each["about"]) for each in describe_kinds())
        problem = ""
        if name.strip() and kind in dict(kinds):
            try:
                parse_asset_ref(f"knowledge:{name.strip()}")
            except PenstockError as error:
                problem = say_error(error)
            else:
                where = f"{ACTIVE}/{quote(name.strip())}/sources/new"
                return RedirectResponse(link(where, {"kind": kind}), status_code=303)
        frame = renderer.frame(request, "A new knowledge base", ACTIVE)
        return renderer.show(NewBasePage(frame=frame, kinds=kinds, problem=problem, name=name))

    @router.get(f"{ACTIVE}/{{name}}/health")
    @needs(Permission.KNOWLEDGE_READ)
    def show_health(request: Request, name: str) -> Response:
        return renderer.show(_health(services, renderer, request, name))

    return router


def find_base(services: ConsoleServices, name: str) -> tuple[BaseRow | None, tuple[SourceRow, ...]]:
    """Return a base, None when nothing of it is live yet, with its sources; raise `NotFound` for neither."""
    base = next((each for each in services.knowledge.list_bases() if each.name == name), None)
    sources = tuple(services.sources.list_sources(name))
    if base is None and not sources:
        services.knowledge.list_tracks(name)  # says which bases there are
        raise NotFound(f"There is no knowledge base {name!r}.")
    return base, sources


def count_unreadable(services: ConsoleServices, base: BaseRow | None, sources: Sequence[SourceRow]) -> int:
    """Return how many documents could not be fetched, or not be parsed."""
    if sources:
        return count_state(sources, "unreadable")
    return services.knowledge.count_unreadable(base.name) if base else 0  # of before there were sources


def find_embedder_problem(services: ConsoleServices, name: str) -> str | None:
    """Return why questions of a base are searched by words alone; None where its embedder is served."""
    try:
        found = services.knowledge.check_embedder(name)
    except PenstockError as error:
        return error.message
    return None if found.state == "ok" else found.message


def _list_lines(services: ConsoleServices) -> tuple[BaseLine, ...]:
    bases = {each.name: each for each in services.knowledge.list_bases()}
    sources: dict[str, list[SourceRow]] = {}
    for each in services.sources.list_sources():
        sources.setdefault(each.base, []).append(each)
    return tuple(
        _line(services, name, bases.get(name), sources.get(name, [])) for name in sorted({*bases, *sources})
    )


def _line(services: ConsoleServices, name: str, base: BaseRow | None, sources: list[SourceRow]) -> BaseLine:
    failed = next((each for each in sources if each.error and not each.is_detached), None)
    running = any(each.state == "running" for each in sources)
    tracks = services.knowledge.list_tracks(name) if base else []
    return BaseLine(
        name=name,
        base=base,
        n_sources=len(sources),
        last_ns=max((each.ended_ns for each in sources if each.ended_ns), default=None),
        state="running" if running else "failed" if failed else "ok" if base else "new",
        error=f"{failed.name}: {failed.error}" if failed else None,
        n_unreadable=count_unreadable(services, base, sources),
        candidates=tuple(each.name for each in tracks if each.name not in {"live", "previous"}),
        embedder_problem=find_embedder_problem(services, name) if base else None,
    )


def _health(services: ConsoleServices, renderer: Renderer, request: Request, name: str) -> HealthPage:
    caller: Caller = request.state.caller
    quality = services.retrieval_quality
    asked: tuple[int | None, int | None] = (None, None)
    why, stale = "", None
    if quality is None:
        why = "There is no record of questions here."
    elif caller.key is None or not has_permission(caller.key, Permission.TRACES_CONTENT):
        why = "Seeing what was asked needs the permission traces.content."
    else:
        try:
            asked = quality.reports.count_unanswered(name, days=DAYS)
        except PenstockError as error:
            why = say_error(error)
    if quality is not None:
        try:
            stale = quality.reports.stale(name, days=DAYS, limit=1)
        except PenstockError as error:
            why = why or say_error(error)
    return HealthPage(
        frame=renderer.frame(request, name, ACTIVE),
        name=name,
        n_asked=asked[0],
        n_unanswered=asked[1],
        share=format_share(asked[1], asked[0]),
        why_not=why,
        stale=stale,
    )
