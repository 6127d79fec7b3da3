"""What a model is shown fits its own tokens, each thing once, and what it answers is held against what it cites."""

from typing import Any

import pytest

from penstock.apps.step_settings import CheckStep
from penstock.apps.types import AppDeclaration
from tests.apps.conftest import SLEEP, WATER, Hit, World

TWIN = Hit("copy.md", "Length", SLEEP.sentences, "psg_9", 0.9)
QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "How long do adults sleep?"}]
TRUE = "[1] Most adults need 7 to 9 hours of sleep each night."


def declare(world: World, **members: Any) -> None:
    members = {"name": "strict", "knowledge": "handbook", "model": "letters", **members}
    world.apps.append(AppDeclaration(**members))


async def ask(world: World, **members: Any) -> dict[str, Any]:
    status, body = await world.ask(model="strict", messages=QUESTION, **members)
    assert status == 200, body
    return body


def shown(world: World) -> str:
    return str(world.gateway.requests[-1][1]["messages"][-1]["content"])


# -- what fits


async def test_near_equal_passages_are_shown_once_and_the_span_says_which_was_left_out(world: World) -> None:
    declare(world, max_prompt_tokens=500)
    world.retriever.hits = [SLEEP, TWIN, WATER]
    await ask(world)
    assert shown(world).count("Most adults need") == 1
    assert "[3] Drinking water" in shown(world)
    span = world.recorder.named("pack")
    assert span.output["left_out"] == [
        {"passage_id": "psg_9", "rank": 2, "reason": "nearly the same as psg_1"}
    ]
    assert span.attributes["app.counted_by"] == "tokenizer of letters@1"
    app = world.recorder.named("app strict")
    assert (app.attributes["app.n_left_out"], span.parent_id) == (1, app.span_id)


async def test_sentences_stay_within_the_tokens_of_the_answering_model(world: World) -> None:
    declare(world, max_prompt_tokens=60)
    await ask(world)
    sources, _, _ = shown(world).partition("Question:")
    assert sources == f"[1] {SLEEP.sentences[0]}\n"
    span = world.recorder.named("pack")
    assert span.output["n_tokens"] == len(SLEEP.sentences[0]) + 4
    assert [each["passage_id"] for each in span.output["left_out"]] == ["psg_1", "psg_2"]
    assert "60 tokens" in span.output["left_out"][0]["reason"]


async def test_a_model_whose_tokenizer_is_not_here_is_counted_rather_high(world: World) -> None:
    declare(world, model="far-away", max_prompt_tokens=60)
    await ask(world)
    span = world.recorder.named("pack")
    assert span.attributes["app.counted_by"] == "estimate"
    words = sum(len(line.split()) for line in shown(world).splitlines()[:-1])
    assert words < span.output["n_tokens"] <= 60


async def test_nothing_that_fits_is_nothing_found(world: World) -> None:
    declare(world, max_prompt_tokens=5)
    body = await ask(world)
    assert body["outcome"]["reason"] == "nothing-found"
    assert world.gateway.requests == []


async def test_an_app_that_says_nothing_of_tokens_is_packed_by_words_as_ever(world: World) -> None:
    await world.ask()
    assert [span for span in world.recorder.spans if span.name == "pack"] == []
    assert shown(world).startswith("[1] Most adults need")


# -- what is borne out


def checks(world: World, then: str, **members: Any) -> None:
    check = CheckStep(kind="citations", then=then, **members)  # type: ignore[arg-type]  # one of its two
    declare(world, steps=("retrieve", "answer", "check"), check=check)


async def test_an_answer_that_stands_in_what_it_cites_passes(world: World) -> None:
    checks(world, "abstain", min_grounded=1.0)
    body = await ask(world)
    assert body["outcome"] == {
        "state": "answered",
        "grounded": 1.0,
        "knowledge": "knowledge:handbook@1",
    }
    span = world.recorder.named("check")
    assert span.kind == "guard"
    assert [(each["passage_id"], each["is_carried"]) for each in span.output["claims"]] == [("psg_1", True)]
    assert [each["verdict"] for each in span.output["quotes"]] == ["exact"]


@pytest.mark.parametrize(
    ("reply", "part", "why"),
    [
        (TRUE.replace("9", "12"), "Most adults need 7 to 12 hours of sleep each night.", "number-not-found"),
        (f"{TRUE} The moon is made of green cheese.", "The moon is made of green cheese.", "not-carried"),
        (
            f'{TRUE} It says "naps are bad for most adults".',
            "naps are bad for most adults",
            "quote-not-found",
        ),
    ],
)
async def test_what_is_not_borne_out_is_marked_where_it_stands(
    world: World, reply: str, part: str, why: str
) -> None:
    checks(world, "mark", min_grounded=1.0)
    world.gateway.reply = reply
    body = await ask(world)
    text = body["choices"][0]["message"]["content"]
    outcome = body["outcome"]
    assert outcome["state"] == "answered"
    assert outcome["notes"]
    (found,) = [each for each in outcome["unsupported"] if each["why"] == why]
    assert found["text"] == part
    assert text[found["start"] : found["end"]] == part


async def test_an_app_abstains_from_what_is_not_borne_out_and_nothing_of_it_streams(world: World) -> None:
    checks(world, "abstain", min_grounded=1.0)
    world.gateway.reply = TRUE.replace("9", "12")
    status, body = await world.ask(model="strict", messages=QUESTION)
    assert (status, body["outcome"]["reason"]) == (200, "not-grounded")
    assert "12" not in body["choices"][0]["message"]["content"]
    events = await world.stream(model="strict", messages=QUESTION)
    assert "12" not in str([event["choices"] for event in events])


async def test_a_quote_that_stands_nowhere_fails_whatever_else_is_true(world: World) -> None:
    checks(world, "abstain", min_grounded=0.0)
    world.gateway.reply = f"{TRUE} It says “sleep is for the weak”."
    assert (await ask(world))["outcome"]["reason"] == "not-grounded"


async def test_a_quote_but_for_its_marks_and_spaces_is_found(world: World) -> None:
    checks(world, "abstain", min_grounded=0.5)
    world.gateway.reply = f"{TRUE} It says “Older adults  often wake earlier”."
    assert (await ask(world))["outcome"]["state"] == "answered"


async def test_an_answer_that_cites_nothing_is_borne_out_by_nothing(world: World) -> None:
    checks(world, "abstain")
    world.gateway.reply = "Bananas grow upwards in tropical gardens."
    body = await ask(world)
    assert (body["outcome"]["reason"], body["outcome"]["grounded"]) == ("not-grounded", 0.0)


async def test_marks_that_readers_see_are_no_part_of_a_claim(world: World) -> None:
    checks(world, "abstain", min_grounded=1.0)
    world.apps[-1] = AppDeclaration(
        name="strict",
        knowledge="handbook",
        model="letters",
        steps=("retrieve", "answer", "check"),
        check=CheckStep(kind="citations", then="abstain", min_grounded=1.0),
        citations="inline",
    )
    assert (await ask(world))["outcome"]["grounded"] == 1.0
