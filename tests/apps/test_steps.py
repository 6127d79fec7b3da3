"""Steps beside retrieve and answer: what each asks, how its reply is read, and that one that fails is contained and told."""

from dataclasses import replace
from typing import Any

import pytest

from penstock.apps.chosen_numbers import read_numbers
from penstock.apps.step_prompts import read_expand, read_rewrite
from penstock.apps.step_settings import CheckStep, ExpandStep, FilterStep, RewriteStep
from penstock.apps.types import AppDeclaration
from penstock.spec.knowledge import Condition
from tests.apps.conftest import SLEEP, WATER, World

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How long do adults sleep?"},
    {"role": "assistant", "content": "7 to 9 hours."},
    {"role": "user", "content": "And how do older ones?"},
]
ALONE = "How long do older adults sleep?"


def declare(world: World, **members: Any) -> None:
    world.apps.append(
        AppDeclaration(
            **{
                "name": "chatty",
                "knowledge": "handbook",
                "model": "big",
                "steps": ("rewrite", "retrieve", "answer"),
                **members,
            }
        )
    )


async def ask(world: World, messages: list[dict[str, Any]] | None = None, **members: Any) -> dict[str, Any]:
    status, body = await world.ask(model="chatty", messages=messages or TALK[-1:], **members)
    assert status == 200, body
    return body


def asked(world: World, place: int) -> dict[str, Any]:
    return world.gateway.requests[place][1]


# -- a conversation


async def test_a_follow_up_is_searched_for_as_it_can_be_understood_alone(world: World) -> None:
    declare(world, rewrite=RewriteStep(model="small"))
    world.gateway.replies = {"small": [f'Question: "{ALONE}"\nThat is it.']}
    body = await ask(world, TALK)
    assert [call[1] for call in world.retriever.calls] == [ALONE]
    rewritten, answered = asked(world, 0), asked(world, 1)
    assert (rewritten["model"], rewritten["max_tokens"]) == ("small", 96)
    assert "assistant: 7 to 9 hours." in rewritten["messages"][1]["content"]
    assert answered["messages"][-1]["content"].endswith(f"Question: {ALONE}")
    assert body["outcome"]["question"] == ALONE
    assert body["usage"]["total_tokens"] == 2 * 52
    span = world.recorder.named("rewrite")
    assert (span.parent_id, span.status) == (world.recorder.named("app chatty").span_id, "ok")


async def test_a_first_question_is_not_rewritten(world: World) -> None:
    declare(world)
    body = await ask(world, TALK[-1:])
    assert len(world.gateway.requests) == 1
    assert "question" not in body["outcome"]


async def test_earlier_messages_are_shown_to_the_answering_model_as_far_as_declared(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), turns=1)
    await ask(world, TALK)
    roles = [message["role"] for message in asked(world, 0)["messages"]]
    assert roles == ["system", "assistant", "user"]
    world.apps.pop()
    declare(world, steps=("retrieve", "answer"))
    await ask(world, TALK)
    assert [message["role"] for message in asked(world, 1)["messages"]] == ["system", "user"]


@pytest.mark.parametrize("reply", ["!", "", "  \n ", "x" * 5000])
async def test_a_rewriting_that_fails_leaves_the_question_and_says_so(world: World, reply: str) -> None:
    declare(world, rewrite=RewriteStep(model="small"))
    world.gateway.replies = {"small": [reply]}
    body = await ask(world, TALK)
    assert world.retriever.calls[0][1] == "And how do older ones?"
    assert body["outcome"]["state"] == "answered"
    (note,) = body["outcome"]["notes"]
    assert note.startswith("step 'rewrite' was left out")
    assert world.recorder.named("rewrite").status == "error"
    assert world.recorder.named("app chatty").attributes["app.notes"] == [note]


async def test_a_step_is_tried_again_then_its_fallback_is_asked(world: World) -> None:
    declare(world, rewrite=RewriteStep(model="small", retries=1, fallback="spare"))
    world.gateway.replies = {"small": ["!", "!"], "spare": [ALONE]}
    body = await ask(world, TALK)
    assert [each[1]["model"] for each in world.gateway.requests] == ["small", "small", "spare", "big"]
    assert body["outcome"]["question"] == ALONE


