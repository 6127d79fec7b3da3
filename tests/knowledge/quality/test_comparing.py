"""Two generations beside each other: a worse one fails, the same one does not, and only proof lets a candidate go live."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from penstock.base.errors import InvalidInput
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.asking import Question
from penstock.knowledge.quality.comparing import ComparingService, pair_targets
from penstock.knowledge.quality.errors import NoQuestions, SwitchUnproven, UnknownComparison
from penstock.knowledge.quality.evidence import ComparisonEvidence
from penstock.knowledge.quality.ports import Figure, QuestionValue, Sheet
from penstock.knowledge.quality.preparing import Prepared
from penstock.knowledge.quality.report_types import Asked
from penstock.knowledge.quality.types import (
    CompareRequest,
    GenerationComparison,
    Label,
    LabelledQuestion,
    MappedLabel,
)
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.spec.knowledge import ChosenScope, Condition
from tests.knowledge.quality.conftest import QUESTIONS, Island, ListedQuestions, timer_of

NOW = 10**18
DAY = 86_400 * 10**9


class Traffic:
    """Recorded questions."""

    def __init__(self, *texts: str) -> None:
        self._texts = texts

    def read(
        self, base: str, *, since_ns: int | None, until_ns: int | None = None, limit: int
    ) -> Iterator[Asked]:
        del base, since_ns, until_ns
        for number, text in enumerate(self._texts[:limit]):
            yield Asked(
                question=text, time_ns=NOW - number, trace_id=f"{number:032x}", n_wordings=number == 1
            )


class Crippled:
    """Searches the island, but finds nothing of some documents in one generation."""

    def __init__(self, island: Island, generation: str, hidden: frozenset[str]) -> None:
        self._island, self._generation, self._hidden = island, generation, hidden

    def list_bases(self) -> Any:
        return self._island.knowledge.list_bases()

    def retrieve(self, name: str, query: str, k: int = 5, **options: Any) -> Any:
        found = self._island.knowledge.retrieve(name, query, k, **options)
        if options.get("generation") != self._generation:
            return found
        hits = tuple(hit for hit in found.hits if hit.document not in self._hidden)
        return type(found)(**{**vars(found), "hits": hits})


def comparing(
    island: Island,
    traffic: Traffic | None = None,
    searching: Any = None,
    questions: ListedQuestions | None = None,
) -> ComparingService:
    timer = timer_of()
    return ComparingService(
        island.engine,
        searching or island.knowledge,
        island.scoring,
        judging=island.scoring,
        questions=questions
        or ListedQuestions(
            island=island.questions.sets["island"], many=many_questions(), some=many_questions(4)
        ),
        recorded=traffic,
        clock=lambda: NOW,
        timer=lambda: next(timer),
    )


def many_questions(times: int = 15) -> list[LabelledQuestion]:
    """Enough independent questions for a margin of three points: each by itself, asked in several ways."""
    return [
        LabelledQuestion(
            id=f"{name}-{number}",
            question=f"{text} {'Please. ' * number}",
            labels=[Label(document=document, quote=answer)],
            group=f"{name}-{number}",
        )
        for number in range(times)
        for name, text, document, answer in QUESTIONS
    ]


def test_the_same_generation_passes_and_says_that_it_is_the_same(
    island: Island, passing: GenerationComparison
) -> None:
    assert passing.verdict == "pass", passing.reason
    assert passing.baseline == passing.candidate == island.fine and passing.actor == "ada"
    assert any("same generation" in text for text in passing.reservations)
    assert len(passing.sentences) == 3 and all("pass" in text for text in passing.sentences)


def test_a_generation_that_lost_documents_fails(island: Island) -> None:
    """A parser that stops reading a format must never pass for a better recipe."""
    lost = Crippled(island, island.coarse, frozenset({"bees.md", "bread.md"}))
    request = CompareRequest(candidate="coarse", questions="some", k=3)
    made = comparing(island, searching=lost).compare("island", request)
    assert made.verdict == "fail"
    recall = next(each for each in made.labelled if each.name == "recall@3")
    assert recall.word == "worse" and recall.difference is not None and recall.difference < -0.2
    assert made.candidate_track == "coarse" and made.baseline_track == "live"


def test_equal_sides_fail_no_more_often_than_the_level_says() -> None:
    """A/A: sides whose questions are answered by the same chance; a fail is a false alarm, at most one in forty.

    Sixty pairs here; `bench/knowledge_quality.py` tells the rate over five hundred.
    """
    scoring = EvaluationScoring()
    rng = np.random.default_rng(7)
    words = [
        scoring.judge(
            ["recall@5 >= baseline - 2 points"], baseline=first, candidate=second, level=0.95
        ).verdict
        for first, second in (equal_sides(rng) for _ in range(60))
    ]
    assert "invalid" not in words
    assert words.count("fail") <= 4, "under one in forty, more than four of sixty have a chance of 2 %"


def equal_sides(rng: np.random.Generator) -> tuple[Sheet, Sheet]:
    difficulty = rng.beta(3, 1, 60)
    first, second = (
        Sheet(
            name=name,
            columns={
                "recall@5": (Figure(name="recall@5"), column((rng.random(60) < difficulty).astype(float)))
            },
        )
        for name in ("baseline", "candidate")
    )
    return first, second


def column(values: Any) -> list[QuestionValue]:
    return [QuestionValue(id=str(n), value=float(value), group=str(n // 3)) for n, value in enumerate(values)]


def test_recorded_questions_show_what_changes_and_decide_nothing(island: Island) -> None:
    traffic = Traffic(*(text for _, text, _, _ in QUESTIONS), "Who travels free?", "   ", "who travels FREE")
    made = comparing(island, traffic).compare("island", CompareRequest(candidate="coarse", k=3))
    assert made.verdict == "undecided" and "no labelled questions" in made.reason
    replay = made.replay
    assert replay is not None and replay.n_questions == 10
    assert replay.left_out == {"asked again": 2, "no words": 1, "wordings that an app made": 1}
    overlap = next(each for each in replay.estimates if each.name == "overlap@3")
    assert overlap.value is not None and 0.3 < overlap.value < 1.0
    assert replay.changes and replay.changes[0].trace_id is not None
    assert (replay.changes[0].overlap or 0) <= (replay.changes[-1].overlap or 0)


def test_recorded_questions_are_asked_again_as_whom_and_of_what_they_were_asked(island: Island) -> None:
    """The overlap was of another search: without the filter, and with the right to read everything."""
    boats = [Condition(op="is", field="path", value="boats.md")]
    text = "When do boats stay ashore?"

    class Filtered(Traffic):
        def read(self, base: str, **options: Any) -> Iterator[Asked]:  # type: ignore[override]
            del base, options
            yield Asked(question=text, time_ns=NOW, conditions=boats, principals=["user:ada"])
            yield Asked(question=text, time_ns=NOW - 1, principals=["everyone"])
            yield Asked(question=text, time_ns=NOW - 2, principals=["everyone"])

    asked: list[ChosenScope] = []

    class Listening(Crippled):
        def retrieve(self, name: str, query: str, k: int = 5, **options: Any) -> Any:
            if query == text:
                asked.append(options["scope"])
            return super().retrieve(name, query, k, **options)

    made = comparing(island, Filtered(), Listening(island, "", frozenset())).compare(
        "island", CompareRequest(candidate="coarse", k=3)
    )
    assert made.replay is not None and made.replay.left_out == {"asked again": 1}
    assert [each.principals for each in asked] == [["user:ada"]] * 2 + [["everyone"]] * 2
    assert asked[0].conditions == boats and not asked[2].conditions


def test_rules_of_ones_own_decide_over_recorded_questions(island: Island) -> None:
    traffic = Traffic(*(text for _, text, _, _ in QUESTIONS))
    service = comparing(island, traffic)
    request = CompareRequest(candidate="coarse", k=3, rules=["overlap@3 >= 0.05", "no new errors"])
    assert service.compare("island", request).verdict == "pass"
    harsh = service.compare("island", msgspec.structs.replace(request, rules=["overlap@3 >= 0.999"]))
    assert harsh.verdict in {"fail", "undecided"}
    with pytest.raises(InvalidInput, match="character"):
        service.compare("island", msgspec.structs.replace(request, rules=["overlap@3 >> 1"]))
    unknown = service.compare("island", msgspec.structs.replace(request, rules=["recal@3 >= 0.5"]))
    assert unknown.verdict == "invalid" and "recal@3" in unknown.sentences[0]


@pytest.mark.parametrize("rules", [[], ["no new errors"]])
def test_sides_that_never_used_their_vectors_prove_nothing(island: Island, rules: list[str]) -> None:
    """With the embedder down both sides fall to words and are equal by accident: a switch took that for proof."""
    unasked = [
        msgspec.structs.replace(
            each, question=f"Say, {each.question} Rules: {len(rules)}."
        )  # vectors are kept
        for each in many_questions(6)
    ]
    island.embedder.is_down = True
    try:
        made = comparing(island, questions=ListedQuestions(unasked=unasked)).compare(
            "island", CompareRequest(candidate="live", questions="unasked", k=3, rules=rules)
        )
    finally:
        island.embedder.is_down = False
    assert made.verdict == "invalid", made.reason
    assert any("could not be embedded" in text for text in made.reservations)
    with pytest.raises(SwitchUnproven, match="did not pass: invalid"):
        ComparisonEvidence(island.engine, clock=lambda: NOW).check(
            "island", live=island.fine, candidate=island.fine, evidence={"comparison": made.id}
        )


def test_recorded_questions_that_were_searched_by_words_alone_prove_nothing(island: Island) -> None:
    traffic = Traffic(*(f"Listen: {text}" for _, text, _, _ in QUESTIONS))
    island.embedder.is_down = True
    try:
        made = comparing(island, traffic).compare("island", CompareRequest(candidate="live", k=3))
    finally:
        island.embedder.is_down = False
    assert made.verdict == "invalid", made.reason


def test_labels_that_neither_side_can_fulfil_are_left_out_and_told(island: Island) -> None:
    lost = LabelledQuestion(
        id="lost", question="Where is the lighthouse?", labels=[Label(document="lighthouse.md")]
    )
    sets = ListedQuestions(island=[*island.questions.sets["island"], lost])
    made = comparing(island, questions=sets).compare(
        "island", CompareRequest(candidate="coarse", questions="island")
    )
    assert made.n_labelled == 10
    assert any("neither" in text or "either side" in text for text in made.reservations)


def test_both_sides_are_divided_by_the_same_needs() -> None:
    """Two quotations in one passage of a coarse cut were one need there and two in the other: coarse cuts gained."""
    labels = [Label(document="a.md", quote="first words"), Label(document="a.md", quote="second words")]
    fine, coarse, lost = (
        Prepared(
            questions=[Question(id="q", text="?")],
            mapped={"q": [MappedLabel(label=each, passages=p) for each, p in zip(labels, ids, strict=True)]},
        )
        for ids in ([["p1"], ["p2"]], [["P"], ["P"]], [[], []])
    )
    (left, right), _ = pair_targets(fine, coarse, leaves_out=False)
    assert len(left["q"].wanted) == len(right["q"].wanted) == 2
    assert len(right["q"].meets["P"]) == 2
    (left, right), _ = pair_targets(coarse, lost, leaves_out=False)
    assert len(left["q"].wanted) == len(right["q"].wanted) == 1, "what is one need here is one need there"


def test_there_must_be_something_to_ask(island: Island) -> None:
    with pytest.raises(NoQuestions, match="no labelled questions were named"):
        comparing(island).compare("island", CompareRequest(candidate="coarse"))
    only_lost = ListedQuestions(x=[LabelledQuestion(id="l", question="?", labels=[Label(document="no.md")])])
    with pytest.raises(NoQuestions, match="either side holds"):
        comparing(island, questions=only_lost).compare(
            "island", CompareRequest(candidate="coarse", questions="x")
        )


@pytest.fixture(scope="module")
def passing(island: Island) -> GenerationComparison:
    """A comparison of the live generation with itself."""
    return comparing(island).compare(
        "island", CompareRequest(candidate="live", questions="many", k=3), actor="ada"
    )


def keep(island: Island, made: GenerationComparison, **changes: Any) -> GenerationComparison:
    changed = msgspec.structs.replace(made, id=f"{made.id}-{'-'.join(changes)}", **changes)
    with island.engine.begin() as connection:
        queries.add_comparison(connection, changed)
    return changed


def test_a_switch_takes_a_passing_comparison_of_these_two_alone(
    island: Island, passing: GenerationComparison
) -> None:
    evidence = ComparisonEvidence(island.engine, clock=lambda: NOW)
    made = passing
    kept = evidence.check("island", live=island.fine, candidate=island.fine, evidence={"comparison": made.id})
    assert kept["comparison"] == made.id and kept["sentences"] == made.sentences and "notes" not in kept
    for bad, match in (
        ({}, "nothing shows"),
        ({"verdict": "pass"}, "nothing shows"),
        ({"comparison": "cmp_nothing"}, "is not stored here"),
    ):
        with pytest.raises(SwitchUnproven, match=match):
            evidence.check("island", live=island.fine, candidate=island.fine, evidence=bad)
    failed = keep(island, passing, verdict="undecided", reason="Too few.")
    with pytest.raises(SwitchUnproven, match="did not pass: undecided"):
        evidence.check("island", live=island.fine, candidate=island.fine, evidence={"comparison": failed.id})
    with pytest.raises(SwitchUnproven, match="recipe or embedder is another"):
        evidence.check("island", live=island.fine, candidate=island.coarse, evidence={"comparison": made.id})
    with pytest.raises(UnknownComparison):
        evidence.get("cmp_nothing")


def test_documents_that_changed_since_leave_a_comparison_valid_for_a_week(
    island: Island, passing: GenerationComparison
) -> None:
    older = keep(island, passing, baseline="gen_before", made_ns=NOW - 8 * DAY)
    evidence = ComparisonEvidence(island.engine, clock=lambda: NOW)
    with pytest.raises(SwitchUnproven, match="days old, over the 7"):
        evidence.check("island", live=island.fine, candidate=island.fine, evidence={"comparison": older.id})
    young = ComparisonEvidence(island.engine, clock=lambda: NOW - 2 * DAY)
    kept = young.check("island", live=island.fine, candidate=island.fine, evidence={"comparison": older.id})
    assert "documents changed since" in kept["notes"][0]
