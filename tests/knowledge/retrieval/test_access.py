"""No principal ever sees a document that it may not: not as a hit, a parent, a merged passage, a second look's text, an
explanation, a note or a count. Random policies and recipes; what is compared is a base that never held the rest.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.knowledge.retrieval.filters import make_selection, may_read
from penstock.knowledge.retrieval.types import Ranked, RerankText
from penstock.spec.knowledge import ChosenScope, Condition, Properties, RerankRecipe, SearchRecipe
from tests.knowledge.retrieval.shelves import make_shelf

PRINCIPALS = ["user:ada", "user:bob", "group:finance", "group:it", "everyone"]
WORDS = ["alpha", "beta", "gamma", "delta"]


class Listener:
    """A second look that remembers every text it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(
        self, query: str, passages: Sequence[RerankText], recipe: RerankRecipe, *, traceparent: str | None
    ) -> list[float]:
        self.texts += [each.text for each in passages]
        return [float(len(each.text)) for each in passages]


readers = st.none() | st.lists(st.sampled_from(PRINCIPALS), max_size=3)
documents = st.lists(
    st.tuples(
        readers, st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=6,
)
asking = st.lists(st.sampled_from([*PRINCIPALS, "user:eve", "", " ", "USER:ADA", "user:ad"]), max_size=3)
recipes = st.builds(
    SearchRecipe,
    fusion=st.sampled_from(["convex", "rrf", "dense", "lexical"]),
    rerank=st.none() | st.just(RerankRecipe(kind="cross-encoder", depth=4)),
    diversity=st.sampled_from([0.0, 0.5]),
    max_per_document=st.none() | st.just(1),
    freshness_weight=st.sampled_from([0.0, 0.3]),
)
conditions = st.sampled_from(
    [[], [Condition(op="is", field="secret", value="x")], [Condition(op="exists", field="topic", value=True)], [Condition(op="not", field="path", value="d1.md")]]
)  # fmt: skip


def shelf_of(kept: dict[str, tuple[list[str] | None, list[str]]]) -> Any:
    return make_shelf(
        {path: texts for path, (_, texts) in kept.items()},
        {
            path: Properties(readers=own, values={f"only_{path}": "x", "topic": "t"})
            for path, (own, _) in kept.items()
        },
        parents=dict.fromkeys(kept, (0, 999)),
    )


def comparable(ranked: Ranked) -> Any:
    """Everything that a caller could see, without times and row numbers of the index."""
    stages = [
        (
            stage.name,
            stage.n_in,
            stage.n_out,
            stage.note,
            [replace(each, row=0) for each in stage.candidates],
            [(replace(each.candidate, row=0), each.reason) for each in stage.dropped],
        )
        for stage in ranked.stages
    ]
    passages = [replace(each, candidate=replace(each.candidate, row=0)) for each in ranked.passages]
    return passages, stages, ranked.mode, ranked.notes, ranked.n_rows, ranked.shortfall


@settings(max_examples=250, deadline=None)
@given(documents, asking, recipes, conditions, st.integers(1, 6))
def test_a_search_tells_no_more_than_a_base_without_the_forbidden_documents(
    made: Any, principals: list[str], recipe: SearchRecipe, asked: list[Condition], k: int
) -> None:
    everything = {
        f"d{number}.md": (own, [f"{' '.join(words)} text{number}n{n}" for n, words in enumerate(passages)])
        for number, (own, passages) in enumerate(made)
    }
    allowed = {path: each for path, each in everything.items() if may_read(each[0], principals)}
    forbidden = [text for path, (_, texts) in everything.items() if path not in allowed for text in texts]
    scope = ChosenScope(principals=principals, conditions=asked)
    listener, other = Listener(), Listener()
    full = shelf_of(everything)
    ranked = full.search(
        "alpha beta",
        k,
        scope=scope,
        recipe=recipe,
        rerankers={"cross-encoder": listener},
        explain=True,
    )
    shown = repr((ranked.passages, ranked.notes, ranked.shortfall, ranked.stages, listener.texts))
    assert not [text for text in forbidden if text in shown]
    assert not [path for path in everything if path not in allowed and path in shown.replace("'d1.md'", "")]
    assert all(full.leaves[place].path in allowed for place in full.loaded)  # nor was it read
    if allowed:  # BM25 and cosines of this index do not depend on other documents, so all must be equal
        lone = shelf_of(allowed).search(
            "alpha beta", k, scope=scope, recipe=recipe, rerankers={"cross-encoder": other}, explain=True
        )
        assert comparable(ranked) == comparable(lone)
    else:  # as if nothing had ever been there
        told = "nothing here matches the filter" if asked else "nothing is here"
        assert ranked.shortfall == f"0 of {k}: {told}"
        assert (ranked.n_rows, [(stage.n_in, stage.n_out) for stage in ranked.stages]) == (0, [(0, 0)] * 2)


@pytest.mark.parametrize(
    ("readers", "principals", "sees"),
    [
        (None, None, True),
        (None, [], True),
        (["user:ada"], None, True),
        (["user:ada"], [], False),
        (["user:ada"], ["user:ada"], True),
        (["user:ada"], ["user:Ada"], False),
        (["user:ada"], ["user:bob", "group:it"], False),
        (["group:it", "user:x"], ["user:bob", "group:it"], True),
        (["everyone"], ["user:bob"], True),
        (["everyone"], [], True),
        ([], ["user:ada", "everyone"], False),
        ([""], [""], False),
    ],
)
def test_access_is_by_exact_name_and_fails_closed(
    readers: list[str] | None, principals: list[str] | None, sees: bool
) -> None:
    assert may_read(readers, principals) is sees
    shelf = make_shelf({"a.md": ["tea"]}, {"a.md": Properties(readers=readers)})
    assert len(shelf.search("tea", scope=ChosenScope(principals=principals)).passages) == sees


def test_a_document_that_nobody_may_read_is_there_for_those_who_keep_the_base() -> None:
    shelf = make_shelf({"a.md": ["tea"]}, {"a.md": Properties(readers=[])})
    assert make_selection(shelf, ChosenScope()) is None
    selection = make_selection(shelf, ChosenScope(principals=["everyone"]))
    assert selection is not None
    assert selection.count == 0


def test_selections_of_one_principal_are_never_given_to_another() -> None:
    """Selections are remembered; another scope or another index with the same scope has its own."""
    from penstock.knowledge.retrieval.filters import SelectionCache  # the part under test

    cache = SelectionCache(limit=2)
    shelf = make_shelf({"a.md": ["tea"], "b.md": ["tea"]}, {"a.md": Properties(readers=["user:ada"])})
    other = make_shelf({"a.md": ["tea"]}, {"a.md": Properties(readers=["user:bob"])})
    counts = [
        cache.select(index, ChosenScope(principals=[who])).count
        for _ in range(3)
        for index in (shelf, other)
        for who in ("user:ada", "user:bob", "user:eve")
    ]
    assert counts == [2, 1, 1, 0, 1, 0] * 3
    kept = cache.select(shelf, ChosenScope(principals=["user:ada"]))
    assert cache.select(shelf, ChosenScope(principals=["user:ada"])) is kept