async def test_a_step_that_must_not_fail_ends_the_run_with_its_name(world: World) -> None:
    declare(world, rewrite=RewriteStep(model="small", on_failure="fail"))
    world.gateway.replies = {"small": ["!"]}
    status, body = await world.ask(model="chatty", messages=TALK)
    assert status == 502
    assert "step 'rewrite'" in body["error"]["message"]
    assert world.retriever.calls == []


# -- several wordings


async def test_wordings_are_searched_in_the_generation_of_the_question_and_mixed_by_rank(
    world: World,
) -> None:
    declare(world, steps=("expand", "retrieve", "answer"), expand=ExpandStep(model="small", variants=2))
    world.gateway.replies = {"small": ["1. thirst at night\n- Thirst At Night\n2) water needs\n3. more"]}
    world.retriever.by_query = {"thirst at night": [WATER], "water needs": [WATER]}
    await ask(world)
    assert [call[1] for call in world.retriever.calls] == [
        "And how do older ones?",
        "thirst at night",
        "water needs",
    ]
    assert world.retriever.generations == [None, "gen_1", "gen_1"]
    assert asked(world, 1)["messages"][-1]["content"].startswith(f"[1] {WATER.sentences[0]}")


async def test_a_wording_whose_search_fails_is_left_out(world: World) -> None:
    declare(world, steps=("expand", "retrieve", "answer"), expand=ExpandStep(model="small"))
    world.gateway.replies = {"small": ["thirst"]}

    def fail_once() -> None:
        if world.retriever.calls[-1][1] == "thirst":
            raise OSError("disk")

    world.retriever.before = fail_once
    body = await ask(world)
    assert body["outcome"]["state"] == "answered"
    assert "OSError" in body["outcome"]["notes"][0]


# -- what does not help


async def test_a_model_throws_out_passages_that_do_not_help(world: World) -> None:
    declare(world, steps=("retrieve", "filter", "answer"), filter=FilterStep(model="small"))
    world.gateway.replies = {"small": ["Only 2."]}
    await ask(world)
    assert SLEEP.sentences[0] in asked(world, 0)["messages"][1]["content"]
    assert asked(world, 1)["messages"][-1]["content"].startswith(f"[1] {WATER.sentences[0]}")
    assert world.recorder.named("app chatty").attributes["app.n_filtered"] == 1


async def test_without_a_passage_that_helps_the_app_abstains_and_asks_no_more(world: World) -> None:
    declare(world, steps=("retrieve", "filter", "answer"), filter=FilterStep(model="small"))
    world.gateway.replies = {"small": ["None of them."]}
    body = await ask(world)
    assert len(world.gateway.requests) == 1
    assert (body["outcome"]["state"], body["outcome"]["reason"]) == ("abstained", "nothing-relevant")
    assert body["citations"] == []


async def test_a_reranker_throws_out_what_it_scores_low(world: World) -> None:
    settings = FilterStep(kind="rerank", model="ranker", min_score=0.5)
    declare(world, steps=("retrieve", "filter", "answer"), filter=settings)
    world.gateway.scores = [0.1, 0.9]
    await ask(world)
    assert asked(world, 0)["documents"] == [SLEEP.text, WATER.text]
    assert asked(world, 1)["messages"][-1]["content"].startswith(f"[1] {WATER.sentences[0]}")


async def test_an_unreadable_verdict_throws_out_nothing(world: World) -> None:
    declare(world, steps=("retrieve", "filter", "answer"), filter=FilterStep(model="small"))
    world.gateway.replies = {"small": ["I would rather not say."]}
    body = await ask(world)
    assert body["outcome"]["state"] == "answered"
    assert "step 'filter' was left out" in body["outcome"]["notes"][0]


# -- what is not borne out


async def test_an_answer_that_is_not_borne_out_is_marked(world: World) -> None:
    declare(world, steps=("retrieve", "answer", "check"), check=CheckStep(min_grounded=0.6))
    world.gateway.reply = "Most adults need 7 to 9 hours of sleep [1]. The moon is made of green cheese."
    body = await ask(world)
    assert body["outcome"]["grounded"] == 0.5
    assert body["outcome"]["state"] == "answered"
    assert "50%" in body["outcome"]["notes"][0]


