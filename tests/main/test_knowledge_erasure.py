"""Erasing documents: no byte of them is left in the home, searches go on, and no ingest brings them back.

Deleting through the interface of a store is not erasing: text stays in its log, its freed pages and its older
segments (qdrant-edge keeps deleted payloads in `payload_storage` and its write-ahead log). So every test here looks at
the bytes of all files, with what is compressed opened.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from penstock.knowledge.erasure.errors import BadTarget, NothingFound
from penstock.knowledge.erasure.types import Target
from penstock.main.byte_search import count_in_file, make_needles
from penstock.spec.knowledge import Properties
from penstock.store.control.tables.jobs import jobs
from penstock.store.control.tables.knowledge import knowledge_feedback
from penstock.store.spans.text_erasure import DuckDBTextErasure
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.errors import ReceiptInvalid
from penstock.traces.upkeep.receipts import verify_alone
from tests.main.erasing_house import CANARY, OTHERS, SENTENCE, WORD, Kept, furnish, open_kept

TEXT = Target(kind="text", value=CANARY)


@pytest.fixture
def kept(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Kept]:
    with open_kept(tmp_path, migrated_sqlite) as opened:
        yield opened


def find_everywhere(kept: Kept, *texts: str) -> list[str]:
    """Return where one of the texts stands: files by their bytes, unpacked where packed, and the span store's columns."""
    needles = make_needles(texts)
    root = kept.home.root
    found = [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and count_in_file(path, needles)[1]
    ]
    return found + DuckDBTextErasure(kept.store.file).find(texts)


def test_no_byte_of_a_text_in_four_kinds_of_documents_is_left(kept: Kept) -> None:
    ids = furnish(kept)
    assert len(ids) == 4  # PDF, Word, Markdown, row
    places = {line.partition("/")[0].partition("-")[0] for line in find_everywhere(kept, CANARY, WORD)}
    assert places >= {"control.db", "blobs", "indexes", "cache", "forward", "logs"}
    receipt = kept.erase(TEXT)
    assert find_everywhere(kept, CANARY, WORD, SENTENCE, "bed-four", *ids) == []
    assert receipt.sweep.found == []
    assert receipt.sweep.skipped is None
    assert receipt.sweep.n_files > 10
    assert "byte by byte" in " ".join(receipt.sweep.how)


def test_everything_else_stays_and_is_found_as_before(kept: Kept) -> None:
    furnish(kept)
    kept.erase(TEXT)
    assert kept.find("sleep hours adults") == {"sleep.md", "food.md", "records/2.txt"}
    assert kept.find("soup", generation="words") == {"sleep.md", "food.md", "records/2.txt"}
    assert kept.knowledge.read_document("ward", "sleep.md").text.endswith(OTHERS)
    assert all(each.state != "failed" for each in kept.knowledge.verify("ward", deep=True))
    store = kept.store
    assert "moon" in str(store.get_payload(f"{4:032x}", f"{1:016x}").input)
    assert store.get_payload(f"{1:032x}", f"{1:016x}").output is None  # an answer says it in other words
    assert len(store.get_trace(f"{1:032x}")) == 2
    assert kept.published


def test_no_ingest_brings_it_back_and_the_scan_says_how_much_it_kept_out(kept: Kept) -> None:
    furnish(kept)
    kept.erase(TEXT)
    report = kept.knowledge.ingest("ward")
    assert (report.added, report.deleted) == (0, 0)
    problems = [each for source in report.sources for each in source["problems"]]
    assert any("3 documents that were erased on" in each for each in problems)
    assert find_everywhere(kept, CANARY, "bed-four") == []
    (kept.documents / "bed-four.md").write_text("# Bed four\n\nThe window stays shut, and the lamp is on.\n")
    kept.knowledge.ingest("ward")
    assert "bed-four.md" in kept.find("window lamp")  # the text is not in it any more


def test_a_document_that_was_named_is_kept_out_by_its_path_until_it_is_let_in(kept: Kept) -> None:
    furnish(kept)
    kept.erase(Target(kind="document", value="bed-four.md", base="ward"))
    assert "bed-four.docx" in kept.find("bed four")
    (kept.documents / "bed-four.md").write_text("# Bed four\n\nNobody lies here any more, says the nurse.\n")
    kept.knowledge.ingest("ward")
    assert "bed-four.md" not in kept.find("nurse")
    listed = kept.erasures.kept_out.list_rows("ward")
    assert {each.kind for each in listed} == {"path", "bytes"}
    assert "bed-four" not in str(listed)
    assert kept.erasures.kept_out.let_in("ward", path="bed-four.md") == 1
    kept.knowledge.ingest("ward")
    assert "bed-four.md" in kept.find("nurse")


