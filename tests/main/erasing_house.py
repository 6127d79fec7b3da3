"""A home with a knowledge base over several kinds of documents, and copies of one person's text in every place."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import insert, text

from penstock.apps.handbook import declare_handbook
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.knowledge.erasure.keep_out import KeepOut
from penstock.knowledge.erasure.service import KnowledgeErasures
from penstock.knowledge.erasure.types import KnowledgeErasure, Target
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.versions import RegistryVersions
from penstock.main.knowledge_erasing import join_knowledge_erasures
from penstock.main.rooms import Rooms
from penstock.main.upkeeping import create_upkeep
from penstock.spec.home import Home
from penstock.spec.knowledge import Recipe
from penstock.spec.spans import FOREIGN_MARK
from penstock.store.control.engine import open_control
from penstock.store.control.tables.jobs import job_logs, jobs
from penstock.store.control.tables.knowledge import knowledge_feedback
from penstock.store.response_cache import KeptReply, ResponseStore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.collector import Collector
from penstock.traces.upkeep.receipts import read_content
from penstock.traces.upkeep.seal import PrivacyKey
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.upkeep.types import Receipt
from tests.fixtures.spans import T0, make_span
from tests.knowledge.embedders import HashingEmbedder
from tests.knowledge.inline_pool import InlinePool
from tests.knowledge.parse.builders import make_docx, make_pdf

CANARY = "zinnober-quastenflosser-7731"
WORD = "astenfl"
"""As an index of words holds it: words by their stems, without what they share with the word before."""
SENTENCE = f"The patient of bed four is called {CANARY} and sleeps badly."
OTHERS = "Adults need seven to nine hours of sleep a night, and quiet rooms help."


@dataclass
class Kept:
    """A home at work."""

    home: Home
    rooms: Rooms
    store: DuckDBSpanStore
    collector: Collector
    upkeep: UpkeepService
    knowledge: KnowledgeService
    sources: SourceService
    erasures: KnowledgeErasures
    embedder: HashingEmbedder
    documents: Path
    database: Path
    published: list[int] = field(default_factory=list)

    def take(self, *spans: Any) -> None:
        writer = SpoolWriter(self.home.spool / f"gateway-{threading.get_ident()}")
        for span in spans:
            writer.append(encode_span(span))
        writer.close()
        self.collector.run_once()

    def erase(self, target: Target, **more: Any) -> Receipt:
        asked = self.erasures.submit(target, reason="ticket 4711", actor="admin", **more)
        return self.finish(asked)

    def finish(self, asked: KnowledgeErasure) -> Receipt:
        self.erasures.carry_out_waiting()
        done = self.erasures.get(asked.id)
        assert done.state == "done", done.error
        assert done.receipt is not None
        return read_content(self.upkeep.erasures.receipts.get(done.receipt).content)

    def find(self, query: str, **more: Any) -> set[str]:
        return {hit.document for hit in self.knowledge.retrieve("ward", query, 20, **more).hits}


@contextmanager
def open_kept(root: Path, migrated: Path) -> Iterator[Kept]:
    """Open a home below a folder, new or as it was left."""
    home = Home(root=root / "home")
    rooms = Rooms(home, environ={})
    if not home.control_db.exists():
        home.control_db.parent.mkdir(parents=True, exist_ok=True)
        home.control_db.write_bytes(migrated.read_bytes())
    rooms.__dict__["engine"] = engine = open_control(f"sqlite:///{home.control_db}")
    store = DuckDBSpanStore(home.span_db)
    collector = Collector(home.spool, store, source=store)
    cache = ResponseCacheService(home.cache, lambda: None, {})
    upkeep = create_upkeep(rooms, store, collector, cache)
    key = PrivacyKey.load(home.privacy_key)
    sources = SourceService(engine, rooms.blobs, kept_out=KeepOut(engine, lambda: key.digest))
    embedder = HashingEmbedder()
    knowledge = KnowledgeService(
        engine,
        rooms.blobs,
        home.indexes,
        embedder,
        versions=RegistryVersions(rooms.registry),
        sources=sources,
        is_used_elsewhere=rooms.registry.is_artefact,
        make_pool=InlinePool,
    )
    published: list[int] = []
    rooms.publish_snapshot = lambda **_: published.append(1)  # type: ignore[method-assign,assignment,return-value,misc]
    erasures = join_knowledge_erasures(
        rooms,
        upkeep,
        store,
        collector,
        cache,
        knowledge=knowledge,
        sources=sources,
        list_apps=lambda: [declare_handbook(model="pocket", knowledge="ward", name="ward")],
    )
    try:
        yield Kept(
            home, rooms, store, collector, upkeep, knowledge, sources, erasures, embedder, root / "docs",
            root / "records.db", published,
        )  # fmt: skip
    finally:
        collector.close()
        store.close()
        rooms.close()


def write_documents(kept: Kept) -> None:
    """Leave the text in a PDF, a Word file, Markdown and a row of a database, beside documents of others."""
    folder = kept.documents
    folder.mkdir()

    def write_pdf(file: Any) -> None:
        file.multi_cell(0, 8, SENTENCE)

    def write_docx(file: Any) -> None:
        file.add_heading("Report", 1)
        file.add_paragraph(SENTENCE)

    (folder / "bed-four.pdf").write_bytes(make_pdf(write_pdf))
    (folder / "bed-four.docx").write_bytes(make_docx(write_docx))
    (folder / "bed-four.md").write_text(f"# Bed four\n\n{SENTENCE}\n\nThe window stays shut.\n")
    (folder / "sleep.md").write_text(f"# Sleep\n\n{OTHERS}\n")
    (folder / "food.md").write_text("# Food\n\nBread at seven, soup at noon.\n")
    engine = sqlalchemy.create_engine(f"sqlite:///{kept.database}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER, title TEXT, text TEXT)"))
        for number, body in ((1, SENTENCE), (2, "The lamp of bed nine is broken.")):
            connection.execute(
                text("INSERT INTO notes VALUES (:n, :t, :b)"), {"n": number, "t": f"Note {number}", "b": body}
            )
    engine.dispose()


def furnish(kept: Kept) -> list[str]:
    """Ingest, build a candidate, search, and leave copies in every place; return the ids of passages that hold it."""
    write_documents(kept)
    kept.sources.add("ward", "files", "folder", {"location": str(kept.documents)})
    query = "SELECT id, title, text FROM notes ORDER BY id"
    kept.sources.add(
        "ward", "records", "database", {"location": f"sqlite:///{kept.database}", "query": query}
    )
    kept.knowledge.ingest("ward")
    (kept.documents / "food.md").write_text("# Food\n\nBread at eight, soup at noon.\n")
    kept.knowledge.ingest("ward")
    kept.knowledge.build_candidate("ward", "words", Recipe())
    hits = [hit for hit in kept.knowledge.retrieve("ward", "bed four", 20).hits if CANARY in hit.text]
    ids = [hit.passage_id for hit in hits]
    _leave_traces(kept, ids)
    _leave_rows(kept)
    cache = ResponseStore(kept.home.cache)
    for number, (route, body) in enumerate(
        (
            ("chat", f'{{"content": "{SENTENCE}"}}'),
            ("ward", "she sleeps badly"),
            ("stream", 'data: {"content":"zinnober-quasten"}\n\ndata: {"content":"flosser-7731"}\n\n'),
            ("chat", "the moon is far"),
        )
    ):
        reply = KeptReply(
            project="default", route=route, stored_ns=T0 - 10**12, expires_ns=2**62, content_type=b"text/plain",
            body=body.encode() * (1 if route == "stream" else 30), is_stream=route == "stream",
        )  # fmt: skip
        cache.put(number.to_bytes(32, "big"), reply)
    cache.close()
    (kept.home.logs).mkdir(exist_ok=True)
    (kept.home.logs / "control.log").write_text(f'{{"path": "bed-four.pdf", "text": "{SENTENCE}"}}\n')
    return ids


def _leave_traces(kept: Kept, ids: list[str]) -> None:
    found = {"hits": [{"passage_id": each, "document": "bed-four.md"} for each in ids]}
    call = make_span(1, trace=1, kind="llm", route="ward", output={"text": "somebody there sleeps badly"})
    kept.take(
        call,
        make_span(2, trace=1, parent_id=call.span_id, kind="retrieval", output=found),
        make_span(1, trace=2, kind="llm", input={"messages": [{"role": "user", "content": SENTENCE}]}),
        make_span(
            1, trace=3, attributes={FOREIGN_MARK: 2, "retrieval.documents.0.document.content": SENTENCE}
        ),
        make_span(1, trace=4, kind="llm", input={"text": "how far is the moon"}, output={"text": "far"}),
    )
    forward = SpoolWriter(kept.home.forward / "elsewhere")
    forward.append_durable([encode_span(make_span(1, trace=5, input=SENTENCE))])
    forward.close()


def _leave_rows(kept: Kept) -> None:
    job = {
        "id": "job_1", "kind": "knowledge.ingest", "spec": "{}", "state": "done", "message": "", "attempts": 1,
        "max_attempts": 1, "not_before_ns": 0, "is_cancel_requested": False, "created_ns": 1, "updated_ns": 1, "fence": 1,
        "result": '{"dropped": [{"path": "bed-four.pdf", "reason": "scan"}]}',
    }  # fmt: skip
    with kept.rooms.engine.begin() as connection:
        connection.execute(insert(jobs).values(job))
        connection.execute(
            insert(job_logs).values(job_id="job_1", at_ns=1, attempt=1, text=f"read {SENTENCE}")
        )
        for number, (actor, document) in enumerate((("user:ada", "sleep.md"), ("user:otto", "bed-four.md"))):
            connection.execute(
                insert(knowledge_feedback).values(
                    id=f"fb_{number}", base="ward", question="who sleeps badly", kind="thumb", document=document,
                    passage_id=None, actor=actor, made_ns=1,
                )
            )  # fmt: skip
