"""Measuring: figures follow from ranks, what failed is no zero, ways of searching are compared in pairs, everything is kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.knowledge.errors import UnknownKnowledge
from penstock.knowledge.quality.asking import Asking, Interviewer, Question, Replies
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.errors import NoQuestions, UnknownGeneration, UnknownMeasurement
from penstock.knowledge.quality.labels import LabelMapper
from penstock.knowledge.quality.measuring import MeasuringService
from penstock.knowledge.quality.preparing import prepare
from penstock.knowledge.quality.recipes import read_wanted
from penstock.knowledge.quality.types import Label, LabelledQuestion, MeasureRequest
from penstock.knowledge.types import InlineContext
from penstock.spec.knowledge import RerankRecipe, SearchRecipe
from tests.knowledge.quality.conftest import Island, ListedQuestions, timer_of

REQUEST = MeasureRequest(questions="dataset:island", ks=(1, 3))


def measuring(
    island: Island, questions: ListedQuestions | None = None, searching: Any = None
) -> MeasuringService:
    timer = timer_of()
    return MeasuringService(
        island.engine,
        searching or island.knowledge,
        island.scoring,
        questions or island.questions,
        clock=lambda: 1_000,
        timer=lambda: next(timer),
    )


class Planned:
    """Searches the island, but fails or falls to words when a test says so."""

    def __init__(self, island: Island, fails: Callable[[str], bool]) -> None:
        self._island, self._fails = island, fails

    def list_bases(self) -> Any:
        return self._island.knowledge.list_bases()

    def retrieve(self, name: str, query: str, k: int = 5, **options: Any) -> Any:
        if self._fails(query):
            raise UpstreamUnavailable("the index server is away.")
        return self._island.knowledge.retrieve(name, query, k, **options)


def test_figures_follow_from_the_ranks_of_what_was_found(island: Island) -> None:
    made = measuring(island).measure("island", REQUEST, actor="ada")
    ranks = {}
    for each in island.questions.sets["island"]:
        hits = island.knowledge.retrieve("island", each.question, 3).hits
        assert each.answer is not None
        words = each.answer.split()[:4]
        ranks[each.id] = [rank for rank, hit in enumerate(hits, 1) if " ".join(words) in hit.text]
    for k in (1, 3):
        found = sum(any(rank <= k for rank in row) for row in ranks.values()) / len(ranks)
        recall = made.find(f"recall@{k}")
        assert recall is not None and recall.value == pytest.approx(found)
        assert recall.low is not None and recall.high is not None and recall.low <= found <= recall.high
    mrr = made.find("mrr@3")
    assert mrr is not None
    assert mrr.value == pytest.approx(sum(1 / row[0] for row in ranks.values() if row) / len(ranks))
    assert (made.actor, made.generation, made.questions) == ("ada", island.fine, "dataset:island@1")
    assert made.n_questions == 10 and made.n_groups == 5, "questions about one document are one group"


def test_latency_is_what_the_clock_says_and_a_first_search_opens_the_index_before_it(island: Island) -> None:
    made = measuring(island).measure("island", REQUEST)
    latency = made.find("latency_ms")
    assert latency is not None and latency.value == 1.0 and latency.n_groups is None
    assert made.modes[0].quantiles["latency_ms p95"].value == 1.0


def test_a_label_that_nothing_fulfils_counts_as_missed_unless_told(island: Island) -> None:
    lost = LabelledQuestion(
        id="lost", question="Is there a lighthouse?", labels=[Label(document="lighthouse.md")]
    )
    sets = ListedQuestions(island=[*island.questions.sets["island"], lost])
    made = measuring(island, sets).measure("island", REQUEST)
    assert made.n_questions == 11 and made.n_unmapped == 1
    assert "lighthouse.md" in made.unmapped[0].reason
    assert any("count as not found" in text for text in made.reservations)
    left = measuring(island, sets).measure(
        "island", MeasureRequest(questions="island", ks=(3,), unmapped="leave_out")
    )
    assert left.n_questions == 10 and left.n_unmapped == 1
    with_it, without = made.find("recall@3"), left.find("recall@3")
    assert with_it is not None and without is not None and without.value is not None
    assert with_it.value == pytest.approx(without.value * 10 / 11)


def test_a_search_that_fails_is_an_error_and_no_zero(island: Island) -> None:
    fails = Planned(island, lambda query: "honey" in query)
    made = measuring(island, searching=fails).measure("island", REQUEST)
    recall = made.find("recall@3")
    assert recall is not None and (recall.n, recall.n_errors) == (9, 1)
    assert made.modes[0].n_errors == 1
    assert any("the index server is away" in text for text in made.reservations)


def test_nothing_is_measured_when_nothing_can_be_searched(island: Island) -> None:
    before = len(measuring(island).list_measurements("island").rows)
    with pytest.raises(UpstreamUnavailable):
        measuring(island, searching=Planned(island, lambda _: True)).measure("island", REQUEST)
    assert len(measuring(island).list_measurements("island").rows) == before


def test_a_row_that_fell_to_words_has_no_figures_under_its_name(island: Island) -> None:
    """Figures of a lexical search must never stand under `dense`: the embedder was away."""
    unasked = [
        msgspec.structs.replace(each, question=f"Tell me: {each.question}")  # vectors of questions are kept
        for each in island.questions.sets["island"]
    ]
    island.embedder.is_down = True
    try:
        request = MeasureRequest(questions="island", ks=(3,), modes=("lexical", "dense", "as_is"))
        made = measuring(island, ListedQuestions(island=unasked)).measure("island", request)
    finally:
        island.embedder.is_down = False
    as_is, latency = made.find("recall@3", "as_is"), made.find("latency_ms", "as_is")
    assert as_is is not None and latency is not None
    assert as_is.value is None and as_is.n_errors == 10, (
        "a hybrid generation that went by words has no figure"
    )
    assert latency.value is None
    lexical, dense = made.find("recall@3", "lexical"), made.find("recall@3", "dense")
    assert lexical is not None and dense is not None
    assert lexical.n == 10 and dense.n == 0 and dense.value is None and dense.n_errors == 10


def test_a_second_look_that_a_recipe_names_and_did_not_happen_leaves_no_figure(island: Island) -> None:
    recipe = {"search": {"rerank": {"kind": "cross-encoder", "model": "none"}}}
    found = Replies(asking=Asking(base="island", generation=island.fine, k=3, wanted=read_wanted(recipe)))
    search = SearchRecipe(rerank=RerankRecipe(kind="cross-encoder", model="none"))
    asking = replace(found.asking, recipe=search)
    reply = Interviewer(island.knowledge).ask(asking, Question(id="q", text="Who travels free?"), found)
    assert reply.error is not None and "no second look" in reply.error and not reply.hits


@pytest.mark.parametrize(
    ("recipe", "question", "wants"),
    [
        ({}, "Who travels free?", True),
        ({"search": {"fusion": "lexical"}}, "Who travels free?", False),
        ({"search": {"dense_weight": 0.0}}, "Who travels free?", False),
        ({"index": {"kind": "none"}}, "Who travels free?", False),
        ({"search": {"identifier_weight": 0.0}}, "What is E-1042?", False),
        ({"search": {"identifier_weight": 0.0}}, "Who travels free?", True),
        ({"max_words": 200, "dense_weight": 0.5}, "Who travels free?", True),
    ],
)
def test_whether_vectors_are_to_be_used_follows_from_the_generations_recipe(
    recipe: dict[str, Any], question: str, wants: bool
) -> None:
    assert read_wanted(recipe).wants_vectors(question, "hashing") is wants


def test_ways_of_searching_are_compared_in_pairs_and_corrected_together(island: Island) -> None:
    request = MeasureRequest(questions="island", ks=(3,), modes=("lexical", "dense", "hybrid"))
    made = measuring(island).measure("island", request)
    assert [row.mode for row in made.modes] == ["lexical", "dense", "hybrid"]
    assert not made.modes[0].differences
    for row in made.modes[1:]:
        assert {each.name for each in row.differences} == {
            "recall@3", "precision@3", "ndcg@3", "mrr@3", "hit@3", "covered@3", "latency_ms",
        }  # fmt: skip
        for each in row.differences:
            assert each.n_pairs == 10 and each.correction == "holm"
            if each.p_value is not None and each.p_adjusted is not None:
                assert each.p_adjusted >= each.p_value


def test_figures_are_given_by_tag_and_length_of_the_question(island: Island) -> None:
    made = measuring(island).measure("island", REQUEST)
    slices = {(each.name, each.slice) for each in made.modes[0].slices}
    assert {
        ("recall@3", "tag=boats"),
        ("ndcg@3", "length=middle"),
        ("recall@3", "document=bees.md"),
    } <= slices


def test_unjudged_passages_are_told(island: Island) -> None:
    made = measuring(island).measure("island", MeasureRequest(questions="island", ks=(5,)))
    unjudged = made.find("unjudged@5")
    assert unjudged is not None and unjudged.value is not None and unjudged.value >= 0.6
    assert any("have no label" in text for text in made.reservations)
    whole = measuring(island).measure("island", MeasureRequest(questions="island", ks=(5,), by="document"))
    less = whole.find("unjudged@5")
    assert less is not None and less.value is not None and less.value < unjudged.value


def test_other_wordings_of_one_question_share_its_group(island: Island) -> None:
    question = LabelledQuestion(
        id="q", question="Who travels free?", alternatives=["Free ferry for whom?", "Who pays nothing?"],
        labels=[Label(document="ferry.md", section="Tickets")],
    )  # fmt: skip
    service = measuring(island, ListedQuestions(one=[question]))
    both = service.measure("island", MeasureRequest(questions="one", ks=(3,), phrasing="both"))
    assert (both.n_questions, both.n_groups) == (3, 1)
    others = service.measure("island", MeasureRequest(questions="one", ks=(3,), phrasing="alternatives"))
    assert others.n_questions == 2


def test_a_limit_draws_from_all_over_a_set_and_draws_the_same_again(island: Island) -> None:
    """The first forty of a set that is written by article are of eight articles, and nothing said so."""
    in_order = [
        msgspec.structs.replace(each, id=f"{each.id}-{number}", question=f"{each.question} ({number})")
        for each in island.questions.sets["island"]
        for number in range(8)
    ]
    mapper = LabelMapper(StoredCorpus(island.engine, "island", island.fine))
    drawn = prepare(in_order, mapper, by="finest", limit=20)
    assert len(drawn.questions) == 20 and drawn.left_out == {"over the 20 questions asked for": 60}
    assert len({each.group for each in drawn.questions}) == 5, "of every document"
    again = prepare(reversed(in_order), mapper, by="finest", limit=20)
    assert {each.id for each in again.questions} == {each.id for each in drawn.questions}


def test_measurements_are_kept_and_listed_in_pages_newest_first(island: Island) -> None:
    service = measuring(island)
    made = [
        service.measure("island", MeasureRequest(questions="island", ks=(3,), generation=island.coarse))
        for _ in range(3)
    ]
    page = service.list_measurements("island", generation=island.coarse, limit=2)
    assert [row.id for row in page.rows] == [made[2].id, made[1].id] and page.next_cursor
    rest = service.list_measurements("island", generation=island.coarse, cursor=page.next_cursor, limit=2)
    assert made[0].id in {row.id for row in rest.rows}
    assert service.get(made[0].id) == made[0]
    assert len(service.list_measurements("island", questions="dataset:island").rows) >= 3
    with pytest.raises(UnknownMeasurement):
        service.get("ms_nothing")


def test_wrong_requests_are_named(island: Island) -> None:
    service = measuring(island)
    for request in (
        MeasureRequest(questions="island", ks=(0,)),
        MeasureRequest(questions="island", ks=(201,)),
        MeasureRequest(questions="island", modes=("dense", "dense")),
        MeasureRequest(questions="island", track="a", generation="b"),
        MeasureRequest(questions="island", level=1.0),
    ):
        with pytest.raises(InvalidInput):
            service.measure("island", request)
    with pytest.raises(UnknownGeneration, match="no track or generation"):
        service.measure("island", MeasureRequest(questions="island", track="liv"))
    with pytest.raises(UnknownKnowledge):
        service.measure("atlantis", REQUEST)
    empty = ListedQuestions(none=[LabelledQuestion(id="q", question="Why?")])
    with pytest.raises(NoQuestions, match="names nothing that should be found"):
        measuring(island, empty).measure("island", MeasureRequest(questions="none"))


def test_progress_is_told_and_cancelling_keeps_nothing(island: Island) -> None:
    told: list[tuple[float, str]] = []
    measuring(island).measure(
        "island", REQUEST, InlineContext(lambda share, text: told.append((share, text)))
    )
    assert told[-1][0] == 1.0 and [share for share, _ in told] == sorted(share for share, _ in told)

    class Cancelled(InlineContext):
        def check_cancelled(self) -> None:
            raise KeyboardInterrupt

    before = len(measuring(island).list_measurements("island", limit=500).rows)
    with pytest.raises(KeyboardInterrupt):
        measuring(island).measure("island", REQUEST, Cancelled())
    assert len(measuring(island).list_measurements("island", limit=500).rows) == before