def test_the_receipt_tells_the_places_is_signed_and_names_nothing(kept: Kept) -> None:
    furnish(kept)
    receipt = kept.erase(TEXT)
    signed = kept.upkeep.erasures.receipts.get(receipt.number)
    removed = {each.place: each.removed for each in receipt.places}
    assert removed["knowledge bases"]["documents"] == 4
    assert removed["knowledge bases"]["files of bytes"] == 8  # with what parsers made
    assert removed["knowledge bases"]["vectors"] == 3  # two of the texts are the same
    assert removed["traces"]["traces"] == 3
    assert removed["response cache"]["replies"] == 3
    assert removed["logs"]["names"] >= 1
    assert removed["control tables"]["cells"] >= 2
    for named in (CANARY, "bed-four", "sleeps badly"):
        assert named not in signed.content
    assert verify_alone(signed).is_good
    assert kept.upkeep.erasures.receipts.verify(signed).is_good
    assert any("knowledge:ward reads them (files, records)" in each for each in receipt.beyond_reach)
    with pytest.raises(ReceiptInvalid, match="knowledge"):
        kept.upkeep.erasures.replay(signed, actor="admin")


def test_what_jobs_and_judgements_said_of_it_is_written_over_and_the_rest_stays(kept: Kept) -> None:
    furnish(kept)
    kept.erase(TEXT)
    with kept.rooms.engine.connect() as connection:
        (result,) = connection.execute(select(jobs.c.result)).scalars()
        left = list(connection.execute(select(knowledge_feedback.c.document)).scalars())
    assert result == '{"dropped": [{"path": "[erased]", "reason": "scan"}]}'
    assert left == ["sleep.md"]


def test_bytes_that_another_base_has_too_stay_there_and_the_receipt_says_so(kept: Kept) -> None:
    furnish(kept)
    kept.knowledge.ingest("copy", kept.documents)
    target = Target(kind="document", value="bed-four.md", base="ward")
    (found,) = kept.erasures.find(target).documents
    assert found.same_bytes == ["copy/bed-four.md"]
    receipt = kept.erase(target)
    (bases,) = [each for each in receipt.places if each.place == "knowledge bases"]
    assert bases.note == "1 of the bytes are those of other documents too, and stay with them"
    assert kept.knowledge.retrieve("copy", "bed four window").hits
    assert receipt.sweep.found  # honest: it is still there


def test_erasing_a_user_erases_documents_about_them_and_their_judgements(kept: Kept) -> None:
    furnish(kept)
    about = kept.documents / "ada.md"
    about.write_text("---\nsubjects: [user:ada]\n---\n# Plan\n\nShe is to walk every morning before eight.\n")
    kept.knowledge.ingest("ward")
    assert "ada.md" in kept.find("walk every morning")
    kept.upkeep.erasures.submit(Subject(kind="user", id="ada"), reason="ticket 1", actor="admin")
    kept.upkeep.erasures.carry_out_waiting()
    assert "ada.md" not in kept.find("walk every morning")
    assert find_everywhere(kept, "walk every morning") == []
    receipts = kept.upkeep.erasures.receipts.list()
    assert [each.kind for each in receipts] == ["user", "knowledge user"]
    (place,) = [each for each in receipts[0].places if each.place == "documents about them"]
    assert place.note == "told by receipt 1" or place.removed == {"erasures": 1}
    with kept.rooms.engine.connect() as connection:
        assert list(connection.execute(select(knowledge_feedback.c.actor)).scalars()) == ["user:otto"]
    kept.knowledge.ingest("ward")
    assert "ada.md" not in kept.find("walk every morning")


def test_searches_never_fail_while_it_goes_and_show_nothing_of_it_afterwards(kept: Kept) -> None:
    furnish(kept)
    asked = kept.erasures.submit(TEXT, reason="", actor="admin")
    stop, failures, n_asked = threading.Event(), list[str](), 0

    def ask() -> None:
        nonlocal n_asked
        while not stop.is_set():
            try:
                kept.find("who sleeps badly in bed four")
                n_asked += 1
            except Exception as error:
                failures.append(repr(error))

    searching = threading.Thread(target=ask)
    searching.start()
    try:
        kept.finish(asked)
        texts = [hit.text for hit in kept.knowledge.retrieve("ward", CANARY, 20).hits]
    finally:
        stop.set()
        searching.join()
    assert failures == []
    assert n_asked
    assert not any(CANARY in each for each in texts)
    assert find_everywhere(kept, CANARY) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target(kind="text", value="abc"), "ticket"),
        (Target(kind="document", value="bed-four.md"), "ticket"),
        (Target(kind="text", value=CANARY), f"about {CANARY}"),
        (Target(kind="subject", value="  "), "ticket"),
    ],
)
def test_what_cannot_be_looked_for_or_would_stand_in_the_receipt_is_refused(
    kept: Kept, target: Target, reason: str
) -> None:
    with pytest.raises(BadTarget):
        kept.erasures.submit(target, reason=reason, actor="admin")


def test_nobody_gets_a_receipt_for_nothing(kept: Kept) -> None:
    furnish(kept)
    with pytest.raises(NothingFound):
        kept.erasures.submit(Target(kind="document", value="bed-5.md", base="ward"), reason="", actor="admin")
    assert kept.erasures.find(Target(kind="subject", value="nobody")).documents == []
    assert Properties().subjects == []
