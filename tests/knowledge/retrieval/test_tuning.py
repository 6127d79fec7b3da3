"""Tuning: what is computed in memory is what a search does, and what is promised is not what was flattered."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.knowledge.retrieval.errors import BadSearchRecipe
from penstock.knowledge.retrieval.knobs import KNOBS
from penstock.knowledge.retrieval.question import analyse_question
from penstock.knowledge.retrieval.settings import (
    Setting,
    describe_changes,
    make_grid,
    read_setting,
    write_recipe,
)
from penstock.knowledge.retrieval.tuner import read_knob, read_metric
from penstock.knowledge.retrieval.tuning import (
    METRICS,
    Board,
    Candidates,
    Trial,
    assign_folds,
    choose,
    measure_needs,
    try_all,
)
from penstock.spec.knowledge import RerankRecipe, SearchRecipe
from tests.knowledge.retrieval.shelves import Shelf, make_shelf

WORDS = ["alpha", "beta", "gamma", "delta", "eps", "zeta", "eta", "theta"]
RNG = np.random.default_rng(3)
SHELF = make_shelf({f"{n:02}.md": [" ".join(RNG.choice(WORDS, size=RNG.integers(2, 6)))] for n in range(40)})
QUESTIONS = [
    "alpha beta",
    "gamma",
    "zeta eta theta",
    'the "delta eps" one',
    "beta alpha gamma delta",
    "nothing known",
]


def gather(shelf: Shelf, question: str, limit: int) -> Candidates:
    """Return a question's candidates as the tuner gathers them; rows 0, 7, 14 … meet its needs."""
    recipe = SearchRecipe(dense_weight=0.5, n_candidates=limit)
    ranked = shelf.search(question, 1, recipe=recipe, explain=True)
    found = next(stage for stage in ranked.stages if stage.name == "fusion").candidates
    by_row = {each.row: each for each in found}
    rows = sorted(by_row)
    return Candidates(
        id=question,
        group=question[:1],
        rows=np.array(rows),
        cosines=np.array([by_row[row].dense for row in rows], dtype=np.float64),
        dense_ranks=np.array([by_row[row].dense_rank or 0 for row in rows]),
        words={(1.0, 1.0): np.array([by_row[row].lexical or 0.0 for row in rows])},
        needs=np.array([1 << (row % 3) if row % 7 == 0 else 0 for row in rows], dtype=np.uint64),
        n_needs=3,
        is_exact=analyse_question(question).is_exact,
    )


GATHERED = [gather(SHELF, question, 40) for question in QUESTIONS]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["convex", "rrf"]),
    st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.7, 0.95, 1.0]),
    st.sampled_from([5, 8, 20]),
    st.sampled_from([None, 0.0, 0.3]),
    st.sampled_from(["ndcg", "recall", "mrr", "hit", "precision"]),
)
def test_the_board_ranks_as_a_search_does(
    fusion: Any, weight: float, n_candidates: int, identifier: float | None, metric: Any
) -> None:
    setting = Setting(fusion=fusion, weight=weight, n_candidates=n_candidates, identifier_weight=identifier)
    board = Board(GATHERED, metric=metric, k=5)
    recipe = write_recipe(SearchRecipe(), setting, None)
    for question, value in zip(QUESTIONS, board.measure(setting), strict=True):
        ranked = SHELF.search(question, 5, recipe=recipe)
        rows = [each.candidate.row for each in ranked.passages]
        found = [1 << (row % 3) if row % 7 == 0 else 0 for row in rows] + [0] * (5 - len(rows))
        (expected,) = measure_needs(np.array([found], dtype=np.uint64), np.array([3]), metric)
        assert value == pytest.approx(expected, abs=1e-6), (question, setting)


def test_the_board_looks_again_as_a_search_does() -> None:
    class Second:
        def score(self, query: str, passages: Any, recipe: Any, *, traceparent: Any) -> list[float]:
            return [float((int(each.id[:2]) * 7) % 11) for each in passages]

    base = gather(SHELF, "alpha beta", 40)
    looked = Candidates(**{**vars(base), "looks": np.array([float((row * 7) % 11) for row in base.rows])})
    for weight in (0.25, 1.0):
        setting = Setting(fusion="convex", weight=0.7, rerank_weight=weight, rerank_depth=10)
        recipe = write_recipe(SearchRecipe(), setting, RerankRecipe(kind="cross-encoder"))
        ranked = SHELF.search("alpha beta", 5, recipe=recipe, rerankers={"cross-encoder": Second()})
        found = [1 << (p.candidate.row % 3) if p.candidate.row % 7 == 0 else 0 for p in ranked.passages]
        (expected,) = measure_needs(np.array([found], dtype=np.uint64), np.array([3]), "ndcg")
        assert Board([looked], metric="ndcg", k=5).measure(setting)[0] == pytest.approx(expected, abs=1e-6)


