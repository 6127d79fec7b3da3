"""One search: stages do what the recipe says, in the same order every time, and say why there is less than asked for."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import UpstreamError
from penstock.knowledge.retrieval.types import Ranked, RerankText
from penstock.spec.knowledge import ChosenScope, Condition, Properties, RerankRecipe, SearchRecipe
from tests.knowledge.retrieval.shelves import NOW_NS, Shelf, make_shelf

DAY_NS = 86_400 * 10**9
TEXTS = {
    "cake.md": ["A cake needs flour and sugar", "Bake the cake for 40 minutes", "Serve the cake cold"],
    "car.md": ["The engine of a car needs oil", "A garage checks the brakes of a car"],
    "tea.md": ["Tea needs hot water", "A cake goes with tea"],
}


def ids(ranked: Ranked) -> list[str]:
    return [passage.passage_id for passage in ranked.passages]


@pytest.fixture
def shelf() -> Shelf:
    return make_shelf(TEXTS)


class Second:
    """A second look that likes what it is told to like."""

    def __init__(self, liked: dict[str, float] | None = None, failure: Exception | None = None) -> None:
        self.liked = liked or {}
        self.failure = failure
        self.seen: list[str] = []
        self.release = threading.Event()
        self.release.set()

    def score(
        self, query: str, passages: Sequence[RerankText], recipe: RerankRecipe, *, traceparent: str | None
    ) -> list[float]:
        self.seen += [each.id for each in passages]
        self.release.wait(120)
        if self.failure is not None:
            raise self.failure
        return [self.liked.get(each.id, 0.0) for each in passages]


def look(second: Second, query: str, shelf: Shelf, k: int = 3, **recipe: Any) -> Ranked:
    asked = RerankRecipe(kind="cross-encoder", **recipe.pop("rerank", {}))
    return shelf.search(
        query, k, recipe=SearchRecipe(rerank=asked, **recipe), rerankers={"cross-encoder": second}
    )


def test_an_empty_question_finds_nothing_and_reads_nothing(shelf: Shelf) -> None:
    ranked = shelf.search(" \n ")
    assert (ranked.passages, ranked.mode, ranked.note) == ((), "none", "the query is empty")
    assert shelf.lexical.asked == []


@pytest.mark.parametrize(
    ("fusion", "mode", "has_dense", "has_lexical"),
    [("convex", "hybrid", True, True), ("rrf", "hybrid", True, True), ("dense", "dense", True, False), ("lexical", "lexical", False, True)],
)  # fmt: skip
def test_fusion_says_which_kinds_run(
    shelf: Shelf, fusion: Any, mode: str, has_dense: bool, has_lexical: bool
) -> None:
    ranked = shelf.search("needs flour and sugar for a cake", 2, recipe=SearchRecipe(fusion=fusion))
    assert ids(ranked)[0] == "cake.md#0"
    assert ranked.mode == mode
    first = ranked.passages[0].candidate
    assert (first.dense is not None, first.lexical is not None) == (has_dense, has_lexical)
    assert bool(shelf.lexical.asked) == has_lexical


def test_without_a_vector_words_alone_count_and_the_reason_is_told(shelf: Shelf) -> None:
    def refuse(_: str) -> tuple[None, str]:
        return None, "the query could not be embedded: the engine is down"

    for fusion in ("convex", "rrf", "dense"):
        ranked = shelf.search("sugar", embed_query=refuse, recipe=SearchRecipe(fusion=fusion))
        assert ids(ranked) == ["cake.md#0"]
        assert ranked.mode == "lexical"
        assert ranked.note == "the query could not be embedded: the engine is down"
        assert ranked.passages[0].candidate.score == pytest.approx(1.0)


def test_a_quoted_or_coded_question_may_be_weighed_otherwise(shelf: Shelf) -> None:
    recipe = SearchRecipe(identifier_weight=0.0)
    assert shelf.search('the "garage checks" please', recipe=recipe).mode == "lexical"
    assert shelf.search("why does E-1042 show", recipe=recipe).mode in ("lexical", "none")
    assert shelf.search("who checks the brakes in 2024", recipe=recipe).mode == "hybrid"
    assert shelf.search('the "garage checks" please').mode == "hybrid"


def test_newer_documents_rise_by_their_weight_and_unknown_age_is_the_middle() -> None:
    same = {name: ["tea with milk"] for name in ("a.md", "b.md", "c.md")}
    shelf = make_shelf(
        same,
        {
            "a.md": Properties(modified_ns=NOW_NS - 1000 * DAY_NS),
            "c.md": Properties(modified_ns=NOW_NS + DAY_NS),
        },
    )
    assert ids(shelf.search("tea with milk")) == ["a.md#0", "b.md#0", "c.md#0"]
    ranked = shelf.search("tea with milk", recipe=SearchRecipe(freshness_weight=0.3))
    assert ids(ranked) == ["c.md#0", "b.md#0", "a.md#0"]
    assert [each.candidate.freshness for each in ranked.passages] == [
        1.0,
        0.5,
        pytest.approx(0.021, abs=1e-3),
    ]


@pytest.mark.parametrize(
    ("told", "counts"), [(0.9, 0.9), (7, 1.0), (-1, 0.0), ("high", 0.5), (True, 0.5), (float("nan"), 0.5)]
)
def test_authority_is_a_number_between_0_and_1(told: Any, counts: float) -> None:
    shelf = make_shelf({"a.md": ["tea"]}, {"a.md": Properties(values={"authority": told})})
    (found,) = shelf.search("tea", recipe=SearchRecipe(authority_weight=0.5)).passages
    assert found.candidate.authority == counts


def test_a_second_look_reorders_its_depth_and_the_rest_stays_below(shelf: Shelf) -> None:
    first = ids(shelf.search("cake needs", 7))
    second = Second({first[2]: 5.0, first[4]: 99.0})
    ranked = look(second, "cake needs", shelf, 7, rerank={"depth": 3})
    assert second.seen == first[:3]
    assert ids(ranked)[:3] == [first[2], first[0], first[1]]
    assert ids(ranked)[3:] == first[3:]
    scores = [each.candidate.score for each in ranked.passages]
    assert scores == sorted(scores, reverse=True)


def test_a_second_look_of_weight_0_changes_no_order(shelf: Shelf) -> None:
    second = Second({"tea.md#1": 9.0})
    assert ids(look(second, "cake needs", shelf, rerank={"weight": 0.0})) == ids(
        shelf.search("cake needs", 3)
    )


@pytest.mark.parametrize("failure", [UpstreamError("the provider is down"), ValueError("garbage"), None])
def test_a_second_look_that_fails_leaves_the_first_order_and_a_note(
    shelf: Shelf, failure: Exception | None
) -> None:
    second = Second({"cake.md#0": float("nan")}, failure)
    ranked = look(second, "cake needs", shelf)
    assert ids(ranked) == ids(shelf.search("cake needs", 3))
    assert "no second look (cross-encoder)" in (ranked.note or "")


def test_a_slow_second_look_is_not_waited_for(shelf: Shelf) -> None:
    second = Second({"cake.md#2": 1.0})
    second.release.clear()
    ranked = look(second, "cake needs", shelf, rerank={"timeout_s": 0.02})
    second.release.set()
    assert ids(ranked) == ids(shelf.search("cake needs", 3))
    assert "longer than 0.02 s" in (ranked.note or "")


def test_a_kind_of_second_look_that_is_not_there_is_noted(shelf: Shelf) -> None:
    recipe = SearchRecipe(rerank=RerankRecipe(kind="provider"))
    assert "none of this kind" in (shelf.search("cake", recipe=recipe).note or "")


def test_what_the_second_look_refuses_is_left_out_with_what_it_did_not_see(shelf: Shelf) -> None:
    second = Second({"cake.md#0": 0.9})
    ranked = look(second, "cake needs", shelf, 3, rerank={"depth": 2}, min_rerank_score=0.5)
    assert ids(ranked) == ["cake.md#0"]
    assert ranked.shortfall is not None
    assert "found irrelevant" in ranked.shortfall


def test_a_passage_without_a_shared_word_must_come_near(shelf: Shelf) -> None:
    assert len(shelf.search("sugar", 7).passages) == 7
    ranked = shelf.search("sugar", 7, recipe=SearchRecipe(min_dense_score=0.99), explain=True)
    assert ids(ranked) == ["cake.md#0"]
    (stage,) = [stage for stage in ranked.stages if stage.name == "relevance"]
    assert len(stage.dropped) == 6
    assert "shares no word" in stage.dropped[0].reason


def test_a_share_of_the_best_score_can_be_demanded(shelf: Shelf) -> None:
    ranked = shelf.search("cake needs", 7, recipe=SearchRecipe(min_relative_score=0.9))
    best = ranked.passages[0].candidate.score
    assert 0 < len(ranked.passages) < 7
    assert all(each.candidate.score >= 0.9 * best for each in ranked.passages)


def test_diversity_moves_equal_passages_apart() -> None:
    shelf = make_shelf({"a.md": ["tea with milk"], "b.md": ["tea with milk"], "c.md": ["tea and bread"]})
    assert ids(shelf.search("tea with milk")) == ["a.md#0", "b.md#0", "c.md#0"]
    ranked = shelf.search("tea with milk", recipe=SearchRecipe(diversity=0.6))
    assert ids(ranked) == ["a.md#0", "c.md#0", "b.md#0"]


def test_a_document_shows_no_more_than_its_share(shelf: Shelf) -> None:
    ranked = shelf.search("cake", 5, recipe=SearchRecipe(max_per_document=1))
    assert sorted(each.document for each in ranked.passages) == ["cake.md", "car.md", "tea.md"]
    assert ranked.shortfall == "3 of 5: 4 stand behind others of their document"


def test_fewer_than_k_says_why(shelf: Shelf) -> None:
    assert shelf.search("cake", 7).shortfall is None
    assert shelf.search("cake", 8).shortfall == "7 of 8: 7 passages are here"
    narrow = ChosenScope(conditions=[Condition(op="is", field="path", value="tea.md")])
    assert shelf.search("cake", 5, scope=narrow).shortfall == "2 of 5: 2 passages match the filter"
    nothing = ChosenScope(conditions=[Condition(op="is", field="path", value="x.md")])
    ranked = shelf.search("cake", 5, scope=nothing)
    assert ranked.shortfall == "0 of 5: nothing here matches the filter"
    assert ranked.mode == "none"
    words = shelf.search("flour", 5, recipe=SearchRecipe(fusion="lexical"))
    assert words.shortfall == "1 of 5: no others share a word with the question"


def test_a_passage_that_was_erased_meanwhile_gives_way_to_the_next(shelf: Shelf) -> None:
    first = ids(shelf.search("cake", 3))
    shelf.leaves = {place: leaf for place, leaf in shelf.leaves.items() if leaf.id != first[0]}
    assert ids(shelf.search("cake", 2)) == first[1:3]


def test_texts_are_read_for_what_is_shown_alone(shelf: Shelf) -> None:
    shelf.search("cake", 2)
    assert len(shelf.loaded) == 2


def test_stages_are_told_in_order_and_candidates_only_when_asked_for(shelf: Shelf) -> None:
    plain = shelf.search("cake", 2)
    assert [stage.name for stage in plain.stages] == [
        "selection", "question", "lexical", "dense", "fusion", "cut"
    ]  # fmt: skip
    assert not any(stage.candidates or stage.dropped for stage in plain.stages)
    told = shelf.search("cake", 2, explain=True)
    fusion, cut = told.stages[4:]
    assert [each.row for each in fusion.candidates][:2] == [p.candidate.row for p in told.passages]
    assert len(fusion.candidates) == 7
    assert len(cut.dropped) == 5
    assert {each.dense_rank for each in fusion.candidates} == set(range(1, 8))


def test_parents_are_shown_instead_and_children_of_one_become_one() -> None:
    shelf = make_shelf(TEXTS, parents={"cake.md": (0, 77)})
    ranked = shelf.search("cake needs", 4, explain=True)
    top = ranked.passages[0]
    assert top.passage_id == "cake.md#0"
    assert top.text == "A cake needs flour and sugar Bake the cake for 40 minutes Serve the cake cold"
    assert (top.start, top.end) == (0, 77)
    assert top.found_text == TEXTS["cake.md"][0]
    assert set(top.merged) == {"cake.md#1", "cake.md#2"}
    assert [each.document for each in ranked.passages].count("cake.md") == 1
    assert len(ranked.passages) == 4  # merged ones make room for further passages


def test_a_long_parent_is_put_together_from_many_passages() -> None:
    """Neighbours are read in growing windows, so a parent longer than the first window is whole."""
    sentences = [f"word{number} stands here" for number in range(300)]
    end = sum(len(text) + 1 for text in sentences) - 1
    shelf = make_shelf({"long.md": sentences}, parents={"long.md": (0, end)})
    (found,) = shelf.search("word150", 1).passages
    assert found.text == " ".join(sentences)


def test_a_parent_never_reaches_into_another_document() -> None:
    shelf = make_shelf(
        {"a.md": ["apple pie"], "b.md": ["berry pie"], "c.md": ["cherry pie"]}, parents={"b.md": (0, 999)}
    )
    (found,) = shelf.search("berry", 1).passages
    assert found.text == "berry pie"


@settings(max_examples=40, deadline=None)
@given(
    st.text(alphabet="abc def", min_size=1, max_size=12),
    st.floats(0, 1),
    st.sampled_from(["convex", "rrf", "dense", "lexical"]),
    st.integers(1, 9),
)
def test_scores_are_between_0_and_1_in_order_and_the_same_again(
    query: str, weight: float, fusion: Any, k: int
) -> None:
    shelf = make_shelf({f"{n}.md": [" ".join("abcdef"[n : n + 3])] for n in range(6)})
    recipe = SearchRecipe(fusion=fusion, dense_weight=weight)
    ranked = shelf.search(query, k, recipe=recipe)
    scores = [each.candidate.score for each in ranked.passages]
    assert scores == sorted(scores, reverse=True)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores)
    assert ids(ranked) == ids(shelf.search(query, k, recipe=recipe))


def test_zero_vectors_do_no_harm(shelf: Shelf) -> None:
    shelf.dense.matrix[:] = 0
    ranked = shelf.search("cake", 3, embed_query=lambda _: (np.zeros(64, dtype=np.float32), None))
    assert len(ranked.passages) == 3


@pytest.mark.parametrize(
    "recipe",
    [
        SearchRecipe(dense_weight=0.7),
        SearchRecipe(fusion="dense"),
        SearchRecipe(dense_weight=0.7, diversity=0.5),
    ],
)
def test_a_server_of_vectors_that_is_down_leaves_words_and_is_told(
    shelf: Shelf, recipe: SearchRecipe
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UpstreamError("Qdrant cannot be reached.")

    shelf.dense.search = refuse  # type: ignore[method-assign]
    shelf.dense.vectors = refuse  # type: ignore[method-assign]
    ranked = shelf.search("flour for a cake", 2, recipe=recipe)
    assert ranked.mode == "lexical"
    assert ids(ranked)
    assert any("words alone were: Qdrant cannot be reached." in note for note in ranked.notes)