async def test_an_answer_that_is_not_borne_out_is_held_back_where_the_app_abstains(world: World) -> None:
    declare(world, steps=("retrieve", "answer", "check"), check=CheckStep(min_grounded=0.6, then="abstain"))
    world.gateway.reply = "The moon is made of green cheese."
    body = await ask(world)
    assert (body["outcome"]["reason"], body["outcome"]["grounded"]) == ("not-grounded", 0.0)
    assert "moon" not in str(body["choices"])
    events = await world.stream(model="chatty")
    assert "moon" not in str(events)
    assert events[0]["choices"][0]["delta"]["content"] == body["choices"][0]["message"]["content"]
    assert events[-1]["outcome"]["reason"] == "not-grounded"
    world.gateway.reply = "Most adults need 7 to 9 hours of sleep [1]."
    events = await world.stream(model="chatty")
    assert [event["choices"][0]["delta"].get("content") for event in events] == [
        "Most adults need 7 to 9 hours of sleep.",
        None,
    ]


async def test_a_model_judges_which_sentences_are_borne_out(world: World) -> None:
    settings = CheckStep(kind="model", model="small", min_grounded=0.6, then="abstain")
    declare(world, steps=("retrieve", "answer", "check"), check=settings)
    world.gateway.reply = "One thing. Another thing."
    world.gateway.replies = {"small": ["1"]}
    body = await ask(world)
    assert body["outcome"]["grounded"] == 0.5
    assert asked(world, 1)["messages"][1]["content"].endswith("1. One thing.\n2. Another thing.")


# -- answering


async def test_the_answer_is_asked_for_again_and_then_of_the_fallback(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), answer_retries=1, answer_fallback="spare")
    world.gateway.replies = {"big": ["!", "!"]}
    body = await ask(world)
    assert [each[1]["model"] for each in world.gateway.requests] == ["big", "big", "spare"]
    assert len(body["outcome"]["notes"]) == 2
    assert [span.status for span in world.recorder.spans if span.name == "answer"] == ["error", "error", "ok"]


async def test_a_reply_that_has_begun_is_not_begun_again(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), answer_retries=3)
    world.gateway.broken = "cut"
    events = await world.stream(model="chatty")
    assert "error" in events[-1]
    assert len(world.gateway.requests) == 1


async def test_without_documents_the_model_answers_alone_where_the_app_says_so(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), when_nothing_found="answer")
    world.retriever.hits = []
    world.gateway.reply = "Hello!"
    body = await ask(world)
    assert body["outcome"] == {
        "state": "answered",
        "from_documents": False,
        "knowledge": "knowledge:handbook@1",
    }
    assert asked(world, 0)["messages"] == [{"role": "user", "content": "And how do older ones?"}]


async def test_marks_stay_where_the_app_shows_them_and_only_real_ones(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), citations="inline")
    world.gateway.reply = "Most adults need 7 to 9 hours of sleep [1]. Drink [9] water."
    body = await ask(world)
    text = body["choices"][0]["message"]["content"]
    assert text == "Most adults need 7 to 9 hours of sleep [1]. Drink water."
    (citation,) = body["citations"]
    assert (citation["mark"], text[citation["start"] : citation["end"]]) == (
        1,
        "Most adults need 7 to 9 hours of sleep",
    )
    streamed = await world.stream(model="chatty")
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in streamed) == text


async def test_a_citation_opens_the_document_at_its_page(world: World) -> None:
    declare(world, steps=("retrieve", "answer"))
    world.retriever.hits = [
        replace(SLEEP, title="Sleep", anchor="page=3", url="https://docs.example/sleep.pdf")
    ]
    world.gateway.reply = "Most adults need 7 to 9 hours of sleep each night [1]."
    body = await ask(world)
    (citation,) = body["citations"]
    assert (citation["page"], citation["url"]) == (3, "https://docs.example/sleep.pdf#page=3")
    (annotation,) = body["choices"][0]["message"]["annotations"]
    assert annotation == {
        "type": "url_citation",
        "url_citation": {
            "start_index": 0,
            "end_index": 49,
            "url": "https://docs.example/sleep.pdf#page=3",
            "title": "Sleep",
        },
    }
    assert (await world.stream(model="chatty"))[-1]["choices"][0]["delta"]["annotations"] == [annotation]


async def test_other_words_for_not_knowing_count_as_abstaining(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), unknown_openings=["Ich weiß es nicht"])
    world.gateway.reply = "ICH WEISS ES NICHT, leider."
    body = await ask(world)
    assert (body["outcome"]["state"], body["outcome"]["reason"]) == ("abstained", "not-known")
    assert body["choices"][0]["message"]["content"].startswith("I do not know")


