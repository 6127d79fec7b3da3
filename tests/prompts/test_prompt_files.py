"""Prompts as files: exact both ways, readable from other tools, and clear about what is wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.prompts.errors import BadPromptFile
from penstock.prompts.files import read_prompt, write_prompt
from penstock.prompts.foreign_files import read_file
from penstock.spec.prompts import ChainOfThought, FewShot, PromptContent, PromptMessage, PromptVariable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["--- user\n\\--- x", "\n", "a\n--- b", "\r\n", "+++\n", "", " "]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.builds(
    PromptMessage,
    role=st.sampled_from(["system", "user", "assistant", "developer"]),
    content=TEXT | st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
) | st.builds(PromptMessage, role=st.just("slot"), content=st.sampled_from(["history", "examples"]))
CONTENTS = st.builds(
    PromptContent,
    messages=st.lists(MESSAGES, min_size=1, max_size=4),
    variables=st.dictionaries(
        TEXT,
        st.builds(
            PromptVariable,
            required=st.booleans(),
            default=JSON,
            choices=st.lists(JSON, max_size=2),
            description=TEXT,
        ),
        max_size=2,
    ),
    few_shot=st.none()
    | st.builds(
        FewShot, rows=st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2), input_template=TEXT
    ),
    chain_of_thought=st.none() | st.builds(ChainOfThought, instruction=TEXT),
    model=st.none() | TEXT,
    parameters=st.dictionaries(TEXT, JSON, max_size=3),
    tools=st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
    output_schema=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    description=TEXT,
)


@settings(max_examples=50)
@given(CONTENTS)
def test_a_file_holds_a_prompt_exactly(content: PromptContent) -> None:
    assert read_prompt(write_prompt(content)) == content


def test_a_file_reads_well_and_survives_windows_line_ends() -> None:
    content = PromptContent(
        messages=[
            PromptMessage(role="system", content="Sort."),
            PromptMessage(role="user", content="{{ mail }}"),
        ],
        variables={"mail": PromptVariable(description="What came")},
        model="gpt-4o-mini",
    )
    text = write_prompt(content)
    assert text == (
        '+++\nmodel = "gpt-4o-mini"\n\n[variables]\nmail = { description = "What came" }\n+++\n\n'
        "--- system\nSort.\n\n--- user\n{{ mail }}\n"
    )
    assert read_prompt(text.replace("\n", "\r\n")) == content


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hello", "line 1: text before the first block"),
        ("+++\nmodel = 1", "settings end nowhere"),
        ("+++\nmodel =\n+++\n--- user\n", "line 2: Invalid value"),
        ("+++\nmodle = 'x'\n+++\n--- user\nx", "no member 'modle'"),
        ("+++\nmodel = 1\n+++\n--- user\nx", "Expected `str"),
        ("--- usr\nx", "line 1: there is no block `usr`"),
        ("--- user\nx\n--- From: me\ny", "line 3"),
        ("--- tools\n[1,\n\n--- user\nx", "no JSON"),
        ("--- slot\n", "write `--- slot NAME`"),
        ("", "holds no turns"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(text: str, told: str) -> None:
    with pytest.raises(BadPromptFile) as caught:
        read_prompt(text, where="a.prompt")
    assert told in caught.value.message
    assert caught.value.message.startswith("a.prompt")


def test_chat_prompts_of_other_tools_are_read_with_their_variables() -> None:
    ((name, content),) = read_file(
        "Mail Sorter.json",
        '[{"role": "user", "content": "{{ mail }} {{ u.name }} {% for x in xs %}{{ x }}{% endfor %}"}]',
    )
    assert name == "mail-sorter"
    assert {key: each.type for key, each in content.variables.items()} == {
        "mail": "text",
        "u": "object",
        "xs": "list",
    }


def test_exports_with_a_name_and_a_configuration_are_read() -> None:
    value = (
        '{"name": "Critic", "type": "chat", "prompt": [{"type": "placeholder", "name": "chat_history"}, '
        '{"role": "user", "content": "{{m}}"}], "config": {"model": "gpt-4o", "temperature": 0.5, "owner": "me"}}'
    )
    ((name, content),) = read_file("x.json", value)
    assert (name, content.model, content.parameters) == ("critic", "gpt-4o", {"temperature": 0.5})
    assert [each.role for each in content.messages] == ["slot", "user"]
    ((name, content),) = read_file("x.json", '{"name": "t", "prompt": "Say {{m}}"}')
    assert content.messages[0].content == "Say {{m}}"


def test_request_bodies_are_read() -> None:
    body = '{"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}}'
    ((_, content),) = read_file("x.json", body)
    assert (content.model, content.parameters, content.output_schema) == (
        "m",
        {"temperature": 0},
        {"type": "object"},
    )


def test_several_texts_of_one_file_are_several_prompts() -> None:
    assert [name for name, _ in read_file("a.txt", "one {{x}}\n---\ntwo")] == ["a-1", "a-2"]


@pytest.mark.parametrize(
    "text", ["{", "3", '{"messages": [3]}', '[{"role": "user", "content": "{{ a }"}]', '{"prompt": 3}']
)
def test_foreign_files_that_hold_no_prompt_are_refused(text: str) -> None:
    with pytest.raises(BadPromptFile):
        read_file("x.json", text)
