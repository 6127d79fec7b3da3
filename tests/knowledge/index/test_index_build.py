"""Building: what is taken over from the index before, what a full disk leaves, and which engine is taken."""

import errno
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.knowledge.errors import DamagedIndex, UnusableEmbedding
from penstock.knowledge.index import graph
from penstock.knowledge.index.build import build_index
from penstock.knowledge.index.dense import MatrixWriter
from penstock.knowledge.index.documents import DocumentWriter
from penstock.knowledge.index.errors import IndexNotWritten, MissingEngine, UnusableConnection
from penstock.knowledge.index.generation import open_index, purge_index
from penstock.knowledge.index.types import IndexDocument, IndexRow
from penstock.spec.knowledge import IndexRecipe, Properties
from tests.knowledge.index.corpora import EMBEDDER, Corpus, make_questions, make_vectors

GRAPH = IndexRecipe(kind="usearch", precision="i8")
VECTORS = make_vectors(2000, dims=16)


@pytest.fixture
def corpus() -> Corpus:
    return Corpus(VECTORS)


def without(documents: set[int], n_rows: int = 2000) -> list[int]:
    return [number for number in range(n_rows) if number // 10 not in documents]


def test_what_did_not_change_is_taken_over(corpus: Corpus, tmp_path: Path) -> None:
    corpus.build(tmp_path / "a", GRAPH, numbers=without({5}))
    corpus.asked = 0
    report = corpus.build(tmp_path / "b", GRAPH, numbers=without({9}), previous=tmp_path / "a")
    assert (report.n_rows, report.n_reused, corpus.asked) == (1990, 1980, 10)
    index = open_index(tmp_path / "b")
    assert index.dense.stats().n_removed == 10
    assert np.array_equal(index.dense.vectors(range(1990)), VECTORS[without({9})])
    found, scores = index.dense.search(VECTORS[52], 1)
    assert (index.places[int(found[0])], round(float(scores[0]), 4)) == (("doc_00005", 2), 1.0)
    assert index.places[int(index.dense.search(VECTORS[95], 1)[0][0])][0] != "doc_00009"


def test_a_chain_of_small_changes_loses_no_recall_and_is_cleaned_up(corpus: Corpus, tmp_path: Path) -> None:
    """Points that a graph cannot reach after many updates (arXiv 2407.07871); dead weight that only grows."""
    corpus.build(tmp_path / "0", GRAPH, numbers=without(set(range(100, 112))))
    removed = []
    for step in range(1, 9):
        numbers = without(set(range(8 * step, 8 * step + 12)))
        corpus.build(tmp_path / str(step), GRAPH, numbers=numbers, previous=tmp_path / str(step - 1))
        index = open_index(tmp_path / str(step))
        removed.append(index.dense.stats().n_removed)
        for question in make_questions(VECTORS, 5, seed=step):
            found, _ = index.dense.search(question, 10)
            exact, _ = index.dense.search(question, 10, exact=True)
            assert len(set(found.tolist()) & set(exact.tolist())) >= 9
    assert max(removed) <= graph.REBUILD_SHARE * 2500
    assert any(later < earlier for earlier, later in itertools.pairwise(removed))


def test_another_text_at_the_same_place_is_embedded_anew(corpus: Corpus, tmp_path: Path) -> None:
    corpus.build(tmp_path / "a", GRAPH, numbers=range(500))
    rows = corpus.rows(range(500))
    other = IndexRow(
        place=rows[3].place, title="t", section="s", text="x", embed_digest=f"sha256:{1999:064x}"
    )
    report = build_index(
        tmp_path / "b",
        [*rows[:3], other, *rows[4:]],
        embedder=EMBEDDER,
        find_vectors=corpus.find_vectors,
        recipe=GRAPH,
        previous=tmp_path / "a",
    )
    assert report.n_reused == 499
    assert np.array_equal(open_index(tmp_path / "b").dense.vectors([3]), VECTORS[[1999]])


@pytest.mark.parametrize("reason", ["embedder", "damage", "missing", "none"])
def test_an_index_that_cannot_be_taken_over_from_costs_time_alone(
    corpus: Corpus, tmp_path: Path, reason: str
) -> None:
    before = tmp_path / "a"
    corpus.build(before, GRAPH, numbers=range(300))
    if reason == "damage":
        (before / "digests.npy").write_bytes(b"x" * (before / "digests.npy").stat().st_size)
    if reason == "missing":
        (before / "graph.usearch").unlink()
    report = build_index(
        tmp_path / "b",
        corpus.rows(range(300)),
        embedder="another" if reason == "embedder" else EMBEDDER,
        find_vectors=corpus.find_vectors,
        recipe=GRAPH,
        previous=None if reason == "none" else before,
    )
    assert report.n_reused == 0
    assert open_index(tmp_path / "b").dense.search(VECTORS[7], 1)[0].tolist() == [7]


def test_a_graph_that_would_be_worse_is_built_anew(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.build(tmp_path / "a", GRAPH, numbers=without({5}))
    monkeypatch.setattr(graph, "LEAST_RECALL", 1.1)
    corpus.build(tmp_path / "b", GRAPH, numbers=without({6}), previous=tmp_path / "a")
    assert open_index(tmp_path / "b").dense.stats().n_removed == 0
    assert not (tmp_path / "b" / "slots.npy").exists()


def test_a_full_disk_leaves_what_was_there(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.build(tmp_path / "a", GRAPH, numbers=range(50))

    def fill(writer: object, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in (MatrixWriter, DocumentWriter):
        with monkeypatch.context() as patch:
            patch.setattr(place, "add", fill)
            with pytest.raises(IndexNotWritten, match="No space left"):
                corpus.build(tmp_path / "a", GRAPH)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert open_index(tmp_path / "a").n_rows == 50


def test_drafts_of_a_killed_build_go_with_the_next(corpus: Corpus, tmp_path: Path) -> None:
    draft = tmp_path / ".a.999999999.b_x.draft"
    draft.mkdir()
    other = tmp_path / ".ab.999999999.b_x.draft"
    other.mkdir()
    corpus.build(tmp_path / "a", GRAPH, numbers=range(50))
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "a"]
    draft.mkdir()
    purge_index(tmp_path / "a")
    assert list(tmp_path.iterdir()) == [other]


def test_auto_takes_the_graph_above_the_bound_and_says_when_it_cannot(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = IndexRecipe(exact_below=100)
    assert corpus.build(tmp_path / "a", recipe, numbers=range(100)).kind == "exact"
    assert corpus.build(tmp_path / "b", recipe, numbers=range(101)).kind == "usearch"
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    report = corpus.build(tmp_path / "c", recipe, numbers=range(101))
    assert report.kind == "exact"
    assert report.note is not None
    assert "penstock[usearch]" in report.note
    assert open_index(tmp_path / "c").manifest.note == report.note


@pytest.mark.parametrize(
    ("module", "recipe", "connection", "extra"),
    [
        ("usearch.index", GRAPH, None, "penstock[usearch]"),
        ("qdrant_client", IndexRecipe(kind="qdrant"), "http://127.0.0.1:1", "penstock[qdrant]"),
        ("psycopg", IndexRecipe(kind="pgvector"), "postgresql://127.0.0.1:1/x", "penstock[pgvector]"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    recipe: IndexRecipe,
    connection: str | None,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    def rows() -> Iterator[IndexRow]:
        raise AssertionError("rows were read")
        yield

    with pytest.raises(MissingEngine) as caught:
        build_index(tmp_path / "a", rows(), embedder=EMBEDDER, recipe=recipe, connection=connection)
    assert extra in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "connection"),
    [
        ("pgvector", None),
        ("pgvector", "mysql://host/x"),
        ("pgvector", "postgresql://rag:{{secret:rag_db}}@host/x"),
        ("qdrant", "host:6333"),
        ("qdrant", "path:"),
        ("qdrant", ""),
    ],
)
def test_a_connection_that_cannot_be_one_is_refused(
    corpus: Corpus, tmp_path: Path, kind: str, connection: str | None
) -> None:
    recipe = IndexRecipe(kind=kind)  # type: ignore[arg-type]
    with pytest.raises(UnusableConnection):
        corpus.build(tmp_path / "a", recipe, connection=connection)


def test_no_secret_of_a_connection_is_written_to_disk(corpus: Corpus, tmp_path: Path) -> None:
    recipe = IndexRecipe(kind="exact", connection="postgresql://rag:hunter2@host/x")
    corpus.build(tmp_path / "a", recipe, numbers=range(20))
    assert not any(b"hunter2" in path.read_bytes() for path in (tmp_path / "a").iterdir())


def test_vectors_that_are_missing_or_differ_in_length_stop_the_build(corpus: Corpus, tmp_path: Path) -> None:
    def lacks(digests: Sequence[str]) -> dict[str, bytes]:
        return {
            each: vector for each, vector in corpus.find_vectors(digests).items() if not each.endswith("7")
        }

    def differs(digests: Sequence[str]) -> dict[str, bytes]:
        found = corpus.find_vectors(digests)
        return {each: vector[:32] if each.endswith("7") else vector for each, vector in found.items()}

    for find_vectors, error in ((lacks, DamagedIndex), (differs, UnusableEmbedding)):
        with pytest.raises(error):
            build_index(tmp_path / "a", corpus.rows(), embedder=EMBEDDER, find_vectors=find_vectors)
    assert list(tmp_path.iterdir()) == []


def test_words_alone_need_no_vectors(corpus: Corpus, tmp_path: Path) -> None:
    report = build_index(
        tmp_path / "a",
        corpus.rows(range(30)),
        embedder="",
        recipe=IndexRecipe(kind="none"),
        find_vectors=None,
    )
    index = open_index(tmp_path / "a")
    assert (report.kind, index.dims, index.dense.stats().n_rows) == ("none", 0, 0)
    assert index.dense.search(VECTORS[0], 5)[0].tolist() == []
    assert [row for row, _ in index.lexical.search("number12", limit=3)] == [12]


def test_documents_keep_what_filters_ask_about(corpus: Corpus, tmp_path: Path) -> None:
    documents = [
        IndexDocument(
            id=f"doc_{number:05d}",
            path=f"folder/{number}.md",
            title=None if number else "Zero",
            source="folder",
            added_ns=number,
            properties=Properties(values={"year": 2000 + number}, readers=["user:ada"] if number else None),
        )
        for number in range(4)
    ]
    build_index(
        tmp_path / "a",
        corpus.rows([*range(10), *range(20, 40)]),  # document 1 has no passages
        embedder=EMBEDDER,
        find_vectors=corpus.find_vectors,
        documents=iter(documents),
    )
    index = open_index(tmp_path / "a")
    assert list(index.documents) == documents
    assert index.document_of.tolist() == [0] * 10 + [2] * 10 + [3] * 10
    assert (index.places[10], index.places[-1]) == (("doc_00002", 0), ("doc_00003", 9))
    assert index.places[8:11] == [("doc_00000", 8), ("doc_00000", 9), ("doc_00002", 0)]
    chosen = index.select(np.array([False, True, True, False]))
    assert (chosen.rows.tolist(), chosen.count) == (list(range(10, 20)), 10)
    assert index.table.count_rows() == [("doc_00000", 10), ("doc_00002", 10), ("doc_00003", 10)]
    with pytest.raises(ValueError, match="truth values"):
        index.select(np.array([True]))


def test_the_best_words_of_a_selection_are_found_however_rare_it_is(corpus: Corpus, tmp_path: Path) -> None:
    corpus.build(tmp_path / "a", IndexRecipe(kind="exact"))
    index = open_index(tmp_path / "a")
    for chosen in ([7], [3, 50, 199], list(range(0, 200, 2)), list(range(200))):
        mask = np.zeros(200, dtype=bool)
        mask[chosen] = True
        rows = index.select(mask)
        every = index.lexical.search("subject3 number501", limit=5000)
        wanted = [(row, score) for row, score in every if rows.mask[row]][:10]
        assert index.lexical.search("subject3 number501", limit=10, rows=rows) == wanted
    assert index.lexical.search("subject3", limit=10, rows=index.select(np.zeros(200, dtype=bool))) == []


def test_a_search_that_is_under_way_outlives_closing(corpus: Corpus, tmp_path: Path) -> None:
    corpus.build(tmp_path / "a", GRAPH, numbers=range(300))
    index = open_index(tmp_path / "a")
    purge_index(tmp_path / "a")  # the files are gone from the folder, not from who reads them
    assert index.dense.search(VECTORS[7], 1)[0].tolist() == [7]
    assert index.lexical.search("number7", limit=1)[0][0] == 7
    index.close()
    index.close()
