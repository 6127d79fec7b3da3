"""Documents as readers see them: whole, and only those they may read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from penstock.knowledge.errors import UnknownDocument, UnknownKnowledge
from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.reading import Reading
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChosenScope
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.store.control.tables.knowledge import knowledge_documents
from tests.knowledge.embedders import HashingEmbedder

EVERYONE = ChosenScope(principals=["everyone"])
FINANCE = ChosenScope(principals=["everyone", "group:finance"])


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Iterator[tuple[Engine, Reading]]:
    file = tmp_path / "control.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    engine = open_control(f"sqlite:///{file}")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "open.md").write_text("# Open\n\nFirst part.\n\n## More\n\nSecond part.\n")
    (folder / "pay.md").write_text("# Pay\n\nNobody else may know this.\n")
    blobs = BlobStore(str(tmp_path / "blobs"))
    knowledge = KnowledgeService(engine, blobs, tmp_path / "indexes", OneEmbedder(HashingEmbedder()))
    knowledge.ingest("handbook", folder)
    yield engine, Reading(engine, None)
    engine.dispose()


def restrict(engine: Engine, path: str, properties: Any) -> None:
    with engine.begin() as connection:
        wanted = knowledge_documents.c.path == path
        connection.execute(update(knowledge_documents).where(wanted).values(properties=properties))


def listed(reading: Reading, scope: ChosenScope, **page: Any) -> list[str]:
    found = reading.page_documents("handbook", **{"after": None, "limit": 9, **page}, scope=scope)
    return [each.path for each in found]


def test_a_document_is_read_whole(home: tuple[Engine, Reading]) -> None:
    read = home[1].read_document("handbook", "open.md", scope=EVERYONE)
    assert read.text.split() == ["First", "part.", "Second", "part."]
    assert (read.title, read.path) == ("Open", "open.md")


def test_documents_that_may_not_be_read_are_neither_listed_nor_read(home: tuple[Engine, Reading]) -> None:
    engine, reading = home
    restrict(engine, "pay.md", {"readers": ["group:finance"]})
    assert listed(reading, EVERYONE) == ["open.md"]
    with pytest.raises(UnknownDocument):
        reading.read_document("handbook", "pay.md", scope=EVERYONE)
    with pytest.raises(UnknownDocument):
        reading.read_document("handbook", "pay.md", scope=ChosenScope(principals=[]))
    assert listed(reading, FINANCE) == ["open.md", "pay.md"]
    assert reading.read_document("handbook", "pay.md", scope=FINANCE).text


def test_a_document_whose_readers_cannot_be_told_is_nobodys(home: tuple[Engine, Reading]) -> None:
    engine, reading = home
    restrict(engine, "pay.md", {"readers": "finance"})
    assert listed(reading, FINANCE) == ["open.md"]


def test_what_is_not_there_is_told(home: tuple[Engine, Reading]) -> None:
    with pytest.raises(UnknownDocument):
        home[1].read_document("handbook", "lost.md", scope=EVERYONE)
    with pytest.raises(UnknownKnowledge):
        home[1].page_documents("nothing", after=None, limit=9, scope=EVERYONE)


def test_counts_of_a_base_are_of_what_may_be_read(home: tuple[Engine, Reading]) -> None:
    """A number that grows when a hidden document comes tells of it."""
    engine, reading = home
    restrict(engine, "pay.md", {"readers": ["group:finance"]})

    def counts(scope: ChosenScope) -> list[tuple[int, int]]:
        return [(base.n_documents, base.n_passages) for base in reading.list_bases(scope=scope)]

    assert counts(EVERYONE) == counts(ChosenScope(principals=[])) == [(1, 2)]
    assert counts(FINANCE) == counts(ChosenScope()) == [(2, 3)]


def test_a_document_whose_readers_cannot_be_told_is_counted_for_nobody(home: tuple[Engine, Reading]) -> None:
    engine, reading = home
    restrict(engine, "pay.md", {"readers": "finance"})
    (base,) = reading.list_bases(scope=FINANCE)
    assert (base.n_documents, base.n_passages) == (1, 2)


def test_a_page_of_documents_goes_on_where_the_one_before_ended(home: tuple[Engine, Reading]) -> None:
    """Only the page is read: a base of a million documents is listed by its clients, page after page."""
    engine, reading = home
    assert listed(reading, FINANCE, limit=1) == ["open.md"]
    assert listed(reading, FINANCE, after="open.md", limit=1) == ["pay.md"]
    assert listed(reading, FINANCE, after="pay.md") == []
    assert listed(reading, FINANCE, is_down=True) == ["pay.md", "open.md"]
    assert listed(reading, FINANCE, after="pay.md", is_down=True) == ["open.md"]
    assert listed(reading, FINANCE, after="older.md") == [
        "open.md",
        "pay.md",
    ]  # a cursor that is gone has its place
    restrict(engine, "open.md", {"readers": ["group:finance"]})
    assert listed(reading, EVERYONE, limit=1) == ["pay.md"]


def test_one_document_is_found_for_those_who_may_read_it(home: tuple[Engine, Reading]) -> None:
    engine, reading = home
    assert reading.find_document("handbook", "pay.md", scope=EVERYONE).title == "Pay"
    restrict(engine, "pay.md", {"readers": ["group:finance"]})
    assert reading.find_document("handbook", "pay.md", scope=FINANCE).n_passages == 1
    for path in ("pay.md", "lost.md"):
        with pytest.raises(UnknownDocument):
            reading.find_document("handbook", path, scope=EVERYONE)
