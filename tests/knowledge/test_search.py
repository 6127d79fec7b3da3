"""Search: strange queries are words, scores mix as declared, indexes are derived and mend themselves."""

import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.knowledge.index.dense import best_rows, normalise_rows
from penstock.knowledge.index.lexical import LexicalIndex, write_lexical
from penstock.knowledge.index.words import query_words
from penstock.knowledge.retrieval.fusion import choose_weight
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import IndexRecipe, Recipe, SearchRecipe
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs

TEXTS = {
    "car.txt": "The engine of a car needs oil. A garage checks the brakes.",
    "cake.txt": "A cake needs flour, sugar and eggs. Bake it for 40 minutes.",
    "cafe.txt": "A café serves coffee. NOT every café opens on Sunday AND Monday.",
}


@pytest.fixture
def service(tmp_path: Path, sqlite_engine: Engine) -> KnowledgeService:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    service = KnowledgeService(sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder())
    service.ingest("things", folder)
    return service


@pytest.mark.parametrize(
    "query",
    ['"', "'", "cake AND", "NOT", "(", "a OR", "col:x", "cake*", "^cake", "NEAR(a b)", "-cake", "{cake}", "🍰", "\x00", "\ud800", "title:cake", "x" * 20_000, "a b " * 3000],
)  # fmt: skip
def test_no_query_is_an_error(service: KnowledgeService, query: str) -> None:
    assert len(service.search("things", query, 3)) <= 3


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
    deadline=None,
)
@given(st.text(max_size=60))
def test_any_text_can_be_asked(service: KnowledgeService, query: str) -> None:
    for hit in service.search("things", query, 2):
        assert 0.0 <= hit.score <= 1.0 + 1e-9


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_query_finds_nothing_and_says_so(service: KnowledgeService, query: str) -> None:
    retrieval = service.retrieve("things", query)
    assert retrieval.hits == ()
    assert retrieval.note == "the query is empty"


def test_accents_and_endings_do_not_matter_and_operators_are_words(service: KnowledgeService) -> None:
    words = SearchRecipe(dense_weight=0.0)
    for query in ("cafes opened", "AND NOT monday"):
        assert service.retrieve("things", query, 1, recipe=words).hits[0].document == "cafe.txt"
    assert query_words("what is the and") == ["what", "is", "the", "and"]
    assert query_words("what is the car") == ["car"]


def test_k_is_bounded(service: KnowledgeService) -> None:
    with pytest.raises(InvalidInput):
        service.search("things", "x", 0)
    with pytest.raises(InvalidInput):
        service.search("things", "x", 100_000)
    assert len(service.search("things", "car cake coffee", 200)) == 3


def test_weights_say_what_decides(service: KnowledgeService) -> None:
    lexical = service.retrieve("things", "sugar", 3, recipe=SearchRecipe(dense_weight=0.0)).hits
    assert [hit.document for hit in lexical] == ["cake.txt"]
    assert lexical[0].dense_score is None
    dense = service.retrieve("things", "sugar", 3, recipe=SearchRecipe(dense_weight=1.0)).hits
    assert len(dense) == 3
    assert dense[0].lexical_score is None
    assert dense[0].document == "cake.txt"


def test_the_weight_suits_the_embedder_unless_the_recipe_says_otherwise() -> None:
    assert choose_weight("minilm model:minilm@1") > 0.5 > choose_weight("lexical lexical@1")


@pytest.mark.parametrize(
    "damage", ["vectors.npy", "lexical.db", "positions.npy", "documents.jsonl", "manifest.json", None]
)
def test_a_lost_or_damaged_index_is_rebuilt_from_the_tables(
    service: KnowledgeService, tmp_path: Path, sqlite_engine: Engine, damage: str | None
) -> None:
    before = service.search("things", "flour and brakes", 3)
    (folder,) = (tmp_path / "indexes" / "things").iterdir()
    if damage is None:
        shutil.rmtree(folder)
    else:
        (folder / damage).write_bytes(b"garbage")
    fresh = KnowledgeService(sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder())
    assert fresh.search("things", "flour and brakes", 3) == before


def test_the_index_holds_no_text_of_its_own(service: KnowledgeService, tmp_path: Path) -> None:
    files = [path for path in (tmp_path / "indexes" / "things").rglob("*") if path.is_file()]
    assert len(files) == 8
    assert not any(b"garage checks the brakes" in path.read_bytes() for path in files)


def test_threads_can_search_at_once_while_a_new_generation_goes_live(
    service: KnowledgeService, tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(30):
                assert service.search("things", "car", 1)[0].document == "car.txt"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(3):
        (tmp_path / "docs" / "more.txt").write_text(f"Nothing about vehicles {number}.")
        service.ingest("things", tmp_path / "docs")
    for thread in threads:
        thread.join()
    assert failures == []


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(1, 50))
def test_best_rows_are_the_best_rows(values: list[float], limit: int) -> None:
    scores = np.array(values, dtype=np.float32)
    rows = best_rows(scores, limit)
    assert len(rows) == len(set(rows)) == min(limit, len(values))
    assert sorted((scores[row] for row in rows), reverse=True) == sorted(scores, reverse=True)[: len(rows)]


def test_rows_of_zeros_stay_zeros() -> None:
    assert normalise_rows(np.zeros((2, 3), dtype=np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_headings_count_as_their_weights_say(tmp_path: Path) -> None:
    write_lexical(
        tmp_path / "x.db", [(0, "Salt", "", "Nothing here at all."), (1, "Other", "", "A bit of salt here.")]
    )
    index = LexicalIndex(tmp_path / "x.db")
    assert index.search("salt", limit=2, title_weight=9.0)[0][0] == 0
    assert next(row for row, _ in index.search("salt", limit=2, title_weight=0.0)) == 1
    index.close()


def test_a_recipe_can_be_adjusted_for_one_search(service: KnowledgeService) -> None:
    def by_words(recipe: SearchRecipe) -> SearchRecipe:
        return msgspec.structs.replace(recipe, fusion="convex", dense_weight=0.0)

    found = service.retrieve("things", "flour", 3, adjust=by_words)
    assert (found.mode, [hit.document for hit in found.hits]) == ("lexical", ["cake.txt"])
    assert service.retrieve("things", "flour", 3).mode == "hybrid"


def test_words_are_not_weighed_against_vectors_that_are_not_there(
    tmp_path: Path, sqlite_engine: Engine
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "cake.txt").write_text(TEXTS["cake.txt"])
    service = KnowledgeService(sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder())
    recipe = Recipe(index=IndexRecipe(kind="none"), search=SearchRecipe(fusion="lexical"))
    service.ingest("words", folder, recipe=recipe)
    assert len(service.retrieve("words", "flour", 3, adjust=lambda own: own).hits) == 1
    with pytest.raises(InvalidInput, match="no vectors"):
        service.retrieve("words", "flour", 3, adjust=lambda _own: SearchRecipe(dense_weight=0.5))
