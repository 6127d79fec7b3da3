"""`penstock privacy`, `backup`, `restore` and `traces expire` on a stopped home."""

import json
import zipfile
from pathlib import Path

import pytest

from penstock.spec.home import Home
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.cli.commands import call
from tests.fixtures.spans import make_span

USER = "mira.quist"


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Path:
    root = tmp_path / "home"
    root.mkdir()
    (root / "control.db").write_bytes(migrated_sqlite.read_bytes())
    store = DuckDBSpanStore(Home(root=root).span_db)
    store.append(
        [
            make_span(1, trace=1, user_id=USER, input="my knee", output="rest it"),
            make_span(1, trace=2, user_id="otto", input="the moon"),
        ]
    )
    store.close()
    return root


def test_a_user_is_exported_erased_and_erased_again_after_an_older_backup_came_back(
    home: Path, tmp_path: Path
) -> None:
    zip_file, receipt, saved = tmp_path / "mira.zip", tmp_path / "mira.json", tmp_path / "all.tar"
    told = call("privacy", "export", "--user", USER, "--out", str(zip_file), home=home)
    assert told.code == 0, told.err
    with zipfile.ZipFile(zip_file) as archive:
        assert json.loads(archive.read("traces.jsonl"))["input"] == "my knee"
    assert call("backup", "--out", str(saved), home=home).code == 0
    counted = call("privacy", "erase", "--user", USER, "--dry-run", "--json", home=home)
    assert counted.json["n_spans"] == 1
    erased = call("privacy", "erase", "--user", USER, "--yes", "--receipt", str(receipt), home=home)
    assert erased.code == 0, erased.err
    assert "found in 0" in erased.out
    assert USER not in erased.out
    assert USER not in receipt.read_text()
    assert call("privacy", "verify", str(receipt), "--user", USER, home=home).code == 0
    assert call("privacy", "verify", str(receipt), "--user", "otto", home=home).code == 2
    assert call("privacy", "verify", str(receipt), "--alone", home=home).code == 0
    again = tmp_path / "again"
    assert call("restore", str(saved), "--home", str(again)).code == 0
    assert b"my knee" in (again / "spans.duckdb").read_bytes()
    replayed = call("privacy", "replay", str(receipt), "--json", home=again)
    assert replayed.code == 0, replayed.err
    assert replayed.json[0]["erased"] == 1
    assert b"my knee" not in (again / "spans.duckdb").read_bytes()
    assert b"moon" in (again / "spans.duckdb").read_bytes()
    assert len(call("privacy", "list", "--json", home=again).json) == 1


def test_nothing_is_erased_without_a_word_from_somebody(home: Path) -> None:
    told = call("privacy", "erase", "--user", USER, home=home)
    assert (told.code, "1 traces" in told.err, "--yes" in told.err) == (2, True, True)
    assert call("privacy", "erase", "--user", USER, "--session", "x", "--yes", home=home).code == 2
    assert call("privacy", "erase", "--yes", home=home).code == 2
    assert call("user", "show", USER, home=home).code == 0


def test_a_file_that_is_there_is_never_written_over(home: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("precious")
    for words in (
        ("privacy", "export", "--user", USER, "--out", str(there)),
        ("privacy", "erase", "--user", USER, "--yes", "--receipt", str(there)),
        ("backup", "--out", str(there)),
    ):
        assert call(*words, home=home).code == 2, words
    assert there.read_text() == "precious"


def test_what_is_too_old_is_counted_and_deleted_and_the_file_written_anew(home: Path) -> None:
    (home / "penstock.toml").write_text("[traces.retention]\nspan_days = 1\n")
    counted = call("traces", "expire", "--dry-run", "--json", home=home)
    assert counted.code == 0, counted.err
    assert counted.json["n_spans"] == 2
    assert call("traces", "expire", "--json", home=home).json["n_spans"] == 2
    done = call("traces", "compact", "--json", home=home)
    assert done.json["n_spans"] == 0
    assert call("restore", "x.tar").code == 2
