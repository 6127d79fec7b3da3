"""Privacy: what is stored of a user, session or trace, handing it out, erasing it, and the receipts.

The name of a subject is only ever posted, so that it stands in no address and no history of a browser.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.formats import format_count
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.upkeep_types import Subject, SubjectRows
from penstock.traces.upkeep.types import Erasure, Receipt

ACTIVE = "/configuration"
KINDS: dict[str, str] = {"user": "User", "session": "Session", "trace": "Trace"}
LIST_LIMIT = 100


@dataclass(frozen=True, kw_only=True)
class ReceiptLine:
    """One receipt in the list."""

    receipt: Receipt
    removed: str
    n_left: int
    """Files in which the name was still found."""


@dataclass(frozen=True, kw_only=True)
class PrivacyPage(Page):
    """The search for a subject, what was found, what is under way, and receipts."""

    template: ClassVar[str] = "privacy.html"
    kinds: tuple[tuple[str, str], ...]
    kind: str
    subject_id: str
    reason: str
    found: tuple[tuple[str, str], ...] | None
    """Counts of what is stored; None before anybody has looked."""
    is_nothing: bool
    problem: str | None
    hint: str | None
    waiting: tuple[Erasure, ...]
    receipts: tuple[ReceiptLine, ...]


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/privacy` and below."""
    router = APIRouter(include_in_schema=False)
    upkeep = services.upkeep

    def show(
        request: Request,
        *,
        notice: str | None = None,
        found: SubjectRows | None = None,
        error: PenstockError | None = None,
    ) -> Response:
        fields = request.state.caller.form if found is not None or error is not None else {}
        page = PrivacyPage(
            frame=renderer.frame(request, "Privacy", ACTIVE, notice=notice),
            kinds=tuple(KINDS.items()),
            kind=fields.get("kind", "user"),
            subject_id=fields.get("id", ""),
            reason=fields.get("reason", ""),
            found=None if found is None else _say_found(found),
            is_nothing=found is not None and not (found.n_spans or found.n_scores or found.n_ledger_rows),
            problem=error.message if error else None,
            hint=error.hint if error else None,
            waiting=tuple(each for each in upkeep.erasures.list_newest() if each.state != "done"),
            receipts=tuple(_line_of(each) for each in upkeep.erasures.receipts.list(limit=LIST_LIMIT)),
        )
        return renderer.show(page, status=error.status if error else 200)

    @router.get("/privacy")
    @needs(Permission.TRACES_ERASE)
    def show_privacy(request: Request, notice: str | None = None) -> Response:
        return show(request, notice=notice)

    @router.post("/privacy")
    @needs(Permission.TRACES_ERASE)
    def look(request: Request) -> Response:
        try:
            return show(request, found=upkeep.erasures.find(_subject_of(request)))
        except PenstockError as error:
            return show(request, error=error)

    @router.post("/privacy/export")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT, Permission.TRACES_ERASE)
    def export(request: Request) -> Response:
        try:
            subject = _subject_of(request)
            pieces = upkeep.handout.stream(subject)
        except PenstockError as error:
            return show(request, error=error)
        headers = {"content-disposition": f'attachment; filename="{subject.kind}.zip"'}
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    @router.post("/privacy/erase")
    @needs(Permission.TRACES_ERASE)
    def erase(request: Request) -> Response:
        caller = request.state.caller
        try:
            upkeep.erasures.submit(
                _subject_of(request), reason=caller.form.get("reason", "").strip(), actor=actor_of(caller)
            )
        except PenstockError as error:
            return show(request, error=error)
        told = "It is being erased; the receipt stands below as soon as it is done."
        return RedirectResponse(f"/privacy?{urlencode({'notice': told})}", status_code=303)

    @router.get("/privacy/receipts/{number}")
    @needs(Permission.TRACES_ERASE)
    def download_receipt(number: int) -> Response:
        signed = upkeep.erasures.receipts.get(number)
        headers = {"content-disposition": f'attachment; filename="receipt-{number}.json"'}
        body = msgspec.json.format(msgspec.json.encode(signed), indent=2)
        return Response(body, media_type="application/json", headers=headers)

    return router


def _subject_of(request: Request) -> Subject:
    form = request.state.caller.form
    kind: Literal["user", "session", "trace"] = form.get("kind", "user")
    return Subject(kind=kind, id=form.get("id", "").strip())


def _say_found(found: SubjectRows) -> tuple[tuple[str, str], ...]:
    return (
        ("traces", format_count(len(found.trace_ids))),
        ("spans", format_count(found.n_spans)),
        ("inputs and outputs", format_count(found.n_payloads)),
        ("judgements", format_count(found.n_scores)),
        ("ledger rows", format_count(found.n_ledger_rows)),
    )


def _line_of(receipt: Receipt) -> ReceiptLine:
    store = next((each.removed for each in receipt.places if each.place == "span store"), {})
    others = sum(n for each in receipt.places if each.place != "span store" for n in each.removed.values())
    told = f"{format_count(store.get('traces', 0))} traces, {format_count(store.get('spans', 0))} spans"
    if others:
        told += f", {format_count(others)} things elsewhere"
    return ReceiptLine(receipt=receipt, removed=told, n_left=len(receipt.sweep.found))
