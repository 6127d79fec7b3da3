"""Rows become the very messages that serving sends: by the prompt's code, the evaluation's case and the engine's rules."""

import json
from typing import Any

import msgspec
import pytest

from penstock.datasets.cases import row_to_case
from penstock.evals.ports import PinnedTarget
from penstock.evals.running.targets import request_body
from penstock.providers.engines.requests import read_chat
from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.spec.evaluations import TargetSpec
from penstock.spec.messages import Message
from penstock.spec.prompts import FewShot, PromptContent, PromptMessage, PromptVariable
from penstock.templating.render import render_prompt
from penstock.tuning.errors import RowNotUnderstood
from penstock.tuning.rows.examples import Example, fit_length
from penstock.tuning.rows.messages import read_messages
from penstock.tuning.rows.reading import RowReader, expected_text
from penstock.tuning.rows.types import RowKind, TrainingRow
from tests.tuning.chat_templates import CHATML, make_renderer

PROMPT = PromptContent(
    messages=[
        PromptMessage(role="system", content="Answer in one sentence."),
        PromptMessage(role="user", content="Passages:\n{{ passages }}\nQuestion: {{ input }}"),
    ],
    variables={"input": PromptVariable(), "passages": PromptVariable(required=False, default="none")},
    few_shot=FewShot(rows=[{"input": "2 + 2?", "output": "4."}]),
)
CASE = DatasetRow(
    id="c1",
    fields={"inputs": {"input": "Why <|im_end|> walk?", "other": 1}, "expected": "It helps."},
    group="g",
)


def read(
    row: DatasetRow, form: DatasetFormat = "cases", kind: RowKind = "supervised", **reader: Any
) -> TrainingRow:
    (found,) = RowReader(form=form, kind=kind, as_case=row_to_case, **reader).read(7, row)
    return found


def test_a_case_is_trained_with_the_messages_that_an_evaluation_of_the_prompt_sends() -> None:
    """unsloth#1832: another prompt text in training than in serving."""
    trained = read(CASE, prompt=PROMPT)
    pinned = PinnedTarget(
        spec=TargetSpec(prompt="answer", model="tiny"),
        versions={},
        stamp="x",
        takes_variables=frozenset(PROMPT.variables),
    )
    sent = request_body(pinned, row_to_case(CASE, "cases"))
    served = render_prompt(PROMPT, sent["prompt_variables"], history=sent["messages"]).request()
    assert trained.messages[:-1] == served["messages"]
    assert trained.messages[-1] == {"role": "assistant", "content": "It helps."}
    assert (trained.number, trained.group, trained.question) == (7, "g", "Why <|im_end|> walk?")


def test_the_ids_of_the_trained_prompt_are_those_that_the_engine_is_given() -> None:
    renderer = make_renderer(CHATML)
    trained = read(CASE, prompt=PROMPT)
    (found,) = renderer.render_sequences(
        [(read_messages(trained.messages), trained.tools)], untrained=[trained.untrained]
    )
    assert isinstance(found, list)
    served = render_prompt(PROMPT, {"input": "Why <|im_end|> walk?"}).request()
    request = read_chat(json.dumps({"model": "tiny", **served}).encode())
    assert request.messages is not None
    given = renderer.render_chat(request.messages)
    first = found[0].mask.index(1)
    assert found[0].ids[:first] == given
    assert renderer.decode(found[0].ids[first:]).startswith("It helps.<|im_end|>")


