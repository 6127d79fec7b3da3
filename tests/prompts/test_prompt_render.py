"""What a prompt makes of variables, examples and history, and what it says of wrong ones."""

from typing import Any

import pytest

from penstock.prompts.render import render
from penstock.spec.prompts import ChainOfThought, FewShot, PromptContent, PromptMessage, PromptVariable
from penstock.templating.check import find_problems
from penstock.templating.errors import RenderFailed, WrongVariables
from penstock.templating.examples import choose_examples


def turn(role: str, content: Any) -> PromptMessage:
    return PromptMessage(role=role, content=content)  # type: ignore[arg-type]


def prompt(*messages: PromptMessage, **members: Any) -> PromptContent:
    return PromptContent(messages=list(messages), **members)


SORT = prompt(
    turn("system", "You are {{ tone }}."),
    turn("slot", "examples"),
    turn("slot", "history"),
    turn("user", "Sort: {{ mail }}"),
    variables={"mail": PromptVariable(), "tone": PromptVariable(required=False, default="kind")},
    few_shot=FewShot(
        rows=[{"id": "a", "input": "Hi", "output": "greeting"}, {"id": "b", "input": "Bye", "output": "end"}],
        count=1,
    ),
    parameters={"temperature": 0.2},
)


def test_slots_and_variables_make_the_messages() -> None:
    rendered = render(SORT, {"mail": "{{ tone }}"}, history=[{"role": "user", "content": "Before"}])
    assert [(each["role"], each["content"]) for each in rendered.messages] == [
        ("system", "You are kind."),
        ("user", "Hi"),
        ("assistant", "greeting"),
        ("user", "Before"),
        ("user", "Sort: {{ tone }}"),
    ]
    assert rendered.request()["temperature"] == 0.2
    assert rendered.examples == ["a"]


def test_examples_without_a_slot_stand_before_the_last_user_turn() -> None:
    content = prompt(
        turn("user", "First"),
        turn("user", "{{ q }}"),
        variables={"q": PromptVariable()},
        few_shot=SORT.few_shot,
    )
    assert [each["content"] for each in render(content, {"q": "Q"}).messages] == [
        "First",
        "Hi",
        "greeting",
        "Q",
    ]


def test_all_wrong_variables_are_named_at_once_with_near_names() -> None:
    with pytest.raises(WrongVariables) as caught:
        render(SORT, {"mial": "x", "tone": ["loud"]})
    assert set(caught.value.fields["variables"]) == {"mail", "mial", "tone"}
    assert "Did you mean 'mail'" in caught.value.message
    assert "'tone' must be a text, not ['loud']" in caught.value.message


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("text", ["", "ü", 3, 1.5], [None, True, [], {}]),
        ("number", [1, 1.5], ["1", True, None]),
        ("integer", [1], [1.5, True, "1"]),
        ("boolean", [True], [1, "true"]),
        ("list", [[], [1]], ["a", {}]),
        ("object", [{}], [[], "a"]),
        ("messages", [[], [{"role": "user", "content": "x"}]], [[1], [{"content": "x"}], "x"]),
    ],
)
def test_types_are_held(kind: Any, good: list[Any], bad: list[Any]) -> None:
    content = prompt(turn("user", "{{ v }}"), variables={"v": PromptVariable(type=kind)})
    for value in good:
        render(content, {"v": value})
    for value in bad:
        with pytest.raises(WrongVariables):
            render(content, {"v": value})


def test_choices_and_length_are_held() -> None:
    content = prompt(
        turn("user", "{{ a }}{{ b }}"),
        variables={"a": PromptVariable(choices=["x", "y"]), "b": PromptVariable(max_chars=2)},
    )
    with pytest.raises(WrongVariables, match=r"one of 'x', 'y'.*has 3 characters"):
        render(content, {"a": "z", "b": "123"})


def test_parts_are_filled_in_and_their_types_are_not() -> None:
    parts = [
        {"type": "text", "text": "{{ q }}"},
        {"type": "image_url", "image_url": {"url": "{{ q }}.png", "detail": "low"}},
    ]
    content = prompt(turn("user", parts), variables={"q": PromptVariable()})
    told = render(content, {"q": "cat"}).messages[0]["content"]
    assert told == [
        {"type": "text", "text": "cat"},
        {"type": "image_url", "image_url": {"url": "cat.png", "detail": "low"}},
    ]


def test_a_failing_template_says_which_turn_and_line() -> None:
    content = prompt(turn("user", "a\n{{ u.nmae }}"), variables={"u": PromptVariable(type="object")})
    with pytest.raises(RenderFailed, match=r"messages\[0\], line 2: .*nmae"):
        render(content, {"u": {"name": "x"}})


def test_history_without_a_slot_follows_a_prompt_of_instructions_and_is_left_out_elsewhere() -> None:
    asked = [{"role": "user", "content": "Hello"}]
    assert render(prompt(turn("system", "Be brief.")), {}, history=asked).messages[-1] == asked[0]
    rendered = render(prompt(turn("user", "Fixed")), {}, history=asked)
    assert [each["content"] for each in rendered.messages] == ["Fixed"]
    assert "left out" in rendered.warnings[0]


def test_reasoning_is_asked_for_in_the_system_turn() -> None:
    cot = ChainOfThought(instruction="Think.")
    with_system = prompt(turn("system", "S"), turn("user", "Q"), chain_of_thought=cot)
    assert render(with_system, {}).messages[0]["content"] == "S\n\nThink."
    alone = render(prompt(turn("user", "Q"), chain_of_thought=cot), {})
    assert alone.messages[0] == {"role": "system", "content": "Think."}


def test_an_output_schema_becomes_the_response_format() -> None:
    schema = {"type": "object", "title": "A reply", "properties": {"a": {"type": "string"}}}
    told = render(prompt(turn("user", "Q"), output_schema=schema), {}).request()["response_format"]
    assert told == {"type": "json_schema", "json_schema": {"name": "A_reply", "schema": schema}}


def test_drawn_examples_are_the_same_for_the_same_case() -> None:
    few = FewShot(rows=[{"input": str(n), "output": "o"} for n in range(50)], pick="random", count=3)
    draws = [
        tuple(row["input"] for row in choose_examples(few, few.rows, {"q": q})) for q in ("a", "a", "b", "c")
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def test_everything_wrong_with_a_prompt_is_found_at_once() -> None:
    wrong = prompt(
        turn("slot", "exampels"),
        turn("user", "a\n{{ quest }} {{ b }\n"),
        turn("user", "{{ quest }}"),
        turn("slot", "examples"),
        variables={"question": PromptVariable(default=3), "range": PromptVariable()},
        parameters={"model": "x"},
        tools=[{"type": "function", "function": {}}],
        chain_of_thought=ChainOfThought(answer_marker=" "),
    )
    problems = " ".join(find_problems(wrong))
    for expected in (
        "no slot 'exampels'. Did you mean 'examples'",
        "messages[1].content, line 2: unexpected '}'",
        "no `few_shot`",
        "'question' is declared and used nowhere",
        "The default of 'question' must be a text",
        "'range' cannot be a variable",
        "messages[2].content, line 1: 'quest' is used and not declared. Did you mean 'question'",
        "parameters.model",
        "tools[0].function has no `name`",
        "answer_marker is empty",
    ):
        assert expected in problems, expected
    assert list(find_problems(SORT)) == []
    assert list(find_problems(prompt())) == ["It has no messages."]
