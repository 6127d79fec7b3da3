"""Calls of tools in what a model writes: found whatever the pieces, never lost where they are none, forced by grammar."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import CallerError
from penstock.providers.engines.argument_grammars import write_arguments
from penstock.providers.engines.requests import read_chat
from penstock.providers.engines.tool_calls import (
    CallForm,
    ToolCall,
    find_form,
    open_reader,
    write_call_grammar,
)
from tests.tuning.chat_templates import CHATML, TOOLS, make_renderer

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
HERMES_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
LLAMA_CALL = '{"name": "weather", "parameters": {"city": "Bern"}}'


def read(form: CallForm, pieces: list[str], *, is_single: bool = False) -> tuple[str, list[tuple[str, Any]]]:
    """Return the text and the calls that a reader finds."""
    reader = open_reader(form, ("weather", "clock"), is_single=is_single)
    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.finish()
    calls = [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCall)]
    return "".join(part for part in parts if isinstance(part, str)), calls


BERN = ("weather", {"city": "Bern"})
CASES: list[tuple[CallForm, str, str, list[tuple[str, Any]]]] = [
    ("hermes", HERMES_CALL, "", [BERN]),
    ("hermes", f"I look it up.\n{HERMES_CALL}", "I look it up.", [BERN]),
    ("hermes", f"{HERMES_CALL}\n{HERMES_CALL}\n", "", [BERN, BERN]),
    ("hermes", HERMES_CALL.removesuffix("</tool_call>"), "", [BERN]),
    ("hermes", "a < b, <tool and <tool_call", "a < b, <tool and <tool_call", []),
    ("hermes", "<tool_call>no JSON</tool_call> after", "<tool_call>no JSON</tool_call> after", []),
    ("hermes", '<tool_call>{"name": 5}</tool_call>', '<tool_call>{"name": 5}</tool_call>', []),
    ("hermes", '<tool_call>{"name": "clock", "arguments": {"n": NaN}}</tool_call>',
     '<tool_call>{"name": "clock", "arguments": {"n": NaN}}</tool_call>', []),
    ("hermes", '<tool_call>{"name": "clock"}</tool_call>', "", [("clock", {})]),
    ("hermes", '<tool_call>{"name": "weather", "arg', '<tool_call>{"name": "weather", "arg', []),
    ("hermes", " \n ", " \n ", []),
    ("llama3", LLAMA_CALL, "", [BERN]),
    ("llama3", f"<|python_tag|>{LLAMA_CALL}; {LLAMA_CALL}", "", [BERN, BERN]),
    ("llama3", "It rains.", "It rains.", []),
    ("llama3", '{"answer": 42}', '{"answer": 42}', []),
    ("llama3", '{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
    ("llama3", f"{LLAMA_CALL} and words", f"{LLAMA_CALL} and words", []),
    ("llama3", '{"name": "weather", "par', '{"name": "weather", "par', []),
]  # fmt: skip


@pytest.mark.parametrize(("form", "said", "text", "calls"), CASES)
def test_calls_are_found_and_what_is_none_stays_text(
    form: CallForm, said: str, text: str, calls: list[tuple[str, Any]]
) -> None:
    assert read(form, [said]) == (text, calls)
    assert read(form, list(said)) == (text, calls), "character by character it is the same"


@given(data=st.data())
def test_the_pieces_a_reply_comes_in_make_no_difference(data: st.DataObject) -> None:
    form, said, text, calls = data.draw(st.sampled_from(CASES))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=6)))
    edges = [0, *cuts, len(said)]
    assert read(form, [said[a:b] for a, b in pairwise(edges)]) == (text, calls)


@given(said=st.text(alphabet='<tol_ca>/ {}"x\n', max_size=60))
def test_text_that_holds_no_call_comes_out_as_it_went_in(said: str) -> None:
    text, calls = read("hermes", list(said))
    assert not calls
    assert text.split() == said.split() or "<tool_call>" in said
    if "<tool_call>" not in said:
        assert text == said


def test_a_text_is_given_on_as_soon_as_it_can_be_no_call() -> None:
    reader = open_reader("hermes", ("weather",), is_single=False)
    assert reader.feed("Good morning") == ["Good morning"]
    assert reader.feed(" <tool") == []
    assert reader.feed("s> are there") == [" <tools> are there"]


def test_one_call_alone_is_told_where_calls_are_not_to_be_parallel() -> None:
    assert read("hermes", [f"{HERMES_CALL}\n{HERMES_CALL}"], is_single=True) == ("", [BERN])
    assert read("llama3", [f"{LLAMA_CALL}\n{LLAMA_CALL}"], is_single=True) == ("", [BERN])


def test_how_a_model_writes_calls_is_read_off_its_template() -> None:
    assert find_form(make_renderer(TOOLS).template_names) == "hermes"
    assert find_form(make_renderer(CHATML).template_names) is None
    assert find_form({'{"name": "', '"parameters": ', "tools"}) == "llama3"
    assert find_form({"<tool_call>\n<function="}) is None, "XML calls are another form"


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize("form", ["hermes", "llama3"])
def test_a_forced_calls_grammar_quotes_what_callers_wrote(form: CallForm) -> None:
    odd = {"properties": {'"\n | root': {"enum": ['a"b', None, 5]}}}
    grammar = write_call_grammar(form, [tool('say "hi"\n', odd), tool("clock")])
    assert r"say \\\"hi\\\"\\n" in grammar
    (arguments,) = [line for line in grammar.splitlines() if line.startswith("tool0 ::=")]
    assert r"\"\\\"\\n | root\"" in arguments
    assert r'"\"a\\\"b\"" | "null" | "5"' in arguments
    assert "tool1 ::= object" in grammar


def test_a_tools_own_names_and_types_are_what_a_forced_call_may_have() -> None:
    schema = {
        "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}, "x": {"anyOf": []}},
        "required": ["days"],
    }
    told = write_arguments(schema, "t").splitlines()
    assert told[0] == r't ::= "{" "\"days\"" ": " ( integer | "null" ) t-rest0 "}"'
    assert told[1] == r't-rest0 ::= ( ", " "\"city\"" ": " ( string ) )? t-rest1'
    assert told[2] == r't-rest1 ::= ( ", " "\"x\"" ": " value )? t-rest2'
    assert write_arguments({"properties": {}}, "t") == "t ::= object"
    assert write_arguments("odd", "t") == "t ::= object"


def chat(**changes: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [WEATHER, CLOCK], **changes}
    ).encode()


def test_what_is_asked_of_tools_is_read() -> None:
    asked = read_chat(chat()).tools
    assert (asked.names, asked.forced, asked.is_single) == (("weather", "clock"), (), False)
    assert asked.tools == (WEATHER, CLOCK), "as they were sent"
    assert read_chat(chat(tool_choice="required")).tools.forced == ("weather", "clock")
    named = {"type": "function", "function": {"name": "clock"}}
    assert read_chat(chat(tool_choice=named)).tools.forced == ("clock",)
    assert read_chat(chat(parallel_tool_calls=False)).tools.is_single
    assert read_chat(chat(tool_choice="none")).tools.tools == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {}}]},
        {"tools": [WEATHER, WEATHER]},
        {"tools": ["weather"]},
        {"tools": [], "tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "rain"}}},
        {"tool_choice": "sometimes"},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"]}},
        {"messages": [{"role": "assistant", "tool_calls": ["x"]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": 5}}]}]},
        {"messages": [{"role": "assistant", "content": "", "function_call": {"name": "a"}}]},
    ],
)
def test_what_cannot_be_asked_of_tools_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CallerError):
        read_chat(chat(**changes))


def test_calls_and_results_of_former_turns_are_kept_as_they_were_sent() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
    ]
    read_messages = read_chat(chat(messages=messages)).messages
    assert read_messages is not None
    assert (read_messages[0].content, read_messages[0].tool_calls) == ("", (call,))
    assert (read_messages[1].tool_call_id, read_messages[1].name) == ("c1", "weather")
