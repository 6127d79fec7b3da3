"""How prompts read on a page: templates in pieces, drafts held against their templates, lines that can be copied."""

import ast
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.console.prompt_words import inspect_draft, mark_template, read_value, sample_values, use_lines
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable


def draft(*texts: str, **variables: PromptVariable) -> PromptContent:
    return PromptContent(
        messages=[PromptMessage(role="user", content=text) for text in texts], variables=variables
    )


def test_the_places_of_a_template_are_marked_by_what_they_do() -> None:
    pieces = mark_template("Hi {{ name }}{% if x %}!{% endif %}{# aside #}")
    assert [(each.kind, each.text) for each in pieces] == [
        ("text", "Hi "),
        ("value", "{{ name }}"),
        ("step", "{% if x %}"),
        ("text", "!"),
        ("step", "{% endif %}"),
        ("remark", "{# aside #}"),
    ]


@given(st.text(alphabet="{}%# ab\n", max_size=40))
def test_joined_pieces_are_the_template(text: str) -> None:
    assert "".join(each.text for each in mark_template(text)) == text


def test_a_broken_template_is_told_beside_its_message_with_line_and_mark() -> None:
    (problem,) = inspect_draft(draft("fine", "a\nb {{ x }", x=PromptVariable())).problems[:1]
    assert (problem.place, problem.key, problem.line) == ("message", "1", 2)
    assert problem.text.splitlines()[-1].strip() == "^"


def test_undeclared_names_are_offered_with_the_declared_one_that_looks_alike() -> None:
    report = inspect_draft(draft("{{ question }} {{ tone }}", questoin=PromptVariable()))
    assert report.undeclared == {"question": "questoin", "tone": ""}
    assert report.unused == ("questoin",)


def test_a_declared_variable_that_nothing_uses_is_told_beside_it() -> None:
    (problem,) = inspect_draft(draft("hello", tone=PromptVariable())).problems
    assert (problem.place, problem.key) == ("variable", "tone")


def test_a_sound_draft_has_nothing_to_tell() -> None:
    report = inspect_draft(draft("{{ tone }}", tone=PromptVariable()))
    assert (report.problems, report.undeclared, report.unused) == ((), {}, ())


def test_typed_values_are_read_as_their_variable_wants_them() -> None:
    assert read_value("n", PromptVariable(type="integer"), "3") == 3
    assert read_value("n", PromptVariable(), "3") == "3"
    assert read_value("n", PromptVariable(type="boolean"), "yes") is True
    with pytest.raises(InvalidInput, match="'n' must be a list"):
        read_value("n", PromptVariable(type="list"), "[1,")


def test_lines_to_copy_can_be_read_by_what_they_are_for() -> None:
    content = draft(
        "{{ who }} {{ tone }}", who=PromptVariable(), tone=PromptVariable(choices=["it's", "formal"])
    )
    lines = dict(use_lines("triage", "@prod", sample_values(content), "http://127.0.0.1:4600/"))
    for title in ("OpenAI's client", "Rendered in your program"):
        ast.parse(lines[title])
    words = shlex.split(lines["curl"].replace("\\\n", " "))
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == "prompt:triage@prod"
    assert body["prompt_variables"] == {"who": "…", "tone": "it's"}
    assert words[1] == "http://127.0.0.1:4600/v1/chat/completions"
    assert shlex.split(lines["Command line"])[-1] == "tone=it's"
