"""What a killed build leaves is found by whoever cleans up; what is being written is left alone."""

import os
from pathlib import Path

import pytest

from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index.generation import purge_index
from penstock.knowledge.index.manifest import clear_drafts, draft_folder


def leave_draft(root: Path, name: str = ".idx_a.1.b_1.draft") -> Path:
    left = root / name
    left.mkdir(parents=True)
    (left / "documents.jsonl").write_text("canary")
    return left


def test_a_draft_without_its_builder_is_cleared_whatever_process_has_its_id_now(tmp_path: Path) -> None:
    """Process ids are used again, and two containers on one volume have the same ones."""
    left = leave_draft(tmp_path, f".idx_a.{os.getpid()}.b_1.draft")
    replaced = leave_draft(tmp_path, f".idx_b.{os.getpid()}.b_2.old")
    (tmp_path / "idx_c").mkdir()
    (tmp_path / ".locks").mkdir()
    assert clear_drafts(tmp_path) == 2
    assert not left.exists() and not replaced.exists()
    assert (tmp_path / "idx_c").exists() and (tmp_path / ".locks").exists()
    assert clear_drafts(tmp_path / "nowhere") == 0


def test_what_is_being_written_is_left_alone_and_appears(tmp_path: Path) -> None:
    folder = tmp_path / "idx_a"
    with draft_folder(folder) as draft:
        (draft / "words").write_text("new")
        assert clear_drafts(tmp_path) == 0
        with draft_folder(folder) as other:  # another builder of the same index clears none either
            (other / "words").write_text("other")
        assert draft.exists()
    assert (folder / "words").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["idx_a"]


def test_an_index_that_is_purged_while_it_is_written_does_not_appear(tmp_path: Path) -> None:
    """An erasure must not be outlived by a search that was about to write the index again."""
    folder = tmp_path / "idx_a"

    def write_and_purge() -> None:
        with draft_folder(folder) as draft:
            (draft / "words").write_text("canary")
            purge_index(folder)

    with pytest.raises(DamagedIndex, match="removed while it was written"):
        write_and_purge()
    assert list(tmp_path.iterdir()) == []


def test_a_failing_build_puts_what_it_was_to_replace_back(tmp_path: Path) -> None:
    folder = tmp_path / "idx_a"
    folder.mkdir()
    (folder / "words").write_text("old")
    with pytest.raises(RuntimeError), draft_folder(folder):
        raise RuntimeError
    assert (folder / "words").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["idx_a"]
