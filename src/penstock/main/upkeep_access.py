"""Upkeep for the command line: through the running control process, else on the stopped home itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from penstock.base.errors import UpstreamError
from penstock.base.late import late_imports
from penstock.deploy.snapshots import read_snapshot
from penstock.main.control_client import ControlClient
from penstock.main.home_files import create_home
from penstock.main.instance import own_home, running_instance
from penstock.providers.prices import PriceBook
from penstock.spec.home import Home
from penstock.store.spans.upkeep_types import Compaction, Expired, Subject, SubjectRows
from penstock.telemetry.edge import SnapshotEdge
from penstock.traces.upkeep.seal import SignedReceipt

with late_imports():
    from penstock.deploy import kept_replies
    from penstock.gateway import journal
    from penstock.knowledge.erasure import service as erasure_service
    from penstock.main import (
        knowledge_erase_access,
        knowledge_erasing,
        knowledge_rooms,
        stopped_spans,
        upkeeping,
    )
    from penstock.store.spans import duckdb as duckdb_store
    from penstock.traces import collector as collecting
    from penstock.traces.upkeep import retention
    from penstock.traces.upkeep import service as upkeep_service
    from penstock.traces.upkeep import types as upkeep_types

COMMAND_LINE = "command line"
"""The actor of what is done to a stopped home."""
LONG_S = 3600.0
POLL_S = 0.25


class UpkeepAccess(Protocol):
    """What the command line asks for; the words of `UpkeepService` and its parts."""

    def report(self) -> upkeep_service.UpkeepReport:
        """Return how things stand."""

    def count_old(self) -> Expired:
        """Return what is too old."""

    def expire(self) -> retention.RetentionRun:
        """Delete what is too old."""

    def compact(self) -> Compaction:
        """Write the span store anew."""


class PrivacyAccess(Protocol):
    """What the command line asks about subjects."""

    def find(self, subject: Subject) -> SubjectRows:
        """Return what is stored of a subject."""

    def hand_out(self, subject: Subject) -> Iterator[bytes]:
        """Yield the ZIP of what is stored."""

    def erase(self, subject: Subject, reason: str) -> upkeep_types.Erasure:
        """Erase, and return once it is done."""

    def replay(self, signed: SignedReceipt) -> list[upkeep_types.Erasure]:
        """Erase again what a receipt says was erased, and return once it is done."""


class ReceiptAccess(Protocol):
    """What the command line asks about receipts."""

    def list_receipts(self) -> list[upkeep_types.Receipt]:
        """Return the newest receipts."""

    def get_receipt(self, number: int) -> SignedReceipt:
        """Return one with its signature."""

    def verify(self, signed: SignedReceipt, subject: Subject | None) -> upkeep_types.Verification:
        """Check one."""


@contextmanager
def open_upkeep(home: Home) -> Iterator[_Remote | _Local]:
    """Yield access to the upkeep of `home`, running or not. A stopped home cannot be started meanwhile."""
    if running_instance(home) is not None:
        yield _Remote(ControlClient(home))
        return
    stopped_spans.check_span_file(home)
    create_home(home)
    with own_home(home):
        rooms = knowledge_rooms.KnowledgeRooms(home)
        store = duckdb_store.DuckDBSpanStore(home.span_db)
        collector = collecting.Collector(home.spool, store, source=store)
        edge = SnapshotEdge(home.snapshot)
        journal.recover_journals(
            home.journal,
            lambda spans: (store.append([edge.admit(span)[0] for span in spans]), None)[1],
            PriceBook(),
        )
        cache = kept_replies.ResponseCacheService(
            home.cache, lambda: read_snapshot(home.snapshot), os.environ
        )
        try:
            upkeep = upkeeping.create_upkeep(rooms, store, collector, cache)
            yield _Local(
                upkeep, knowledge_erasing.create_knowledge_erasures(rooms, upkeep, store, collector, cache)
            )
        finally:
            collector.close()
            store.close()
            rooms.close()


class _Remote:
    def __init__(self, client: ControlClient, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep
        self.documents: knowledge_erase_access.DocumentErasureAccess = knowledge_erase_access.RemoteDocuments(
            client
        )

    def report(self) -> upkeep_service.UpkeepReport:
        return msgspec.convert(self._client.get("/api/v1/upkeep"), upkeep_service.UpkeepReport)

    def count_old(self) -> Expired:
        told = self._client.post("/api/v1/upkeep/expire", {"dry_run": True}, timeout_s=LONG_S)
        return msgspec.convert(told, Expired)

    def expire(self) -> retention.RetentionRun:
        told = self._client.post("/api/v1/upkeep/expire", {}, timeout_s=LONG_S)
        return msgspec.convert(told, retention.RetentionRun)

    def compact(self) -> Compaction:
        return msgspec.convert(self._client.post("/api/v1/upkeep/compact", {}, timeout_s=LONG_S), Compaction)

    def find(self, subject: Subject) -> SubjectRows:
        body = {**_body(subject), "dry_run": True}
        return msgspec.convert(self._client.post("/api/v1/privacy/erase", body), SubjectRows)

    def hand_out(self, subject: Subject) -> Iterator[bytes]:
        return self._client.stream_post("/api/v1/privacy/export", _body(subject))

    def erase(self, subject: Subject, reason: str) -> upkeep_types.Erasure:
        told = self._client.post("/api/v1/privacy/erase", {**_body(subject), "reason": reason})
        return self._wait(msgspec.convert(told, upkeep_types.Erasure))

    def replay(self, signed: SignedReceipt) -> list[upkeep_types.Erasure]:
        told = self._client.post("/api/v1/privacy/replay", {"receipt": msgspec.to_builtins(signed)})
        return [self._wait(each) for each in msgspec.convert(told["erasures"], list[upkeep_types.Erasure])]

    def list_receipts(self) -> list[upkeep_types.Receipt]:
        return msgspec.convert(
            self._client.get("/api/v1/privacy/receipts")["receipts"], list[upkeep_types.Receipt]
        )

    def get_receipt(self, number: int) -> SignedReceipt:
        return msgspec.convert(self._client.get(f"/api/v1/privacy/receipts/{number}"), SignedReceipt)

    def verify(self, signed: SignedReceipt, subject: Subject | None) -> upkeep_types.Verification:
        body: dict[str, Any] = {"receipt": msgspec.to_builtins(signed)}
        if subject is not None:
            body["subject"] = _body(subject)
        return msgspec.convert(self._client.post("/api/v1/privacy/verify", body), upkeep_types.Verification)

    def _wait(self, asked: upkeep_types.Erasure) -> upkeep_types.Erasure:
        while asked.state != "done":
            if asked.error is not None:
                raise _unfinished(asked)
            self._sleep(POLL_S)
            asked = msgspec.convert(
                self._client.get(f"/api/v1/privacy/erasures/{asked.id}"), upkeep_types.Erasure
            )
        return asked


class _Local:
    def __init__(
        self, service: upkeep_service.UpkeepService, erasures: erasure_service.KnowledgeErasures
    ) -> None:
        self._service = service
        self.documents: knowledge_erase_access.DocumentErasureAccess = knowledge_erase_access.LocalDocuments(
            service, erasures
        )
        self.report = service.report
        self.count_old = service.retention.count
        self.expire = service.retention.run
        self.compact = service.compact
        self.find = service.erasures.find
        self.hand_out = service.handout.stream
        self.list_receipts = service.erasures.receipts.list
        self.get_receipt = service.erasures.receipts.get
        self.verify = service.erasures.receipts.verify

    def erase(self, subject: Subject, reason: str) -> upkeep_types.Erasure:
        asked = self._service.erasures.submit(subject, reason=reason, actor=COMMAND_LINE)
        return self._carry_out(asked)

    def replay(self, signed: SignedReceipt) -> list[upkeep_types.Erasure]:
        asked = self._service.erasures.replay(signed, actor=COMMAND_LINE)
        return [self._carry_out(each) for each in asked]

    def _carry_out(self, asked: upkeep_types.Erasure) -> upkeep_types.Erasure:
        self._service.erasures.carry_out_waiting()
        self._service.erasures.follow_late()
        done = self._service.erasures.get(asked.id)
        if done.state != "done":
            raise _unfinished(done)
        return done


def _body(subject: Subject) -> dict[str, Any]:
    return {"kind": subject.kind, "id": subject.id}


def _unfinished(asked: upkeep_types.Erasure) -> UpstreamError:
    return UpstreamError(
        f"The erasure {asked.id} is not done yet: {asked.error}",
        hint="It is kept, and tried again while Penstock runs: penstock privacy list",
    )
