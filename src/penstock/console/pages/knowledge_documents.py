"""Documents of a knowledge base: what the sources hold with reasons, and one document with text, passages, versions."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, get_args
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import NotFound, PenstockError
from penstock.console.knowledge_words import BaseHead, make_head, say_error
from penstock.console.links import link
from penstock.console.marked_text import Piece, cut_pieces
from penstock.console.pages.knowledge import ACTIVE, DAYS, find_base
from penstock.console.pages.knowledge_search import quality_of
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.knowledge.errors import UnknownDocument, UnknownKnowledge
from penstock.knowledge.quality.report_types import Asked
from penstock.knowledge.sources.errors import UnknownItem
from penstock.knowledge.sources.types import DocumentDetails, ItemRow, ItemState, SourceRow
from penstock.knowledge.types import DocumentRow, DocumentText

ROWS = 50
STATES: tuple[ItemState, ...] = get_args(ItemState)
STATE_WORDS: Mapping[str, str] = {
    "live": "searched",
    "unreadable": "unreadable",
    "left_out": "left out",
    "gone": "gone",
}


@dataclass(frozen=True, kw_only=True)
class DocumentLine:
    """One document of the list."""

    path: str
    href: str | None
    """None for what was never read."""
    title: str | None
    state: str
    word: str
    reason: str
    source: str | None
    n_passages: int | None
    n_problems: int
    size_bytes: int | None
    changed_ns: int | None


@dataclass(frozen=True, kw_only=True)
class DocumentsPage(Page):
    """What the sources of a base hold."""

    template: ClassVar[str] = "knowledge_documents.html"
    head: BaseHead
    lines: tuple[DocumentLine, ...]
    states: tuple[tuple[str, str, int | None, str], ...]
    """State, word, number, link."""
    state: str
    text: str
    source: str
    sources: tuple[str, ...]
    is_narrowed: bool
    first_href: str | None
    next_href: str | None


@dataclass(frozen=True, kw_only=True)
class DocumentPage(Page):
    """One document."""

    template: ClassVar[str] = "knowledge_document.html"
    head: BaseHead
    path: str
    url: str | None
    document: DocumentText | None
    pieces: tuple[Piece, ...]
    n_passages: int
    n_tokens: int | None
    details: DocumentDetails | None
    properties: tuple[tuple[str, str], ...]
    readers: tuple[str, ...] | None
    subjects: tuple[str, ...]
    uses_href: str


@dataclass(frozen=True, kw_only=True)
class UsesPage(Page):
    """What a document was found and cited for: a part of its page that is fetched on its own."""

    template: ClassVar[str] = "knowledge_uses.html"
    path: str
    asked: tuple[Asked, ...]
    why_not: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/knowledge/NAME/documents` and below."""
    router = APIRouter(include_in_schema=False)
    _add_list(router, services, renderer)
    _add_document(router, services, renderer)
    return router


