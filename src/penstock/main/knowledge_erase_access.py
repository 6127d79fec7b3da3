"""Erasing documents for the command line: asked of the running control process, or done on the stopped home itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from penstock.base.errors import UpstreamError
from penstock.base.late import late_imports
from penstock.knowledge.erasure.types import FoundTarget, KeptOutRow, KnowledgeErasure, Target
from penstock.main.control_client import ControlClient
from penstock.traces.upkeep.seal import SignedReceipt

with late_imports():
    from penstock.knowledge.erasure import service as erasure_service
    from penstock.traces.upkeep import document_receipts
    from penstock.traces.upkeep import service as upkeep_service
    from penstock.traces.upkeep import types as upkeep_types

COMMAND_LINE = "command line"
POLL_S = 0.25
_ROOT = "/api/v1/knowledge-erasures"


class DocumentErasureAccess(Protocol):
    """What commands ask."""

    def find(self, target: Target) -> FoundTarget:
        """Return what there is to be erased."""

    def erase(self, target: Target, reason: str, *, keep_out: bool) -> KnowledgeErasure:
        """Erase, and return once it is done."""

    def replay(self, signed: SignedReceipt) -> list[KnowledgeErasure]:
        """Erase again what a receipt says was erased, and return once it is done."""

    def verify(self, signed: SignedReceipt, target: Target | None) -> upkeep_types.Verification:
        """Check a receipt, and whether it is about what was named."""

    def kept_out(self, base: str | None, *, let_in: str | None = None) -> list[KeptOutRow]:
        """Return what no ingest brings back, after letting a path or a digest of the list in again."""


class RemoteDocuments:
    """Asks control."""

    def __init__(self, client: ControlClient, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    def find(self, target: Target) -> FoundTarget:
        """Return what there is to be erased."""
        told = self._client.post(_ROOT, {**msgspec.to_builtins(target), "dry_run": True})
        return msgspec.convert(told, FoundTarget)

    def erase(self, target: Target, reason: str, *, keep_out: bool) -> KnowledgeErasure:
        """Erase, and return once it is done."""
        body = {**msgspec.to_builtins(target), "reason": reason, "keep_out": keep_out}
        return self._wait(msgspec.convert(self._client.post(_ROOT, body), KnowledgeErasure))

    def replay(self, signed: SignedReceipt) -> list[KnowledgeErasure]:
        """Erase again what a receipt says was erased."""
        told = self._client.post(f"{_ROOT}/replay", {"receipt": msgspec.to_builtins(signed)})
        return [self._wait(each) for each in msgspec.convert(told["erasures"], list[KnowledgeErasure])]

    def verify(self, signed: SignedReceipt, target: Target | None) -> upkeep_types.Verification:
        """Check a receipt."""
        body: dict[str, Any] = {"receipt": msgspec.to_builtins(signed)}
        if target is not None:
            body["target"] = msgspec.to_builtins(target)
        return msgspec.convert(self._client.post(f"{_ROOT}/verify", body), upkeep_types.Verification)

    def kept_out(self, base: str | None, *, let_in: str | None = None) -> list[KeptOutRow]:
        """Return what no ingest brings back."""
        if let_in is not None:
            self._client.post(f"{_ROOT}/let-in", {"base": base, **_name(let_in)})
        query = {} if base is None else {"base": base}
        return msgspec.convert(self._client.get(f"{_ROOT}/kept-out", **query)["kept_out"], list[KeptOutRow])

    def _wait(self, asked: KnowledgeErasure) -> KnowledgeErasure:
        while asked.state != "done":
            if asked.error is not None:
                raise _unfinished(asked)
            self._sleep(POLL_S)
            asked = msgspec.convert(self._client.get(f"{_ROOT}/{asked.id}"), KnowledgeErasure)
        return asked


class LocalDocuments:
    """Does it here."""

    def __init__(
        self, upkeep: upkeep_service.UpkeepService, erasures: erasure_service.KnowledgeErasures
    ) -> None:
        self._upkeep = upkeep
        self._erasures = erasures
        self.find = erasures.find

    def erase(self, target: Target, reason: str, *, keep_out: bool) -> KnowledgeErasure:
        """Erase, and return once it is done."""
        return self._finish(
            self._erasures.submit(target, reason=reason, actor=COMMAND_LINE, keep_out=keep_out)
        )

    def replay(self, signed: SignedReceipt) -> list[KnowledgeErasure]:
        """Erase again what a receipt says was erased."""
        content = document_receipts.require_own(self._upkeep.erasures.receipts, signed)
        asked = self._erasures.replay(
            content.kind.removeprefix(document_receipts.DOCUMENTS),
            content.subject_digest,
            reason=document_receipts.tell_replay(content),
            actor=COMMAND_LINE,
        )
        return [self._finish(each) for each in asked]

    def verify(self, signed: SignedReceipt, target: Target | None) -> upkeep_types.Verification:
        """Check a receipt."""
        return document_receipts.check_receipt(
            self._upkeep.erasures.receipts, signed, target, self._erasures.digest_of
        )

    def kept_out(self, base: str | None, *, let_in: str | None = None) -> list[KeptOutRow]:
        """Return what no ingest brings back."""
        if let_in is not None:
            self._erasures.kept_out.let_in(base or "", **_name(let_in))
        return self._erasures.kept_out.list_rows(base)

    def _finish(self, asked: KnowledgeErasure) -> KnowledgeErasure:
        self._erasures.carry_out_waiting()
        done = self._erasures.get(asked.id)
        if done.state != "done":
            raise _unfinished(done)
        return done


def _name(let_in: str) -> dict[str, str]:
    """A digest of the list has 32 hex characters; everything else is a path."""
    is_digest = len(let_in) == 32 and not let_in.strip("0123456789abcdef")
    return {"digest" if is_digest else "path": let_in}


def _unfinished(asked: KnowledgeErasure) -> UpstreamError:
    return UpstreamError(
        f"The erasure {asked.id} is not done yet: {asked.error}",
        hint="It is kept, and tried again while Penstock runs.",
    )
