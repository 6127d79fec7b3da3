"""Differences by word lose nothing, and turns are paired with those that they came from."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.prompts.diff import diff_prompts, diff_words
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable

WORDS = st.lists(st.sampled_from(["a", "b", "longer", " ", ", ", "\n", "{{ x }}", "ü"]), max_size=25).map(
    "".join
)


@given(WORDS, WORDS)
def test_both_texts_come_back_from_the_pieces(before: str, after: str) -> None:
    pieces = diff_words(before, after)
    assert "".join(each.text for each in pieces if each.kind != "added") == before
    assert "".join(each.text for each in pieces if each.kind != "removed") == after


def test_a_variable_is_one_word() -> None:
    kinds = [(each.kind, each.text) for each in diff_words("Sort {{ mail }}.", "Sort {{ post }}.")]
    assert kinds == [("same", "Sort "), ("removed", "{{ mail }}"), ("added", "{{ post }}"), ("same", ".")]


def test_turns_are_paired_by_likeness_and_settings_are_told() -> None:
    before = PromptContent(
        messages=[
            PromptMessage(role="system", content="You sort mail."),
            PromptMessage(role="user", content="{{ mail }}"),
        ],
        variables={"mail": PromptVariable()},
        parameters={"temperature": 0.2},
    )
    after = PromptContent(
        messages=[
            PromptMessage(role="system", content="You sort mail well."),
            PromptMessage(role="slot", content="history"),
            PromptMessage(role="user", content="{{ mail }}"),
        ],
        variables={"mail": PromptVariable()},
        parameters={"temperature": 0.7},
        model="m",
    )
    diff = diff_prompts(before, after)
    assert [(row.part, row.change, row.before_place, row.after_place) for row in diff.rows] == [
        ("message", "changed", 0, 0),
        ("message", "added", None, 1),
        ("message", "same", 1, 2),
        ("parameters.temperature", "changed", None, None),
        ("model", "added", None, None),
    ]
    assert not diff.is_empty
    assert diff_prompts(before, before).is_empty