async def test_a_saved_prompt_answers_with_question_and_sources(world: World) -> None:
    declare(world, steps=("retrieve", "answer"), prompt="prompt:helpdesk@prod", turns=2)
    await ask(world, TALK)
    sent = asked(world, 0)
    assert (sent["model"], sent["prompt_model"]) == ("prompt:helpdesk@prod", "big")
    assert sent["prompt_variables"]["question"] == "And how do older ones?"
    assert sent["prompt_variables"]["sources"].startswith(f"[1] {SLEEP.sentences[0]}\n")
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant"]
    assert "max_tokens" not in sent


async def test_filters_and_principals_of_the_app_reach_every_search(world: World) -> None:
    german = Condition(op="is", field="language", value="de")
    declare(world, steps=("expand", "retrieve", "answer"), filters=[german], expand=ExpandStep(model="small"))
    world.gateway.replies = {"small": ["thirst"]}
    body = {"model": "chatty", "messages": TALK[-1:]}
    headers = {"x-penstock-principals": "user:ada,group:a%2Cb"}
    async with world.session.post(f"{world.url}/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status == 200
    assert [scope.conditions for scope in world.retriever.scopes] == [[german], [german]]
    assert [scope.principals for scope in world.retriever.scopes] == [
        ["everyone", "user:ada", "group:a,b"]
    ] * 2


async def test_a_run_has_a_deadline_over_all_its_steps(world: World) -> None:
    declare(
        world,
        steps=("retrieve", "answer", "check"),
        deadline_s=1.5,
        check=CheckStep(kind="model", timeout_s=60),
    )
    world.gateway.broken = "hang"
    status, body = await world.ask(model="chatty")
    assert status == 504
    assert "step 'answer' took longer than" in body["error"]["message"]


# -- reading what models say


@pytest.mark.parametrize(
    ("reply", "numbers"),
    [
        ("1, 3", [1, 3]),
        ("Passages 2 and 2 help.", [2]),
        ("none", []),
        ("None of them helps.", []),
        ("Keine.", []),
        ("7", None),
        ("none, but 9", None),
        ("", None),
        ("maybe", None),
        # numbers that count choose nothing
        ("None of the 3 passages help.", []),
        ("None of the passages 1, 2 and 3 helps.", []),
        ("No, none of them.", []),
        ("Keine der 3 Passagen hilft.", []),
        ("All 3 statements are borne out.", [1, 2, 3]),
        ("All of them.", [1, 2, 3]),
        ("Alle 3 Aussagen.", [1, 2, 3]),
        ("All of the 3 passages help", [1, 2, 3]),
        ("2 of the 3 passages help: 1 and 3.", [1, 3]),
        ("2 passages help: 1 and 3", [1, 3]),
        ("1 of 3", None),
        # ranges, brackets, words around
        ("1-3", [1, 2, 3]),
        ("1 – 2", [1, 2]),
        ("2 to 9", [2, 3]),
        ("[1] [3]", [1, 3]),
        ("**1** and **2**", [1, 2]),
        ("1.", [1]),
        ("Answer: 1, 3", [1, 3]),
        ("No. 2 helps.", [2]),
        ("Only 2.", [2]),
        # what is taken and what is not
        ("1, 3\nPassage 2 does not say it.", [1, 3]),
        ("None but 2.", [2]),
        ("None, except for 1 and 3", [1, 3]),
        ("All but 2", [1, 3]),
        ("All except 1 and 2.", [3]),
        ("Passages 1 and 3 help, 2 does not.", None),
        ("All of them are irrelevant.", None),
        ("Passage 2 isn't relevant.", None),
        ("1: yes, 2: no, 3: yes", None),
    ],
)
def test_numbers_are_read_leniently_and_never_made_up(reply: str, numbers: list[int] | None) -> None:
    assert read_numbers(reply, 3) == numbers


def test_a_rewritten_question_is_the_first_line_that_says_something() -> None:
    assert read_rewrite("\n “How long?” \nmore", max_chars=99) == "How long?"
    assert read_rewrite("Standalone question: How long?", max_chars=99) == "How long?"
    assert read_rewrite("", max_chars=99) is None


def test_wordings_are_told_apart_from_the_question_and_each_other() -> None:
    reply = "1. How long?\n* sleep length\n• Sleep length\n\n(3) hours at night"
    assert read_expand(reply, "how long?", 5, max_chars=99) == ["sleep length", "hours at night"]
    assert read_expand("how long?", "How long?", 5, max_chars=99) is None
