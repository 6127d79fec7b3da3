"""Replies are read strictly: garbage, refusals and half-answers are counted, and never become rows."""

import pytest

from penstock.datasets.proposals.ports import ModelAnswer
from penstock.datasets.proposals.reading import read_answer
from penstock.datasets.proposals.types import Outcome


def read(text: str, *, n: int = 3, wants_answer: bool = True, passages: list[str] | None = None) -> Outcome:
    answer = ModelAnswer(status="ok", text=text, trace_id="t1")
    return read_answer(answer, n=n, wants_answer=wants_answer, passage_ids=passages, cost_usd="0.1")


def test_what_was_asked_for_is_read_with_its_cost_and_trace() -> None:
    found = read('{"proposals": [{"question": " Why? ", "answer": "So."}]}')
    assert found == Outcome(
        status="ok", items=[{"question": "Why?", "answer": "So."}], cost_usd="0.1", trace_id="t1"
    )


def test_a_fence_around_the_json_is_taken_off() -> None:
    assert len(read('```json\n{"proposals": [{"question": "Why?", "answer": "So."}]}\n```').items) == 1


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", "garbage", "an empty reply"),
        ("Here you go: 1. Why?", "garbage", "no JSON"),
        ('{"proposals": {"question": "Why?"}}', "garbage", "JSON without a list `proposals`"),
        ('[{"question": "Why?"}]', "garbage", "JSON without a list `proposals`"),
        ("I'm sorry, but I can't help with that.", "refused", "the model declined in words"),
        ("I cannot write adversarial questions.", "refused", "the model declined in words"),
    ],
)
def test_a_reply_that_cannot_be_read_brings_nothing(text: str, status: str, reason: str) -> None:
    found = read(text)
    assert (found.status, found.reason, found.items) == (status, reason, [])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ('"Why?"', "not an object"),
        ('{"question": "Why?"}', "no answer"),
        ('{"question": "", "answer": "So."}', "question is no text"),
        ('{"question": 5, "answer": "So."}', "question is no text"),
        ('{"question": "Why?", "answer": "So.", "difficulty": "hard"}', "keys that were not asked for"),
    ],
)
def test_an_item_that_is_not_as_asked_is_left_out_and_counted(item: str, reason: str) -> None:
    found = read(f'{{"proposals": [{item}, {{"question": "How?", "answer": "Thus."}}]}}')
    assert found.left_out == {reason: 1}
    assert [each["question"] for each in found.items] == ["How?"]


def test_more_than_was_asked_for_is_left_out() -> None:
    items = ", ".join(f'{{"question": "Q{n}"}}' for n in range(5))
    found = read(f'{{"proposals": [{items}]}}', n=2, wants_answer=False)
    assert (len(found.items), found.left_out) == (2, {"more than was asked for": 3})


@pytest.mark.parametrize("ids", ['["p9"]', "[]", '"p1"', "[1]", '[["p1"]]'])
def test_passages_that_were_not_given_cannot_be_cited(ids: str) -> None:
    found = read(
        f'{{"proposals": [{{"question": "Q", "answer": "A", "passage_ids": {ids}}}]}}', passages=["p1", "p2"]
    )
    assert found.left_out == {"passages that were not given": 1}


@pytest.mark.parametrize("status", ["refused", "timeout", "error"])
def test_what_brought_no_text_stays_what_it_was(status: str) -> None:
    answer = ModelAnswer(status=status, reason="because")  # type: ignore[arg-type]
    found = read_answer(answer, n=1, wants_answer=False, passage_ids=None, cost_usd=None)
    assert (found.status, found.reason, found.items) == (status, "because", [])


def test_a_reply_of_very_many_blanks_is_read_in_a_time_that_grows_with_it() -> None:
    for text in (
        "```\n" + " " * 300_000 + "x",
        "```" + "\n" * 300_000 + "x",
        "``` json\n1\n```",
        "```",
        "```json```",
    ):
        assert read(text).items == []
