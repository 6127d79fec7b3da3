"""Sets of questions from feedback and traffic: what people said makes labels, what answers cite makes silver ones."""

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.base.errors import InvalidInput
from penstock.knowledge.quality.building import QuestionBuilder, question_id
from penstock.knowledge.quality.errors import NoQuestions, NoTraffic
from penstock.knowledge.quality.feedback import FeedbackService
from penstock.knowledge.quality.report_types import Asked
from penstock.knowledge.quality.types import FeedbackDraft, Label
from tests.knowledge.quality.conftest import Island, ListedQuestions


class Recorded:
    def __init__(self, *asked: Asked) -> None:
        self._asked = asked

    def read(
        self, base: str, *, since_ns: int | None, until_ns: int | None = None, limit: int
    ) -> Iterator[Asked]:
        del base, since_ns, until_ns
        yield from self._asked[:limit]


def builder(
    island: Island, base: str, *asked: Asked
) -> tuple[QuestionBuilder, FeedbackService, ListedQuestions]:
    sets = ListedQuestions()
    feedback = FeedbackService(island.engine, clock=iter(range(1, 10_000)).__next__)
    del base
    return QuestionBuilder(island.engine, sets, feedback, Recorded(*asked)), feedback, sets


def say(question: str, kind: str, **facts: Any) -> FeedbackDraft:
    return FeedbackDraft(question=question, kind=kind, **facts)  # type: ignore[arg-type]


def test_what_people_said_becomes_labels_with_the_passages_words(island: Island) -> None:
    build, feedback, sets = builder(island, "island")
    passage = island.knowledge.retrieve("island", "honey jars", 1).hits[0]
    feedback.add("island", [say("How much honey?", "up", passage_id=passage.passage_id)], actor="ada")
    feedback.add("island", [say("how much honey", "down", document="boats.md", rank=2)], actor="bo")
    feedback.add("island", [say("Where are dogs allowed?", "click", document="ferry.md")], actor="ada")
    made = build.from_feedback("island", "judged", actor="ada")
    assert made.n_added == 1 and made.left_out == {"nothing that was said makes a document relevant": 1}
    [question] = sets.sets["judged"]
    assert question.tags == ["feedback"] and question.id == question_id("HOW much   honey?")
    assert {label.document: label.grade for label in question.labels} == {passage.document: 1, "boats.md": 0}
    assert next(label for label in question.labels if label.grade).quote == passage.text


def test_clicks_count_from_two_people_on(island: Island) -> None:
    build, feedback, _ = builder(island, "island")
    text = "Where do I click twice?"
    for actor in ("ada", "ada"):
        feedback.add("clicks", [say(text, "click", document="bread.md")], actor=actor)
    assert build.from_feedback("clicks", "s", actor="", is_dry=True).n_added == 0
    feedback.add("clicks", [say(text, "click", document="bread.md")], actor="bo")
    made = build.from_feedback("clicks", "s", actor="", is_dry=True)
    assert made.ref is None and made.preview[0].labels == [Label(document="bread.md")]


def test_one_key_speaks_for_many_people_and_each_counts_once(island: Island) -> None:
    """Clicks of fifty people through the key of a page counted as one person's, and a hundred thumbs of one as a hundred."""
    build, feedback, _ = builder(island, "island")
    text = "Which page sends with one key?"
    for user in ("u1", "u2"):
        [kept] = feedback.add(
            "people", [say(text, "click", document="bread.md", user=user)], actor="key:page"
        )
        assert kept.actor == f"user:{user}"
    made = build.from_feedback("people", "s", actor="", is_dry=True)
    assert made.preview[0].labels == [Label(document="bread.md")]
    for _ in range(9):
        feedback.add("people", [say(text, "up", document="bees.md", user="loud")], actor="key:page")
    for user in ("u1", "u2"):
        feedback.add("people", [say(text, "down", document="bees.md", user=user)], actor="key:page")
    feedback.add("people", [say(text, "down", document="boats.md", user="u1")], actor="key:page")
    feedback.add("people", [say(text, "up", document="boats.md", user="u1")], actor="key:page")
    labels = build.from_feedback("people", "s", actor="", is_dry=True).preview[0].labels
    grades = {label.document: label.grade for label in labels}
    assert grades == {"bread.md": 1, "bees.md": 0, "boats.md": 1}, "the newest word of a person holds"
    with pytest.raises(InvalidInput, match="user"):
        feedback.add("people", [say(text, "click", document="bread.md", user="u" * 300)], actor="a")


def test_answers_that_cite_make_silver_labels(island: Island) -> None:
    build, _, sets = builder(
        island,
        "island",
        Asked(
            question="Who travels free?",
            time_ns=5,
            trace_id="a" * 32,
            cited=["ferry.md"],
            has_abstained=False,
        ),
        Asked(question="who travels free", time_ns=4, cited=["ferry.md"]),
        Asked(question="When is the oven lit?", time_ns=3, cited=["bread.md"], thumbs="down"),
        Asked(question="Is it raining?", time_ns=2, has_abstained=True),
        Asked(question="Tell me more", time_ns=1),
    )
    made = build.from_traces("island", "silver", actor="ada")
    assert made.n_added == 1
    assert made.left_out == {
        "asked again": 1,
        "its answer got a thumb down": 1,
        "it was not answered": 1,
        "its answer cites nothing": 1,
    }
    [question] = sets.sets["silver"]
    assert (question.tags, question.source) == (["silver"], f"trace:{'a' * 32}")
    more = build.from_traces("island", "all", actor="ada", with_unlabelled=True)
    assert more.n_added == 4 and sets.sets["all"][-1].tags == ["unlabelled"]


def test_nothing_said_and_nothing_recorded_are_told(island: Island) -> None:
    build, feedback, _ = builder(island, "quiet")
    with pytest.raises(NoQuestions, match="nobody has judged"):
        build.from_feedback("quiet", "s", actor="")
    with pytest.raises(NoQuestions, match="no question"):
        build.from_traces("quiet", "s", actor="")
    with pytest.raises(NoTraffic):
        QuestionBuilder(island.engine, ListedQuestions(), feedback).from_traces("island", "s", actor="")


def test_feedback_is_kept_all_or_none_and_listed_in_pages(island: Island) -> None:
    _, feedback, _ = builder(island, "pages")
    good = say("Where?", "up", document="a.md")
    for bad in (
        say("  ", "up", document="a.md"),
        say("x" * 8001, "up", document="a.md"),
        say("Where?", "click"),
        say("Where?", "up", document="a.md", rank=0),
    ):
        with pytest.raises(InvalidInput, match=r"feedback\.1"):
            feedback.add("pages", [good, bad], actor="ada")
    assert feedback.list_feedback("pages").rows == []
    feedback.add("pages", [good, say("Where?", "down"), good], actor="ada")
    page = feedback.list_feedback("pages", limit=2)
    assert len(page.rows) == 2 and page.counts == {"up": 2, "down": 1} and page.next_cursor
    assert len(feedback.list_feedback("pages", cursor=page.next_cursor).rows) == 1
    assert [row.kind for row in feedback.list_feedback("pages", kinds=["down"]).rows] == ["down"]
    with pytest.raises(InvalidInput, match="cursor"):
        feedback.list_feedback("pages", cursor="x")
