"""Files that are damaged, or written anew, under a process that serves; and what stays hidden meanwhile."""

from pathlib import Path

import numpy as np
import pytest

from penstock.knowledge.errors import UnknownDocument
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChosenScope
from tests.knowledge.generations.conftest import Make

NOBODY = ChosenScope(principals=[])
BOSS = ChosenScope(principals=["user:boss"])
SECRET = "---\nreaders: [user:boss]\n---\n# Pay\n\nThe salary of Ada is 100.\n"


def index_file(tmp_path: Path, name: str) -> Path:
    return next((tmp_path / "indexes" / "guide").glob("idx_*")) / name


@pytest.fixture
def restricted(make: Make, folder: Path) -> KnowledgeService:
    (folder / "pay.md").write_text(SECRET)
    (folder / "rules.md").write_text("# Rules\n\nSalary rules for all.\n")
    service = make()
    service.ingest("guide", folder)
    return service


def found(service: KnowledgeService, scope: ChosenScope) -> set[str]:
    hits = service.retrieve("guide", "salary", 20, scope=scope).hits
    return {hit.document for hit in hits if "alary" in hit.text}


@pytest.mark.parametrize(("right", "wrong"), [(b'"readers"', b'"reeders"'), (b"{", b"<")])
@pytest.mark.usefixtures("restricted")
def test_who_may_read_is_never_taken_from_a_file_that_is_not_what_was_written(
    make: Make, tmp_path: Path, right: bytes, wrong: bytes
) -> None:
    path = index_file(tmp_path, "documents.jsonl")
    raw = path.read_bytes()
    path.write_bytes(raw.replace(right, wrong, 1))
    service = make()
    assert found(service, NOBODY) == {"rules.md"}
    assert found(service, BOSS) == {"pay.md", "rules.md"}
    assert index_file(tmp_path, "documents.jsonl").read_bytes() == raw  # written anew by the search


@pytest.mark.usefixtures("restricted")
def test_rows_that_were_given_to_other_documents_open_none(make: Make, tmp_path: Path) -> None:
    path = index_file(tmp_path, "document_of.npy")
    rows = np.load(path)
    np.save(path, rows[::-1].copy())
    assert found(make(), NOBODY) == {"rules.md"}


def test_an_index_that_another_process_wrote_anew_is_searched_from_then_on(
    make: Make, tmp_path: Path, folder: Path
) -> None:
    service, other = make(), make()
    service.ingest("guide", folder)
    good = service.retrieve("guide", "bread holds little").hits[0].dense_score
    assert good
    held = np.load(index_file(tmp_path, "vectors.npy"), mmap_mode="r+")
    held[:] = 0
    held.flush()
    other.rebuild("guide")
    assert service.retrieve("guide", "bread holds little").hits[0].dense_score == pytest.approx(good)


def test_a_document_whose_new_version_cannot_be_read_shows_itself_to_its_readers_alone(
    restricted: KnowledgeService, folder: Path
) -> None:
    """Who may read the new version is told in its text; until that can be read, nobody who is asked for may know."""
    (folder / "pay.md").write_bytes(
        b"---\nreaders: [user:boss]\n---\n\x00\xff\xfe\x00" + bytes(range(256)) * 20
    )
    (folder / "fresh.md").write_bytes(b"\x00\xff\xfe\x00" + bytes(range(256)) * 20)
    restricted.ingest("guide")
    listed = {each.path for each in restricted.list_documents("guide", scope=NOBODY)}
    assert listed == {"sleep.md", "water.md", "salt.md", "rules.md"}
    assert {each.path for each in restricted.list_documents("guide", scope=BOSS)} == listed | {"pay.md"}
    errors = {each.path for each in restricted.list_documents("guide") if each.error}
    assert errors == {"pay.md", "fresh.md"}  # whoever keeps the base sees both
    with pytest.raises(UnknownDocument):
        restricted.read_document("guide", "pay.md", scope=NOBODY)
    assert "Ada" in restricted.read_document("guide", "pay.md", scope=BOSS).text


@pytest.mark.parametrize("cleaner", ["prune", "erase"])
def test_what_a_killed_build_left_of_any_index_goes_with_pruning_and_with_an_erasure(
    service: KnowledgeService, tmp_path: Path, cleaner: str
) -> None:
    """Its generation may be pruned long since, so that no name leads to it."""
    left = tmp_path / "indexes" / "guide" / ".idx_gone.1.b_1.draft"
    left.mkdir()
    (left / "documents.jsonl").write_text("canary")
    if cleaner == "prune":
        assert service.prune("guide").indexes == 1
    else:
        assert service.removal.clear_strays("guide") == 1
    assert not left.exists()
    assert service.retrieve("guide", "bread").hits