def _add_list(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(f"{ACTIVE}/{{name}}/documents")
    @needs(Permission.KNOWLEDGE_READ)
    def list_documents(
        request: Request,
        name: str,
        *,
        state: str = "",
        text: str = "",
        source: str = "",
        cursor: str | None = None,
    ) -> Response:
        base, sources = find_base(services, name)
        params = {"state": state if state in STATES else "", "text": text.strip(), "source": source}
        here = f"{ACTIVE}/{name}/documents"
        lines, next_cursor = _find_lines(services, name, params, cursor, has_live=base is not None)
        page = DocumentsPage(
            frame=renderer.frame(request, f"Documents of {name}", ACTIVE),
            head=make_head(name, base.version if base else None, "documents"),
            lines=lines,
            states=_states(here, sources, params),
            state=params["state"],
            text=text,
            source=source,
            sources=tuple(each.name for each in sources),
            is_narrowed=any(params.values()),
            first_href=link(here, params) if cursor else None,
            next_href=link(here, params, cursor=next_cursor) if next_cursor else None,
        )
        return renderer.show(page)


def _add_document(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(f"{ACTIVE}/{{name}}/documents/{{path:path}}")
    @needs(Permission.KNOWLEDGE_READ)
    def show_document(request: Request, name: str, path: str) -> Response:
        base, _ = find_base(services, name)
        version = base.version if base else None
        return renderer.show(
            _document_page(services, renderer, request, make_head(name, version, "documents"), path)
        )

    @router.get(f"{ACTIVE}/{{name}}/uses")
    @needs(Permission.KNOWLEDGE_READ, Permission.TRACES_CONTENT)
    def show_uses(request: Request, name: str, path: str) -> Response:
        asked: Sequence[Asked] = ()
        why = ""
        try:
            asked = quality_of(services).reports.uses(name, path, days=DAYS)
        except PenstockError as error:
            why = say_error(error)
        frame = renderer.frame(request, path, ACTIVE)
        return renderer.show(UsesPage(frame=frame, path=path, asked=tuple(asked), why_not=why))


def _document_page(
    services: ConsoleServices, renderer: Renderer, request: Request, head: BaseHead, path: str
) -> DocumentPage:
    name = head.name
    details: DocumentDetails | None = None
    document: DocumentText | None = None
    passages = []
    with suppress(UnknownItem):
        details = services.sources.document(name, path)
    try:
        document = services.knowledge.read_document(name, path)
        passages = services.knowledge.list_passages(name, path)
    except (UnknownDocument, UnknownKnowledge):
        if details is None:
            raise NotFound(
                f"{name!r} holds no document {path!r}.", hint="Its list of documents can be searched."
            ) from None
    counts = [each.n_tokens for each in passages]
    live = next((each for each in details.versions if each.is_live), None) if details else None
    told: Mapping[str, Any] = (
        document.properties.values if document else (live.properties or {}).get("values", {}) if live else {}
    )
    readers = document.properties.readers if document else None
    return DocumentPage(
        frame=renderer.frame(request, path, ACTIVE),
        head=head,
        path=path,
        url=document.url if document and (document.url or "").startswith(("http://", "https://")) else None,
        document=document,
        pieces=cut_pieces(document.text, passages) if document else (),
        n_passages=len(passages),
        n_tokens=sum(each or 0 for each in counts) if counts and None not in counts else None,
        details=details,
        properties=tuple((key, _say_value(value)) for key, value in told.items()),
        readers=None if readers is None else tuple(readers),
        subjects=tuple(document.properties.subjects) if document else (),
        uses_href=link(f"{ACTIVE}/{name}/uses", {"path": path}),
    )


def _find_lines(
    services: ConsoleServices, base: str, params: Mapping[str, str], cursor: str | None, *, has_live: bool
) -> tuple[tuple[DocumentLine, ...], str | None]:
    """Return a page of documents, and where the next one begins."""
    state, text, source = params["state"], params["text"], params["source"]
    known = services.sources.list_sources(base)
    if not known:  # of before there were sources
        documents = services.knowledge.list_documents(base) if has_live else ()
        lines = [_line_of_document(base, each) for each in documents if text.lower() in each.path.lower()]
        return tuple(each for each in lines if state in {"", each.state}), None
    found = services.sources.list_items(
        base,
        source=source or None,
        states=[each for each in STATES if each == state],
        text=text or None,
        cursor=cursor,
        limit=ROWS,
    )
    return tuple(_line_of_item(services, base, each) for each in found.items), found.next_cursor


def _line_of_item(services: ConsoleServices, base: str, item: ItemRow) -> DocumentLine:
    versions = services.sources.document(base, item.path).versions if item.state != "left_out" else []
    newest = next((each for each in versions if each.is_live), versions[0] if versions else None)
    is_known = bool(versions) or item.state == "live"
    problems = list(newest.problems) if newest else []
    return DocumentLine(
        path=item.path,
        href=f"{ACTIVE}/{base}/documents/{quote(item.path)}" if is_known else None,
        title=newest.title if newest else None,
        state=item.state,
        word=STATE_WORDS[item.state],
        reason=item.reason or (problems[0] if problems else ""),
        source=item.source,
        n_passages=newest.n_passages if newest and item.state != "gone" else None,
        n_problems=len(problems),
        size_bytes=item.size_bytes,
        changed_ns=item.changed_ns,
    )


def _line_of_document(base: str, row: DocumentRow) -> DocumentLine:
    state = "unreadable" if row.error else "live"
    return DocumentLine(
        path=row.path,
        href=f"{ACTIVE}/{base}/documents/{quote(row.path)}",
        title=row.title,
        state=state,
        word=STATE_WORDS[state],
        reason=row.error or (row.problems[0] if row.problems else ""),
        source=row.source,
        n_passages=row.n_passages,
        n_problems=len(row.problems),
        size_bytes=row.size_bytes,
        changed_ns=row.created_ns,
    )


def _states(
    here: str, sources: Sequence[SourceRow], params: Mapping[str, object]
) -> tuple[tuple[str, str, int | None, str], ...]:
    counted = [each for each in sources if not params["source"] or each.name == params["source"]]
    every = sum(sum(each.counts.values()) for each in counted) if sources else None
    lines: list[tuple[str, str, int | None, str]] = [("", "all", every, link(here, params, state=""))]
    for state in STATES:
        number = sum(each.counts.get(state, 0) for each in counted) if sources else None
        lines.append((state, STATE_WORDS[state], number, link(here, params, state=state)))
    return tuple(lines)


def _say_value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
