"""Privacy over REST: what is stored of a user, session or trace, handing it out, erasing it, and receipts."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.erasure import MAX_ID, MAX_REASON
from penstock.traces.upkeep.receipts import read_signed

Limit = Annotated[int, Query(ge=1, le=500)]


class SubjectBody(BaseModel):
    """Whose or which record."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["user", "session", "trace"]
    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]

    def subject(self) -> Subject:
        """Return it as the store knows it."""
        return Subject(kind=self.kind, id=self.id)


class EraseBody(SubjectBody):
    """Body of an erasure."""

    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    """Stands in the receipt, so it must not name the subject."""
    dry_run: bool = False
    """Only count."""


class ReplayBody(BaseModel):
    """A receipt."""

    model_config = ConfigDict(extra="forbid")
    receipt: dict[str, str]
    """As it was given out."""


class VerifyBody(ReplayBody):
    """Body of a check of a receipt."""

    subject: SubjectBody | None = None
    """Who it is said to be about."""


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/privacy`."""
    router = APIRouter(prefix="/api/v1/privacy", tags=["privacy"])
    _add_subjects(router, services)
    _add_receipts(router, services)
    return router


def _add_subjects(router: APIRouter, services: ControlServices) -> None:
    upkeep = services.upkeep

    @router.post("/export")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def export(body: SubjectBody) -> Response:
        """Everything that is stored of a subject, as a ZIP file of JSON lines with a manifest."""
        pieces = upkeep.handout.stream(body.subject())
        headers = {"content-disposition": f'attachment; filename="{body.kind}.zip"'}
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    @router.post("/erase")
    @needs(Permission.TRACES_ERASE)
    def erase(body: EraseBody, request: Request) -> Response:
        """Erase a subject wherever something of it lies, in the background; or only count what there is."""
        if body.dry_run:
            return json_reply(upkeep.erasures.find(body.subject()))
        asked = upkeep.erasures.submit(
            body.subject(), reason=body.reason, actor=actor_of(request.state.caller)
        )
        return json_reply(asked, status=202)

    @router.get("/erasures")
    @needs(Permission.TRACES_ERASE)
    def list_erasures(limit: Limit = 50) -> Response:
        """Erasures, the newest first."""
        return json_reply({"erasures": upkeep.erasures.list_newest(limit=limit)})

    @router.get("/erasures/{erasure_id}")
    @needs(Permission.TRACES_ERASE)
    def show_erasure(erasure_id: str) -> Response:
        """One erasure and how far it is."""
        return json_reply(upkeep.erasures.get(erasure_id))


def _add_receipts(router: APIRouter, services: ControlServices) -> None:
    receipts = services.upkeep.erasures.receipts

    @router.get("/receipts")
    @needs(Permission.TRACES_ERASE)
    def list_receipts(limit: Limit = 50) -> Response:
        """Receipts, the newest first."""
        return json_reply({"receipts": receipts.list(limit=limit)})

    @router.get("/receipts/{number}")
    @needs(Permission.TRACES_ERASE)
    def show_receipt(number: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> Response:
        """One receipt with its signature: what to hand on and to keep."""
        return json_reply(receipts.get(number))

    @router.post("/replay")
    @needs(Permission.TRACES_ERASE)
    def replay(body: ReplayBody, request: Request) -> Response:
        """Erase again what a receipt says was erased, in a home that was restored from an older backup."""
        signed = read_signed(msgspec.json.encode(body.receipt))
        asked = services.upkeep.erasures.replay(signed, actor=actor_of(request.state.caller))
        return json_reply({"erasures": asked}, status=202)

    @router.post("/verify")
    @needs(Permission.TRACES_ERASE)
    def verify(body: VerifyBody) -> Response:
        """Whether a receipt is unchanged, this installation's, and about a subject."""
        signed = read_signed(msgspec.json.encode(body.receipt))
        subject = body.subject.subject() if body.subject is not None else None
        return json_reply(receipts.verify(signed, subject))
