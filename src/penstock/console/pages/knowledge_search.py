"""The search tester: a question asked of one or two recipes, each stage with its scores, what was missed, judgements."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.apps.service import AppVersion
from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.console.knowledge_words import BaseHead, make_head, read_changes, read_principals, say_error
from penstock.console.links import link
from penstock.console.pages.knowledge import ACTIVE, find_base
from penstock.console.pages.knowledge_base import apps_of, may
from penstock.console.rendering import Page, Renderer
from penstock.console.search_sides import Side, make_side
from penstock.console.services import ConsoleServices
from penstock.knowledge.generations.types import LIVE, TrackRow
from penstock.knowledge.quality.report_types import Explanation
from penstock.knowledge.quality.service import RetrievalQuality
from penstock.knowledge.quality.types import FeedbackDraft, FeedbackKind
from penstock.knowledge.recipes import change_recipe, read_recipe
from penstock.knowledge.retrieval.filters import read_filter
from penstock.spec.knowledge import ChosenScope, SearchRecipe

DEFAULT_K, MAX_K = 8, 50
N_FEEDBACK = 500
KINDS: tuple[FeedbackKind, ...] = get_args(FeedbackKind)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the form says."""

    q: str = ""
    where: str = ""
    who: str = ""
    """As whom."""
    k: int = DEFAULT_K
    a: str = LIVE
    b: str = ""
    settings: str = ""
    """Of the second search, where they differ from its recipe's."""
    expect: str = ""

    @property
    def has_second(self) -> bool:
        """Whether two searches are wanted."""
        return bool(self.b or self.settings.strip())

    @property
    def expected(self) -> list[str]:
        """What should be found."""
        return [each.strip() for each in self.expect.split(";") if each.strip()]


