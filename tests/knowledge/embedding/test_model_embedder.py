"""Embedding by a model: batches, waiting, refusals narrowed down, nothing cut off silently, every answer checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.knowledge.embedding.backoff import Backoff
from penstock.knowledge.embedding.batches import halve_text, make_batches
from penstock.knowledge.embedding.calls import EmbedAnswer, NoRoomNow, Refused
from penstock.knowledge.embedding.errors import EmbeddingBusy, RefusedEmbedding, WrongDimensions
from penstock.knowledge.embedding.identity import embedder_id, route_of
from penstock.knowledge.embedding.model_embedder import ModelEmbedder
from penstock.knowledge.embedding.questions import QuestionVectors
from penstock.knowledge.errors import UnusableEmbedding
from penstock.spec.knowledge import EmbedRecipe
from tests.knowledge.embedding.calls import FakeCalls, vector_of


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def backoff(self, deadline_s: float, **fields: Any) -> Backoff:
        return Backoff(
            deadline_s=deadline_s, sleep=self.sleep, monotonic=lambda: self.now, draw=lambda: 1.0, **fields
        )


def embedder(calls: FakeCalls, time: Time | None = None, **recipe: Any) -> ModelEmbedder:
    time = time or Time()
    return ModelEmbedder(
        calls,
        EmbedRecipe(**recipe),
        name="fake model@1",
        build=time.backoff(60),
        query=time.backoff(5, max_attempts=1),
    )


def test_prefixes_tell_questions_from_passages() -> None:
    calls = FakeCalls()
    made = embedder(calls, query_prefix="query: ", document_prefix="passage: ")
    made.embed(["how long"], "query")
    made.embed(["eight hours"], "document")
    assert calls.asked == [["query: how long"], ["passage: eight hours"]]


def test_rows_keep_the_order_of_texts_over_batches_side_by_side() -> None:
    texts = [f"word{n} and others" for n in range(50)]
    calls = FakeCalls()
    made = embedder(calls, batch_size=7)
    assert made.embed(texts, "document").tolist() == [vector_of(text) for text in texts]
    assert sorted(map(len, calls.asked)) == [1, 7, 7, 7, 7, 7, 7, 7]
    assert (made.usage.n_requests, made.usage.n_texts, made.usage.n_tokens) == (8, 50, 150)
    assert made.usage.cost_nano_usd == 3000


def test_a_cost_that_is_unknown_once_stays_unknown() -> None:
    def answer(texts: Sequence[str]) -> EmbedAnswer:
        return EmbedAnswer(rows=np.ones((len(texts), 4), dtype=np.float32), n_tokens=5)

    made = embedder(FakeCalls(before=answer))
    made.embed(["a"], "document")
    assert made.usage.n_tokens == 5
    assert made.usage.cost_nano_usd is None


def test_a_model_that_has_no_room_is_asked_again_after_what_it_asks_for() -> None:
    times = iter([NoRoomNow("429", retry_after_s=7.0), NoRoomNow("503"), NoRoomNow("503")])

    def refuse(texts: Sequence[str]) -> None:
        if (refusal := next(times, None)) is not None:
            raise refusal

    time, calls = Time(), FakeCalls(before=refuse)
    assert embedder(calls, time).embed(["one"], "document").shape == (1, 16)
    assert time.slept == [7.25, 1.0, 2.0]
    assert len(calls.asked) == 4


def test_waiting_ends_at_the_deadline_with_what_to_do_then() -> None:
    def refuse(texts: Sequence[str]) -> None:
        raise NoRoomNow("status 429: slow down", retry_after_s=25.0)

    time, calls = Time(), FakeCalls(before=refuse)
    with pytest.raises(EmbeddingBusy, match="slow down") as caught:
        embedder(calls, time).embed(["one"], "document")
    assert time.now < 60
    assert "goes on from there" in (caught.value.hint or "")
    assert calls.timeouts[-1] < 60  # a request is given no longer than is left


def test_a_question_does_not_wait() -> None:
    def refuse(texts: Sequence[str]) -> None:
        raise NoRoomNow("status 503")

    time, calls = Time(), FakeCalls(before=refuse)
    with pytest.raises(EmbeddingBusy):
        embedder(calls, time).embed(["one"], "query")
    assert len(calls.asked) == 1
    assert not time.slept


def test_a_refused_batch_is_halved_until_it_is_taken() -> None:
    calls = FakeCalls(most=3)
    texts = [f"t{n}" for n in range(8)]
    assert embedder(calls).embed(texts, "document").tolist() == [vector_of(text) for text in texts]
    assert [len(each) for each in calls.asked] == [8, 4, 2, 2, 4, 2, 2]


def test_the_text_that_a_batch_is_refused_for_is_named() -> None:
    def refuse(texts: Sequence[str]) -> None:
        if any("poison" in text for text in texts):
            raise Refused("status 400: bad input", is_size=False)

    texts = [f"fine {n}" for n in range(20)] + ["poison here"] + ["fine"] * 11
    calls = FakeCalls(before=refuse)
    with pytest.raises(RefusedEmbedding, match="'poison here': status 400: bad input"):
        embedder(calls).embed(texts, "document")
    assert len(calls.asked) < 14


def test_a_refusal_that_no_text_is_at_fault_for_is_told_at_once() -> None:
    def refuse(texts: Sequence[str]) -> None:
        raise Refused("status 404: no such model", is_size=False, is_of_texts=False)

    calls = FakeCalls(before=refuse)
    with pytest.raises(RefusedEmbedding, match="no such model"):
        embedder(calls).embed(["a"] * 20, "document")
    assert len(calls.asked) == 1


def test_a_text_too_long_for_the_model_is_embedded_whole_in_parts() -> None:
    long = " ".join(f"w{n}" for n in range(40))
    calls = FakeCalls(longest=12)
    made = embedder(calls, document_prefix="p: ")
    rows = made.embed(["short one", long, "short two"], "document")
    read = " ".join(
        text.removeprefix("p: ") for asked in calls.asked for text in asked if len(text.split()) <= 12
    )
    assert all(f"w{n}" in read.split() for n in range(40))
    assert all(text.startswith("p: ") for asked in calls.asked for text in asked)
    assert rows[0].tolist() == vector_of("p: short one")
    whole = np.asarray(vector_of(long))
    assert float(rows[1] @ whole / np.linalg.norm(rows[1]) / np.linalg.norm(whole)) > 0.9
    assert made.usage.n_in_parts == 1


def test_a_text_that_has_no_parts_is_named() -> None:
    def refuse(texts: Sequence[str]) -> None:
        raise Refused("status 413: too large", is_size=True)

    with pytest.raises(RefusedEmbedding, match="too large"):
        embedder(FakeCalls(before=refuse)).embed(["abc"], "document")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "nothing but zeros"), (float("nan"), "not finite"), (float("inf"), "not finite")],
)
def test_vectors_that_cannot_be_compared_are_refused_with_their_text(value: float, told: str) -> None:
    def answer(texts: Sequence[str]) -> EmbedAnswer:
        rows = np.ones((len(texts), 4), dtype=np.float32)
        rows[1] = value
        return EmbedAnswer(rows=rows)

    with pytest.raises(UnusableEmbedding, match=f"{told} for the text 'second'"):
        embedder(FakeCalls(before=answer)).embed(["first", "second", "third"], "document")


def test_another_length_than_the_recipe_asks_for_stops_with_both_numbers() -> None:
    calls = FakeCalls(dims=16)
    with pytest.raises(WrongDimensions, match=r"16 numbers a text, where the recipe asks for 8"):
        embedder(calls, dims=8).embed(["one"], "document")
    assert calls.dims_asked == [8]


def test_another_length_than_before_stops_with_both_numbers() -> None:
    calls = FakeCalls(dims=16)
    made = embedder(calls)
    made.embed(["one"], "document")
    calls.dims = 12
    with pytest.raises(WrongDimensions, match="12 numbers a text, where it gave before 16"):
        made.embed(["two"], "document")


def test_fewer_rows_than_texts_are_refused() -> None:
    def answer(texts: Sequence[str]) -> EmbedAnswer:
        return EmbedAnswer(rows=np.ones((1, 4), dtype=np.float32))

    with pytest.raises(UnusableEmbedding, match="2 texts"):
        embedder(FakeCalls(before=answer)).embed(["one", "two"], "document")


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8), st.integers(1, 60))
def test_batches_hold_every_text_once_within_both_bounds(counts: list[int], size: int, bound: int) -> None:
    batches = list(make_batches([""] * len(counts), counts, size=size, max_tokens=bound))
    assert [number for batch in batches for number in batch] == list(range(len(counts)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert all(len(batch) == 1 or sum(counts[n] for n in batch) <= bound for batch in batches)


@given(st.text(max_size=60))
def test_halves_hold_all_that_is_visible(text: str) -> None:
    halves = halve_text(text)
    if halves is not None:
        assert all(halves)
        assert "".join("".join(halves).split()) == "".join(text.split())
    else:
        assert len("".join(text.split())) <= 1


def test_ids_tell_what_vectors_depend_on_and_stay_what_they_were() -> None:
    plain = embedder_id("minilm", "model:minilm@1 sha256:ab", EmbedRecipe())
    assert plain == "minilm model:minilm@1 sha256:ab"
    assert route_of(plain) == "minilm"
    recipes = [
        EmbedRecipe(),
        EmbedRecipe(dims=128),
        EmbedRecipe(document_prefix="passage: "),
        EmbedRecipe(context="none"),
        EmbedRecipe(document_prefix="passage: ", context="none"),
    ]
    assert len({embedder_id("m", "v", recipe) for recipe in recipes}) == len(recipes)
    same = [EmbedRecipe(query_prefix="query: "), EmbedRecipe(batch_size=4), EmbedRecipe(model="m")]
    assert {embedder_id("m", "v", recipe) for recipe in same} == {"m v"}


def test_a_question_asked_again_is_not_embedded_again() -> None:
    calls = FakeCalls()
    made, kept = embedder(calls), QuestionVectors(kept=2)
    first = kept.embed(made, EmbedRecipe(), "how long")
    assert np.isclose(np.linalg.norm(first), 1)
    assert kept.embed(made, EmbedRecipe(), "how long") is first
    kept.embed(made, EmbedRecipe(query_prefix="q: "), "how long")  # another vector, under another prefix
    kept.embed(made, EmbedRecipe(), "how far")
    kept.embed(made, EmbedRecipe(), "how long")
    assert len(calls.asked) == 4
    kept.forget()
    kept.embed(made, EmbedRecipe(), "how long")
    assert len(calls.asked) == 5
