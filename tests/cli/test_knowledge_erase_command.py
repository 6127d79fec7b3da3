"""`penstock knowledge erase` and its receipts on a stopped home."""

from pathlib import Path

import pytest

from tests.cli.commands import call
from tests.main.erasing_house import open_kept, write_documents


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Path:
    with open_kept(tmp_path, migrated_sqlite) as kept:
        write_documents(kept)
        kept.knowledge.ingest("ward", kept.documents)
    (kept.home.run).mkdir(exist_ok=True)
    return kept.home.root


def test_a_document_is_erased_on_a_stopped_home_and_again_after_an_older_backup_came_back(
    home: Path, tmp_path: Path
) -> None:
    receipt, saved, again = tmp_path / "one.json", tmp_path / "all.tar", tmp_path / "again"
    assert call("backup", "--out", str(saved), home=home).code == 0
    named = ("--document", "bed-four.md")
    counted = call("knowledge", "erase", "ward", *named, "--dry-run", "--json", home=home)
    assert [each["path"] for each in counted.json["documents"]] == ["bed-four.md"]
    assert call("knowledge", "erase", "ward", *named, home=home).code != 0  # nobody was asked
    erased = call("knowledge", "erase", "ward", *named, "--yes", "--receipt", str(receipt), home=home)
    assert erased.code == 0, erased.err
    assert "knowledge document" in erased.out
    assert "bed-four" not in erased.out + receipt.read_text()
    listed = call("knowledge", "receipts", "--json", home=home).json
    assert [(each["kind"], each["documents"]) for each in listed] == [("document", 1)]
    assert call("knowledge", "check-receipt", str(receipt), "ward", *named, home=home).code == 0
    wrong = call("knowledge", "check-receipt", str(receipt), "ward", "--document", "food.md", home=home)
    assert wrong.code == 2
    kept_out = call("knowledge", "kept-out", "ward", "--json", home=home).json
    assert {each["kind"] for each in kept_out} == {"path", "bytes"}
    assert call("knowledge", "let-in", "ward", "bed-four.md", home=home).code == 0
    assert call("knowledge", "let-in", "ward", "bed-four.md", home=home).code != 0
    assert call("restore", str(saved), "--home", str(again)).code == 0
    replayed = call("knowledge", "replay", str(receipt), "--json", home=again)
    assert replayed.code == 0, replayed.err
    assert replayed.json[0]["erased"] == 1
    gone = call("knowledge", "erase", "ward", *named, "--dry-run", "--json", home=again)
    assert gone.json["documents"] == []


def test_one_thing_is_named_at_a_time(home: Path) -> None:
    told = call("knowledge", "erase", "ward", "--text", "a sentence", "--user", "ada", "--yes", home=home)
    assert told.code != 0
    assert "Say what is to be erased." in told.err