@dataclass(frozen=True, kw_only=True)
class SearchPage(Page):
    """The tester."""

    template: ClassVar[str] = "knowledge_search.html"
    head: BaseHead
    asked: Asked
    tracks: tuple[TrackRow, ...]
    sides: tuple[Side, ...]
    problem: str
    """Why nothing was searched: a filter or a setting that cannot be read."""
    apps: tuple[AppVersion, ...]
    examples: tuple[str, ...]
    can_judge: bool
    here: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge/NAME/search` and the judgements made there."""
    router = APIRouter(include_in_schema=False)
    where_from = f"{ACTIVE}/{{name}}/search"

    @router.get(where_from)
    @needs(Permission.KNOWLEDGE_WRITE)
    def search(
        request: Request,
        name: str,
        *,
        q: str = "",
        where: str = "",
        who: Annotated[str, Query(alias="as")] = "",
        k: str = "",
        a: str = LIVE,
        b: str = "",
        settings: str = "",
        expect: str = "",
        notice: str | None = None,
    ) -> Response:
        asked = Asked(
            q=q, where=where, who=who, k=_read_k(k), a=a or LIVE, b=b, settings=settings, expect=expect
        )
        base, _ = find_base(services, name)
        sides, problem = ask(services, request, name, asked) if q.strip() and base else ((), "")
        page = SearchPage(
            frame=renderer.frame(request, f"Search {name}", ACTIVE, notice=notice),
            head=make_head(name, base.version if base else None, "search"),
            asked=asked,
            tracks=tuple(services.knowledge.list_tracks(name)) if base else (),
            sides=sides,
            problem=problem,
            apps=apps_of(services, name),
            examples=_find_examples(services, request, name) if not q.strip() and base else (),
            can_judge=may(request, Permission.TRACES_WRITE),
            here=_here(name, asked),
        )
        return renderer.show(page)

    @router.post(f"{where_from}/feedback")
    @needs(Permission.TRACES_WRITE)
    def judge(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        draft = read_judgement(caller.form)
        quality_of(services).feedback.add(name, [draft], actor=actor_of(caller))
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"kept": draft.kind}, status_code=201)
        back = caller.form.get("back", "")
        here = back if back.startswith(f"{ACTIVE}/{name}/") else f"{ACTIVE}/{name}/search"
        mark = "&" if "?" in here else "?"
        return RedirectResponse(f"{here}{mark}notice=The+judgement+is+kept.", status_code=303)

    return router


def quality_of(services: ConsoleServices) -> RetrievalQuality:
    """Return the services of quality; raise `NotFound` where there are none."""
    if services.retrieval_quality is None:
        raise NotFound("There is nothing here that measures knowledge.")
    return services.retrieval_quality


def ask(services: ConsoleServices, request: Request, base: str, asked: Asked) -> tuple[tuple[Side, ...], str]:
    """Return one search or two, and why there are none."""
    try:
        conditions = [read_filter(asked.where)] if asked.where.strip() else []
        recipe = _read_recipe(services, base, asked)
    except PenstockError as error:
        return (), say_error(error)
    scope = ChosenScope(conditions=conditions, principals=read_principals(asked.who))
    said = _find_said(services, request, base, asked.q)

    def one(track: str, recipe: SearchRecipe | None) -> tuple[Explanation | None, str]:
        try:
            found = quality_of(services).explainer.explain(
                base,
                asked.q,
                expect=asked.expected,
                named=None if track == LIVE else track,
                k=asked.k,
                scope=scope,
                recipe=recipe,
            )
        except PenstockError as error:
            return None, say_error(error)
        return found, ""

    first, first_error = one(asked.a, None)
    if not asked.has_second:
        return (make_side(base, asked.a, first, error=first_error, said=said),), ""
    second, second_error = one(asked.b or asked.a, recipe)
    title = asked.b or asked.a
    if asked.settings.strip():
        title = f"{title} with {asked.settings.strip()}"
    return (
        make_side(base, asked.a, first, error=first_error, said=said),
        make_side(base, title, second, error=second_error, other=first, said=said),
    ), ""


def read_judgement(fields: Mapping[str, str]) -> FeedbackDraft:
    """Return what a form says of a passage; raise `InvalidInput`."""
    kind = next((each for each in KINDS if each == fields.get("kind")), None)
    if kind is None:
        raise InvalidInput(f"{fields.get('kind')!r} is no judgement.", hint=f"There are: {', '.join(KINDS)}.")
    rank = fields.get("rank", "")
    return FeedbackDraft(
        question=fields.get("question", ""),
        kind=kind,
        document=fields.get("document") or None,
        passage_id=fields.get("passage_id") or None,
        rank=int(rank) if rank.isdigit() else None,
        generation=fields.get("generation") or None,
    )


def _read_recipe(services: ConsoleServices, base: str, asked: Asked) -> SearchRecipe | None:
    if not asked.settings.strip():
        return None
    wanted = asked.b or asked.a
    tracks = services.knowledge.list_tracks(base)
    row = next((each for each in tracks if each.name == wanted), None)
    own = services.knowledge.live_recipe(base) if row is None else read_recipe(row.recipe)
    return change_recipe(own, read_changes(asked.settings, part="search")).search


def _find_said(services: ConsoleServices, request: Request, base: str, question: str) -> dict[str, str]:
    """Return what was said of passages for this very question, the newest word of each."""
    if services.retrieval_quality is None or not may(request, Permission.TRACES_CONTENT):
        return {}
    rows = services.retrieval_quality.feedback.list_feedback(base, limit=N_FEEDBACK).rows
    wanted = question.strip().casefold()
    return {
        each.passage_id: each.kind
        for each in reversed(rows)
        if each.passage_id and each.kind in {"label", "up", "down"} and each.question.casefold() == wanted
    }


def _find_examples(services: ConsoleServices, request: Request, base: str) -> tuple[str, ...]:
    """Return questions to begin with: those of the shipped set for the handbook, else none."""
    quality = services.retrieval_quality
    if quality is None or base != "handbook" or not may(request, Permission.DATASETS_READ):
        return ()
    try:
        return tuple(each.question for each in quality.questions.read("handbook:questions", limit=4))
    except PenstockError:
        return ()


def _read_k(text: str) -> int:
    return min(MAX_K, max(1, int(text))) if text.isdigit() else DEFAULT_K


def _here(base: str, asked: Asked) -> str:
    params = {
        "q": asked.q,
        "where": asked.where,
        "as": asked.who,
        "k": asked.k if asked.k != DEFAULT_K else "",
        "a": asked.a if asked.a != LIVE else "",
        "b": asked.b,
        "settings": asked.settings,
        "expect": asked.expect,
    }
    return link(f"{ACTIVE}/{base}/search", params)
