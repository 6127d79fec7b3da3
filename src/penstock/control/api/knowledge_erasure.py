"""Erasing documents over REST: what there is, erasing it, what is kept out from then on, receipts carried out again."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.control.replies import json_reply
from penstock.control.services import ControlServices
from penstock.knowledge.erasure.errors import BadTarget
from penstock.knowledge.erasure.finding import MAX_VALUE
from penstock.knowledge.erasure.service import MAX_REASON
from penstock.knowledge.erasure.types import Target
from penstock.traces.upkeep.document_receipts import DOCUMENTS, check_receipt, require_own, tell_replay
from penstock.traces.upkeep.receipts import read_signed


class TargetBody(BaseModel):
    """What is to be erased."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["document", "subject", "text", "user"]
    value: Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]
    base: str | None = None
    """None: in every base; a document is always one of a base."""

    def target(self) -> Target:
        """Return it as the service knows it."""
        return Target(kind=self.kind, value=self.value, base=self.base)


class EraseBody(TargetBody):
    """Body of an erasure."""

    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    """Stands in the receipt, so it must not name what is erased."""
    keep_out: bool = True
    """Keep a document's path out too, whatever comes there; its bytes are kept out in any case."""
    dry_run: bool = False
    """Only tell what there is."""


class LetInBody(BaseModel):
    """What may come in again: a path, or a digest of the list."""

    model_config = ConfigDict(extra="forbid")
    base: str
    path: str | None = None
    digest: str | None = None


class ReceiptBody(BaseModel):
    """A receipt as it was given out, and what it is said to be about."""

    model_config = ConfigDict(extra="forbid")
    receipt: dict[str, str]
    target: TargetBody | None = None


def create_router(services: ControlServices) -> APIRouter:
    """Return the routes below `/api/v1/knowledge-erasures`."""
    router = APIRouter(prefix="/api/v1/knowledge-erasures", tags=["knowledge"])
    _add_receipts(router, services)
    _add_kept_out(router, services)
    _add_erasures(router, services)
    return router


def _add_erasures(router: APIRouter, services: ControlServices) -> None:
    erasures = services.knowledge_erasures

    @router.post("")
    @needs(Permission.KNOWLEDGE_WRITE, Permission.TRACES_ERASE)
    def erase(body: EraseBody, request: Request) -> Response:
        """Erase documents with everything said of them, in the background; or only tell what there is."""
        if body.dry_run:
            return json_reply(erasures.find(body.target()))
        asked = erasures.submit(
            body.target(), reason=body.reason, actor=actor_of(request.state.caller), keep_out=body.keep_out
        )
        return json_reply(asked, status=202)

    @router.get("")
    @needs(Permission.TRACES_ERASE)
    def list_erasures(limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Response:
        """Erasures of documents, the newest first."""
        return json_reply({"erasures": erasures.list_newest(limit=limit)})

    @router.get("/{erasure_id}")
    @needs(Permission.TRACES_ERASE)
    def show_erasure(erasure_id: str) -> Response:
        """One erasure and how far it is."""
        return json_reply(erasures.get(erasure_id))


def _add_kept_out(router: APIRouter, services: ControlServices) -> None:
    kept_out = services.knowledge_erasures.kept_out

    @router.get("/kept-out")
    @needs(Permission.KNOWLEDGE_READ)
    def list_kept_out(base: str | None = None) -> Response:
        """Keyed digests of what no ingest brings back."""
        return json_reply({"kept_out": kept_out.list_rows(base)})

    @router.post("/let-in")
    @needs(Permission.KNOWLEDGE_WRITE, Permission.TRACES_ERASE)
    def let_in(body: LetInBody) -> Response:
        """Let a path, or what a digest stands for, come in again with the next ingest."""
        if (body.path is None) == (body.digest is None):
            raise BadTarget("Say what may come in again.", hint="Name a path or a digest.")
        return json_reply({"let_in": kept_out.let_in(body.base, path=body.path, digest=body.digest)})


def _add_receipts(router: APIRouter, services: ControlServices) -> None:
    erasures, receipts = services.knowledge_erasures, services.upkeep.erasures.receipts

    @router.post("/verify")
    @needs(Permission.TRACES_ERASE)
    def verify(body: ReceiptBody) -> Response:
        """Whether a receipt is unchanged, this installation's, and about what was named."""
        signed = read_signed(msgspec.json.encode(body.receipt))
        target = None if body.target is None else body.target.target()
        return json_reply(check_receipt(receipts, signed, target, erasures.digest_of))

    @router.post("/replay")
    @needs(Permission.KNOWLEDGE_WRITE, Permission.TRACES_ERASE)
    def replay(body: ReceiptBody, request: Request) -> Response:
        """Erase again what a receipt says was erased, in a home that was restored from an older backup."""
        content = require_own(receipts, read_signed(msgspec.json.encode(body.receipt)))
        asked = erasures.replay(
            content.kind.removeprefix(DOCUMENTS),
            content.subject_digest,
            reason=tell_replay(content),
            actor=actor_of(request.state.caller),
        )
        return json_reply({"erasures": asked}, status=202)