def test_metrics_count_a_need_once_at_its_first_rank() -> None:
    found = np.array([[1, 1, 2, 0], [0, 3, 0, 4], [0, 0, 0, 0]], dtype=np.uint64)
    n_needs = np.array([2, 3, 1])
    values = {metric: measure_needs(found, n_needs, metric).tolist() for metric in METRICS}
    assert values["recall"] == [1.0, 1.0, 0.0]
    assert values["mrr"] == [1.0, 0.5, 0.0]
    assert values["hit"] == [1.0, 1.0, 0.0]
    assert values["precision"] == [0.5, 0.5, 0.0]
    gains = [1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]
    # two needs met by one row want no second rank
    assert values["ndcg"] == pytest.approx(
        [(gains[0] + gains[2]) / (gains[0] + gains[1]), (gains[1] + gains[3]) / (gains[0] + gains[1]), 0.0]
    )


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.integers(1, 6))
def test_folds_never_split_a_group_and_are_the_same_again(groups: list[str], n_folds: int) -> None:
    folds = assign_folds(groups, n_folds)
    for group in set(groups):
        assert len({int(fold) for fold, own in zip(folds, groups, strict=True) if own == group}) == 1
    assert folds.tolist() == assign_folds(groups, n_folds).tolist()
    assert len(set(folds.tolist())) == min(n_folds, len(set(groups)))


def test_the_best_of_many_random_settings_is_not_promised() -> None:
    """Five hundred settings that all do the same but for noise: the best one seen looks good, the promise does not."""
    rng = np.random.default_rng(5)
    values = rng.random((500, 100)).astype(np.float32)
    grid = [Setting(fusion="convex", weight=number / 500) for number in range(500)]
    choice = choose(Trial(settings=grid, values=values, groups=[str(number // 2) for number in range(100)]))
    seen = float(values[choice.best].mean())
    assert seen > 0.56
    assert float(choice.honest.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(choice.honest.mean()) < seen - 0.03


def test_a_setting_that_is_truly_better_is_chosen_in_every_fold() -> None:
    rng = np.random.default_rng(6)
    values = (rng.random((20, 60)) * 0.1).astype(np.float32)
    values[13] += 0.5
    grid = [Setting(fusion="convex", weight=number / 20) for number in range(20)]
    choice = choose(Trial(settings=grid, values=values, groups=[str(number) for number in range(60)]))
    assert set(choice.per_fold) == {choice.best} == {13}
    assert choice.honest.tolist() == values[13].tolist()


def test_among_equals_the_nearest_to_the_present_recipe_wins() -> None:
    present = Setting(fusion="convex", weight=0.7)
    grid = make_grid(present, ["dense_weight", "title_weight"])
    values = np.ones((len(grid), 10), dtype=np.float32)
    choice = choose(Trial(settings=grid, values=values, groups=[str(number) for number in range(10)]))
    assert grid[choice.best] == present


def test_the_grid_turns_what_it_is_told_to_alone() -> None:
    present = Setting(fusion="convex", weight=0.62, n_candidates=50)
    grid = make_grid(present, ["dense_weight"])
    assert grid[0] == present
    assert {tuple(describe_changes(each, present)) for each in grid[1:]} == {("weight",)}
    assert {0.0, 1.0, 0.5} <= {each.weight for each in grid}
    most = make_grid(present, [knob for knob in KNOBS if knob != "n_candidates"])
    assert len(most) == len(set(most)) > 5000
    with pytest.raises(BadSearchRecipe, match="fewer"):
        make_grid(present, KNOBS)
    with pytest.raises(BadSearchRecipe):
        read_knob("dense_wieght")
    with pytest.raises(InvalidInput):
        read_metric("ndcg")
    assert read_metric("recall@5") == ("recall", 5)


@given(st.sampled_from(["convex", "rrf"]), st.sampled_from([0.0, 0.2, 0.7, 1.0]), st.sampled_from([0.0, 0.5]))
def test_a_setting_written_as_a_recipe_is_read_as_itself(fusion: Any, weight: float, look: float) -> None:
    setting = Setting(fusion=fusion, weight=weight, rerank_weight=look, rerank_depth=10 if look else 30)
    recipe = write_recipe(SearchRecipe(), setting, RerankRecipe(kind="late-interaction"))
    assert read_setting(recipe, weight) == setting


def test_thousands_of_settings_are_tried_at_once() -> None:
    grid = make_grid(
        Setting(fusion="convex", weight=0.7), ["dense_weight", "fusion", "n_candidates", "identifier_weight"]
    )
    trial = try_all(GATHERED, grid, metric="ndcg", k=10)
    assert trial.values.shape == (len(grid), len(QUESTIONS))
    assert np.isfinite(trial.values).all()
    assert (trial.values >= 0).all()
    assert (trial.values <= 1 + 1e-6).all()