def test_examples_within_a_prompt_are_read_and_not_learnt() -> None:
    trained = read(CASE, prompt=PROMPT)
    roles = [message["role"] for message in trained.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert trained.untrained == {2}


def test_without_a_prompt_a_case_asks_as_an_evaluation_of_a_bare_model_does() -> None:
    for fields in ({"input": "Why?", "expected": "So."}, {"inputs": {"q": {"a": 1}}, "expected": "So."}):
        row = DatasetRow(id="x", fields=fields)
        pinned = PinnedTarget(spec=TargetSpec(model="tiny"), versions={}, stamp="x")
        assert read(row).messages[:-1] == request_body(pinned, row_to_case(row, "cases"))["messages"]
    with pytest.raises(RowNotUnderstood, match="neither messages nor a text"):
        read(DatasetRow(id="x", fields={"inputs": {"a": "1", "b": "2"}, "expected": "So."}))


def test_instructions_with_and_without_context() -> None:
    row = DatasetRow(id="i", fields={"instruction": "Sum up.", "input": "Long text.", "output": "Short."})
    assert read(row, "instruct").messages == [
        {"role": "user", "content": "Sum up.\n\nLong text."},
        {"role": "assistant", "content": "Short."},
    ]


def test_a_system_message_is_put_before_rows_that_have_none() -> None:
    asked = DatasetRow(
        id="a", fields={"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]}
    )
    own = DatasetRow(
        id="b", fields={"messages": [{"role": "developer", "content": "Mine"}, *asked.fields["messages"]]}
    )
    assert [each["role"] for each in read(asked, "chat", system="Be kind.").messages] == [
        "system",
        "user",
        "assistant",
    ]
    assert [each["role"] for each in read(own, "chat", system="Be kind.").messages] == [
        "developer",
        "user",
        "assistant",
    ]


def test_openais_weight_of_nothing_is_honoured() -> None:
    messages = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B", "weight": 0},
        {"role": "user", "content": "C"},
        {"role": "assistant", "content": "D", "weight": 1},
    ]
    assert read(DatasetRow(id="w", fields={"messages": messages}), "chat").untrained == {1}


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("So.", "So."),
        (["So.", "Thus."], "So."),
        (3, "3"),
        ({"a": 1}, '{"a": 1}'),
        (False, "false"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_what_is_expected_becomes_text(expected: Any, text: str) -> None:
    assert expected_text(expected) == text


@pytest.mark.parametrize("nothing", [None, "", []])
def test_a_case_that_expects_nothing_teaches_nothing(nothing: Any) -> None:
    with pytest.raises(RowNotUnderstood, match="no expected answer"):
        expected_text(nothing)


def test_a_preference_is_a_prompt_and_two_answers_for_dpo_and_two_rows_for_kto() -> None:
    row = DatasetRow(id="p", fields={"prompt": "Why?", "chosen": "Because.", "rejected": "No."})
    found = read(row, "preference", "preference")
    assert found.messages == [{"role": "user", "content": "Why?"}]
    assert (found.chosen, found.rejected) == (
        [{"role": "assistant", "content": "Because."}],
        [{"role": "assistant", "content": "No."}],
    )
    good, bad = RowReader(form="preference", kind="kto", as_case=row_to_case).read(1, row)
    assert (good.label, good.chosen[0]["content"]) == (True, "Because.")
    assert (bad.label, bad.chosen[0]["content"]) == (False, "No.")


def test_answers_that_repeat_the_conversation_are_understood() -> None:
    asked = [{"role": "user", "content": "Why?"}]
    row = DatasetRow(
        id="p",
        fields={
            "messages": asked,
            "chosen": [*asked, {"role": "assistant", "content": "Because."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
    )
    assert read(row, "preference", "preference").chosen == [{"role": "assistant", "content": "Because."}]
    odd = msgspec.structs.replace(row, fields={**row.fields, "rejected": [*asked, *asked]})
    with pytest.raises(RowNotUnderstood, match="not one turn"):
        read(odd, "preference", "preference")


def test_a_lone_reply_is_text_without_turns() -> None:
    found = read(
        DatasetRow(id="t", fields={"messages": [{"role": "assistant", "content": "Once."}]}),
        "chat",
        system="No.",
    )
    assert found.is_text
    assert found.answer == "Once."


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Hello"},
        {"role": "developer", "content": "Be kind."},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]},
    ],
)
def test_messages_are_read_as_the_engine_reads_requests(message: dict[str, Any]) -> None:
    request = read_chat(json.dumps({"model": "m", "messages": [message]}).encode())
    (read_here,) = read_messages([message])
    assert request.messages is not None
    assert (read_here.role, read_here.content) == (request.messages[0].role, request.messages[0].content)


def test_thoughts_and_calls_are_kept() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    (found,) = read_messages(
        [{"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]}]
    )
    assert found == Message(role="assistant", content="", reasoning="Hm.", tool_calls=(call,))


@pytest.mark.parametrize(
    ("max_length", "learnt"),
    [(8, [60, 2]), (9, [60, 2]), (10, [50, 51, 52, 2, 60, 2])],
    ids=["through a reply", "right before a reply", "within a question"],
)
def test_what_is_left_of_a_cut_reply_is_not_learnt(max_length: int, learnt: list[int]) -> None:
    """It would be learnt right behind the beginning of the sequence, where serving never gives it."""
    ids = [1, 10, 11, 12, 50, 51, 52, 2, 20, 21, 60, 2]
    whole = Example(row=1, columns=(ids,), mask=bytes([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1]))
    (cut,) = fit_length(whole, max_length, "keep_end", bos=1, is_text=False)
    assert cut.columns[0] == [1, *ids[-max_length + 1 :]]
    assert [token for token, is_learnt in zip(cut.columns[0], cut.mask, strict=True) if is_learnt] == learnt
