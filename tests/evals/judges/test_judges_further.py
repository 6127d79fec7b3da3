"""Steps with token chances, pairs in both orders, self-consistency, vectors and likelihoods."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import UpstreamUnavailable
from penstock.evals.judges.catalogue import create_judge
from penstock.evals.judges.consistency import join
from penstock.evals.judges.embedding import match_tokens
from penstock.evals.judges.pairwise import decide
from penstock.evals.judges.steps import GEvalParameters, StepsJudgeFailed, weigh_rating, write_steps
from penstock.evals.scorers.errors import BadScorerParameters
from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.spec.cases import Case, Output, TokenChance
from penstock.spec.evaluations import ScorerSpec
from tests.evals.judges.fakes import FakeModel, fail, judge_text

STEPS = ["Read the answer.", "Look for the hours."]


def make(name: str, **parameters: Any) -> Scorer:
    return create_judge(ScorerSpec(scorer=name, parameters=parameters))


def chance(token: str, p: float, **rivals: float) -> TokenChance:
    return TokenChance(
        token=token, logprob=math.log(p), rivals={name: math.log(p) for name, p in rivals.items()}
    )


async def test_steps_are_written_once_and_stay() -> None:
    model = FakeModel({"steps": [{"step": "Read it."}, {"step": " "}, {"step": "Rate it."}]})
    given = await write_steps(GEvalParameters(model="m", criteria="Is it right?"), model.tools)
    assert given.steps == ["Read it.", "Rate it."]
    assert await write_steps(given, model.tools) is given and len(model.calls) == 1
    with pytest.raises(StepsJudgeFailed):
        await write_steps(GEvalParameters(model="m", criteria="x"), FakeModel("no").tools)
    with pytest.raises(BadScorerParameters, match="steps"):
        make("g_eval", model="m", criteria="x")


async def test_weighted_ratings_use_token_chances_and_never_the_plain_number() -> None:
    scorer = make("g_eval", model="m", criteria="x", steps=STEPS, estimator="weighted")
    told = Output(case_id="j", text=" 4", logprobs=[chance(" 4", 0.6, **{"5": 0.2, "3": 0.1, "four": 0.1})])
    score = await judge_text(scorer, "a", FakeModel(told).tools)
    assert score.value == pytest.approx((4 * 0.6 + 5 * 0.2 + 3 * 0.1) / 0.9)
    silent = await judge_text(scorer, "a", FakeModel("4").tools)
    assert (silent.status, silent.fault, silent.value) == ("error", "judge", None)
    plain = make("g_eval", model="m", criteria="x", steps=STEPS)
    assert (await judge_text(plain, "a", FakeModel({"reason": "", "rating": 4}).tools)).value == 4.0
    assert plain.info.stamp != scorer.info.stamp


def test_a_token_that_is_hardly_a_number_gives_none() -> None:
    assert weigh_rating([chance("5", 0.2, no=0.8)], 1, 5)[0] is None
    assert weigh_rating([chance("Sure", 0.9), chance("9", 1.0)], 1, 5)[0] is None
    assert weigh_rating([TokenChance(token="5", logprob=-math.inf)], 1, 5)[0] is None
    value, told = weigh_rating([chance("The", 0.9), chance("2", 0.9)], 1, 5)
    assert value == 2.0 and told["mass"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("first", "second", "winner", "is_flip"),
    [
        ("a", "a", "a", False),
        ("b", "b", "b", False),
        ("tie", "tie", "tie", False),
        ("a", "b", "tie", True),
        ("b", "a", "tie", True),
        ("a", "tie", "tie", False),
        ("tie", "b", "tie", False),
    ],
)
def test_only_who_wins_in_both_orders_wins(first: Any, second: Any, winner: str, is_flip: bool) -> None:
    assert decide(first, second) == (winner, is_flip)


async def test_a_judge_that_goes_by_position_gives_ties_and_flips() -> None:
    scorer = make("pairwise", model="m")
    flip = await judge_text(scorer, "eight", FakeModel({"reason": "", "better": "first"}).tools)
    assert (flip.value, flip.label, flip.evidence["is_flip"]) == (0.5, "flip", True)
    longer = FakeModel(
        by=lambda user: {"better": "first" if "nights\n<<<END FIRST" in user else "second", "reason": ""}
    )
    win = await judge_text(scorer, "eight hours all nights", longer.tools)
    assert (win.value, win.label) == (1.0, "win") and len(longer.calls) == 2
    same = FakeModel("never asked")
    assert (await judge_text(scorer, "7 to 9 hours ", same.tools)).value == 0.5 and not same.calls
    broken = await judge_text(scorer, "x", FakeModel({"better": "first"}, fail(500)).tools)
    assert broken.status == "error"


async def score_repeats(scorer: Scorer, texts: Sequence[str], tools: ScorerTools) -> Any:
    outputs = [Output(case_id="c", repeat=n, text=text) for n, text in enumerate(texts)]
    scores = await scorer.score(Case(id="c", inputs={"input": "x"}), outputs, tools)
    assert len(scores) == 1
    return scores[0]


async def test_self_consistency_is_the_share_of_the_largest_group_in_any_order() -> None:
    texts = ["Answer: 8.", "answer: 8", "Answer: 9", "Answer:  8 "]
    scorer = make("self_consistency")
    assert (await score_repeats(scorer, texts, ScorerTools())).value == 0.75
    assert (await score_repeats(scorer, texts[::-1], ScorerTools())).value == 0.75
    extract = make("self_consistency", extract="Answer: *(.*)")
    assert (await score_repeats(extract, ["So. Answer: 8", "Hm, Answer: 8"], ScorerTools())).value == 1.0
    one = await score_repeats(scorer, ["a", " "], ScorerTools())
    assert one.status == "undefined"


async def test_a_judge_can_say_which_answers_mean_the_same() -> None:
    scorer = make("self_consistency", method="judge", model="m")
    model = FakeModel(by=lambda user: {"reason": "", "same": "no" if "twelve" in user else "yes"})
    score = await score_repeats(scorer, ["eight", "8 hours", "eight hours", "twelve"], model.tools)
    assert score.value == 0.75 and score.evidence["group_sizes"] == [3, 1] and len(model.calls) == 6
    broken = await score_repeats(scorer, ["a", "b"], FakeModel("?").tools)
    assert broken.status == "error"
    with pytest.raises(BadScorerParameters, match="model"):
        make("self_consistency", method="judge")


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12)
        )
    )
)
def test_groups_do_not_depend_on_the_order_of_pairs(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = drawn
    first = sorted(map(sorted, join(n, pairs)))
    assert first == sorted(map(sorted, join(n, pairs[::-1])))
    assert sorted(number for group in first for number in group) == list(range(n))


async def embed(model: str, texts: Sequence[str]) -> list[list[float]]:
    if model == "down":
        raise UpstreamUnavailable("The embedder cannot be reached.")
    return [[float(text.count("a")), float(text.count("b")), 0.0] for text in texts]


async def test_the_nearest_expected_answer_counts() -> None:
    tools = ScorerTools(embed=embed)
    case = Case(id="c", expected=["b", "aab"])
    score = await judge_text(make("embedding_similarity"), "ab", tools, case=case)
    assert score.value == pytest.approx(3 / math.sqrt(10)) and score.evidence["reference"] == 1
    assert (await judge_text(make("embedding_similarity"), "zzz", tools, case=case)).status == "undefined"
    assert (await judge_text(make("embedding_similarity"), " ", tools, case=case)).status == "undefined"
    down = await judge_text(make("embedding_similarity", model="down"), "ab", tools, case=case)
    assert (down.status, down.fault) == ("error", "judge")


def test_greedy_matching_as_published() -> None:
    # by hand: two tokens against three; columns and rows take their nearest
    candidate = np.array([[1.0, 0.0], [0.0, 2.0]])
    reference = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    found = match_tokens(candidate, reference)
    assert found["precision"] == 1.0
    assert found["recall"] == pytest.approx((1 + 0.8 + 1) / 3)
    assert found["f1"] == pytest.approx(2 * found["recall"] / (1 + found["recall"]))
    assert match_tokens(reference, reference)["f1"] == pytest.approx(1.0)
    assert match_tokens(reference, candidate)["recall"] == found["precision"]


async def test_questions_back_are_compared_with_the_one_asked() -> None:
    case = Case(id="c", inputs={"input": "aab"})
    reply = {"abstains": "no", "question_1": "ab", "question_2": "aab", "question_3": ""}
    tools = ScorerTools(ask=FakeModel(reply), embed=embed)
    score = await judge_text(make("answer_similarity", model="m"), "x", tools, case=case)
    assert score.value == pytest.approx((3 / math.sqrt(10) + 1) / 2)
    abstained = ScorerTools(ask=FakeModel({"abstains": "yes"}), embed=embed)
    assert (
        await judge_text(make("answer_similarity", model="m"), "x", abstained, case=case)
    ).label == "abstained"


async def test_perplexity_and_likelihood_of_given_texts() -> None:
    seen: list[tuple[str, str, str]] = []

    async def likelihood(model: str, prompt: str, continuation: str) -> list[TokenChance]:
        seen.append((model, prompt, continuation))
        return [chance("a", 0.5), chance("b", 0.125)]

    tools = ScorerTools(likelihood=likelihood)
    case = Case(id="c", inputs={"input": "q"}, expected="e")
    score = await judge_text(make("perplexity", model="pocket"), "ab", tools, case=case)
    assert score.value == pytest.approx(4.0)
    mean = await judge_text(make("expected_likelihood", model="pocket"), "ab", tools, case=case)
    assert mean.value == pytest.approx(math.log(0.25))
    total = await judge_text(make("expected_likelihood", model="pocket", per="text"), "", tools, case=case)
    assert total.value == pytest.approx(math.log(0.0625))
    await judge_text(make("perplexity", model="pocket", after="nothing"), "ab", tools, case=case)
    assert seen[0] == ("pocket", "q", "ab") and seen[1] == ("pocket", "q", "e") and seen[-1][1] == ""
    assert (await judge_text(make("perplexity", model="pocket"), "", tools, case=case)).status == "undefined"
    assert (await judge_text(make("perplexity", model="pocket"), "a", ScorerTools())).status == "error"
