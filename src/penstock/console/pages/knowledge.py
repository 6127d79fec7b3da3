"""Knowledge bases: what is in them, what could not be read, and what a question finds."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.types import BaseRow, DocumentRow, Hit, Passage, Retrieval

N_HITS = 8


@dataclass(frozen=True, kw_only=True)
class BasesPage(Page):
    """All knowledge bases."""

    template: ClassVar[str] = "bases.html"
    bases: tuple[BaseRow, ...]


@dataclass(frozen=True, kw_only=True)
class HitLine:
    """One hit, its score against the best one."""

    hit: Hit
    bar_pct: float


@dataclass(frozen=True, kw_only=True)
class BasePage(Page):
    """One base: search, problems, documents."""

    template: ClassVar[str] = "base_of_knowledge.html"
    base: BaseRow
    documents: tuple[DocumentRow, ...]
    problems: tuple[tuple[str, str], ...]
    """Path and what could not be read."""
    query: str
    found: Retrieval | None
    hits: tuple[HitLine, ...]


@dataclass(frozen=True, kw_only=True)
class DocumentPage(Page):
    """One document's passages in reading order."""

    template: ClassVar[str] = "document.html"
    base: str
    path: str
    passages: tuple[Passage, ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge` and below."""
    router = APIRouter(include_in_schema=False)
    knowledge = services.knowledge

    @router.get("/knowledge")
    @needs(Permission.KNOWLEDGE_READ)
    def list_bases(request: Request) -> Response:
        page = BasesPage(
            frame=renderer.frame(request, "Knowledge", "/knowledge"), bases=tuple(knowledge.list_bases())
        )
        return renderer.show(page)

    @router.get("/knowledge/{name}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_base(request: Request, name: str, q: str = "") -> Response:
        documents = knowledge.list_documents(name)
        base = next(each for each in knowledge.list_bases() if each.name == name)
        found = knowledge.retrieve(name, q, N_HITS) if q.strip() else None
        best = max((hit.score for hit in found.hits), default=0.0) if found else 0.0
        problems = [
            (document.path, text)
            for document in documents
            for text in ([document.error] if document.error else []) + list(document.problems)
        ]
        page = BasePage(
            frame=renderer.frame(request, name, "/knowledge"),
            base=base,
            documents=tuple(documents),
            problems=tuple(problems),
            query=q,
            found=found,
            hits=tuple(
                HitLine(hit=hit, bar_pct=round(100 * hit.score / best, 1) if best > 0 else 0.0)
                for hit in (found.hits if found else ())
            ),
        )
        return renderer.show(page)

    @router.get("/knowledge/{name}/documents/{path:path}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_document(request: Request, name: str, path: str) -> Response:
        page = DocumentPage(
            frame=renderer.frame(request, path, "/knowledge"),
            base=name,
            path=path,
            passages=tuple(knowledge.list_passages(name, path)),
        )
        return renderer.show(page)

    return router
