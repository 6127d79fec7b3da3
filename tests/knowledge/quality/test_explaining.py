"""A question explained: what it found with ranks, and the first reason that holds for what it missed."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine, insert, update

from penstock.knowledge.quality.explaining import Explainer
from penstock.knowledge.quality.missing import find_near
from penstock.knowledge.quality.report_types import Explanation, Missed
from penstock.knowledge.service import KnowledgeService
from penstock.spec.knowledge import ChosenScope, Condition, Properties, SearchRecipe
from penstock.store.control.tables import knowledge as tables
from tests.knowledge.embedders import HashingEmbedder, MemoryBlobs
from tests.knowledge.inline_pool import InlinePool
from tests.knowledge.quality.conftest import Island


def only(made: Explanation) -> Missed:
    [missed] = made.missed
    return missed


@pytest.fixture
def explainer(island: Island) -> Explainer:
    return Explainer(island.engine, island.knowledge)


def test_what_was_found_has_its_ranks_words_and_stages(explainer: Explainer) -> None:
    made = explainer.explain("island", "What does a sack of flour cost?", expect=["bread.md#Flour"], k=2)
    assert not made.missed and [each.label.section for each in made.found] == ["Flour"]
    first = made.hits[0]
    assert first.document == "bread.md" and first.is_expected and first.lexical_rank == 1
    assert {"sack", "flour"} <= set(first.shared_words)
    assert [stage.name for stage in made.stages if stage.name in {"lexical", "dense", "fusion"}] == [
        "lexical",
        "dense",
        "fusion",
    ]
    assert made.hits[1].is_expected is False
    assert explainer.explain("island", "flour").hits[0].is_expected is None


def test_words_that_stand_nowhere_are_named(explainer: Explainer) -> None:
    made = explainer.explain("island", "Is there a lighthouse near the jetty?")
    assert "lighthouse" in made.absent_words and "jetty" not in made.absent_words


def test_what_stands_lower_is_told_with_its_rank(explainer: Explainer) -> None:
    missed = only(
        explainer.explain("island", "What does a sack of flour cost?", expect=["ferry.md#Tickets"], k=1)
    )
    assert missed.why == "below_k" and missed.rank is not None and missed.rank > 1
    assert f"rank {missed.rank}" in missed.sentence and missed.text and "Tickets" in (missed.section or "")


def test_what_a_stage_took_out_is_told_with_the_stage(explainer: Explainer) -> None:
    recipe = SearchRecipe(dense_weight=0.5, min_relative_score=0.9)
    made = explainer.explain(
        "island", "What does a sack of flour cost?", expect=["boats.md#Storms"], k=5, recipe=recipe
    )
    missed = only(made)
    assert missed.why == "dropped" and "relevance" in missed.sentence


def test_what_was_no_candidate_is_told_with_deeper_ranks_and_near_words(explainer: Explainer) -> None:
    recipe = SearchRecipe(dense_weight=0.5, n_candidates=1)
    made = explainer.explain(
        "island", "Which household gets jar?", expect=["library.md#Fines"], k=1, recipe=recipe
    )
    missed = only(made)
    assert missed.why == "not_a_candidate" and missed.dense_rank is not None and missed.dense_rank > 1
    assert missed.lexical_rank is None and "no word" in missed.sentence
    assert find_near(["household", "jar"], "Each household gets two jars.") == {}
    assert find_near(["households", "spinning"], "Each household spins honey.")["households"] == ["household"]


def test_a_document_that_is_nowhere_and_words_that_are_nowhere(explainer: Explainer) -> None:
    assert only(explainer.explain("island", "?", expect=["lighthouse.md"])).why == "unknown_document"
    missed = only(explainer.explain("island", "?", expect=["the lamp is lit at dusk by the keeper"]))
    assert missed.why == "text_missing"


def test_access_and_filters_are_told_before_ranks(tmp_path: Path, sqlite_engine: Engine) -> None:
    """Filters that silently leave fewer than k are a known trap of vector indexes: say what they left out."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "open.md").write_text("Anybody may read that the gate is green.")
    (folder / "secret.md").write_text("Only the council reads that the gate is red.")
    knowledge = KnowledgeService(
        sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    knowledge.ingest("gates", folder)
    with sqlite_engine.begin() as connection:
        secret = msgspec.to_builtins(Properties(readers=["group:council"]))
        connection.execute(
            update(tables.knowledge_documents)
            .where(tables.knowledge_documents.c.path == "secret.md")
            .values(properties=secret)
        )
    explainer = Explainer(sqlite_engine, knowledge)
    scope = ChosenScope(principals=["user:ada", "everyone"])
    missed = only(
        explainer.explain("gates", "Which colour is the gate?", expect=["secret.md"], scope=scope, k=1)
    )
    assert missed.why == "no_access" and "group:council" in missed.sentence
    assert "--as" in missed.next
    scope = ChosenScope(conditions=[Condition(op="is", field="path", value="open.md")])
    missed = only(
        explainer.explain("gates", "Which colour is the gate?", expect=["secret.md"], scope=scope, k=1)
    )
    assert missed.why == "filtered" and "path" in missed.sentence


def test_a_document_that_nobody_may_read_is_told_as_that(tmp_path: Path, sqlite_engine: Engine) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "open.md").write_text("Anybody may read that the gate is green.")
    (folder / "shut.md").write_text("The gate is shut.")
    (folder / "shut.md.meta.toml").write_text("readers = []")
    knowledge = KnowledgeService(
        sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    knowledge.ingest("gates", folder)
    scope = ChosenScope(principals=["user:ada", "everyone"])
    missed = only(
        Explainer(sqlite_engine, knowledge).explain("gates", "Gate?", expect=["shut.md"], scope=scope)
    )
    assert missed.sentence == "shut.md may be read by nobody: its list of readers is empty."
    assert "readers" in missed.next and "--as" not in missed.next


def test_stages_tell_how_much_they_took_out_though_only_the_first_are_listed(
    tmp_path: Path, sqlite_engine: Engine
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.md").write_text(f"Gate number {number} is green.")
    knowledge = KnowledgeService(
        sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    knowledge.ingest("gates", folder)
    made = Explainer(sqlite_engine, knowledge).explain("gates", "Which gate is green?", k=1)
    cut = next(stage for stage in made.stages if stage.name == "cut")
    assert (cut.n_dropped, len(cut.dropped)) == (cut.n_in - cut.n_out, 50)
    assert cut.n_dropped > 50


@pytest.mark.parametrize(
    ("state", "why", "words"),
    [
        ("left_out", "left_out", "leaves lamp.md out: over 1 MB"),
        ("unreadable", "parse_error", "could not read lamp.md: over 1 MB"),
        ("gone", "unknown_document", "is gone from the source folder"),
        ("live", "not_indexed", "holds lamp.md, but this generation does not"),
    ],
)
def test_what_the_source_did_with_a_document_is_told(
    tmp_path: Path, sqlite_engine: Engine, state: str, why: str, words: str
) -> None:
    """Silent losses on the way into an index are what people find out last."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("A lamp stands on the pier.")
    knowledge = KnowledgeService(
        sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    knowledge.ingest("piers", folder)
    with sqlite_engine.begin() as connection:
        source = connection.execute(tables.knowledge_sources.select()).one()
        item = dict(connection.execute(tables.knowledge_items.select()).one()._mapping)
        connection.execute(
            insert(tables.knowledge_items).values(
                **{**item, "path": "lamp.md", "state": state, "reason": "over 1 MB"}
            )
        )
    missed = only(
        Explainer(sqlite_engine, knowledge).explain("piers", "Where is the lamp?", expect=["lamp.md"])
    )
    assert missed.why == why and words in missed.sentence.replace(source.name, "folder")
    if why == "left_out":
        assert missed.next.endswith(": penstock knowledge document list piers --state left_out")


def test_an_unreadable_document_is_told_with_its_error(tmp_path: Path, sqlite_engine: Engine) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("A lamp stands on the pier.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing of use")
    knowledge = KnowledgeService(
        sqlite_engine, MemoryBlobs(), tmp_path / "indexes", HashingEmbedder(), make_pool=InlinePool
    )
    knowledge.ingest("piers", folder)
    missed = only(Explainer(sqlite_engine, knowledge).explain("piers", "Where?", expect=["broken.pdf"]))
    assert missed.why == "parse_error" and "could not be read" in missed.sentence and missed.next


def test_without_vectors_the_words_alone_are_explained(island: Island) -> None:
    island.embedder.is_down = True
    try:
        made = Explainer(island.engine, island.knowledge).explain(
            "island", "Who spins honey in summer?", expect=["ferry.md#Timetable"], k=1
        )
    finally:
        island.embedder.is_down = False
    assert made.mode == "lexical" and made.note
    assert only(made).dense_rank is None
