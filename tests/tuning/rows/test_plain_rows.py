"""Plain conversations are made ready many at a time, and what comes back is what each would have become by itself."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.datasets.cases import row_to_case
from penstock.spec.datasets import DatasetRow
from penstock.tuning.bulk_ids import PlainTalk
from penstock.tuning.rows.chunks import Chunk, RowWork
from penstock.tuning.rows.overlap import WordHashes, index_questions, normalise
from penstock.tuning.rows.reading import RowReader
from tests.tuning.chat_templates import CHATML, PLAIN, THINKING, make_renderer, make_tokenizer

TOKENIZER = make_tokenizer()
RENDERERS = {
    name: make_renderer(template, tokenizer=TOKENIZER)
    for name, template in {"plain": PLAIN, "chatml": CHATML, "thinking": THINKING}.items()
}
HELD = "one two three four five six seven eight nine ten"
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {"max_length": 256},
    "short, its end kept": {"max_length": 30, "truncate": "keep_end", "n_samples": 2},
    "short, dropped": {"max_length": 30, "truncate": "drop", "loss_on": "last_turn", "n_samples": 1 << 30},
    "learnt whole": {"max_length": 256, "loss_on": "all", "vocab_size": 400},
}


class _OneByOne(RowReader):
    """Knows no plain rows."""

    def read_plain(self, row: DatasetRow) -> PlainTalk | None:
        return None


def reader(system: str | None = None) -> RowReader:
    return RowReader(form="chat", kind="supervised", as_case=row_to_case, system=system)


def told(chunk: Chunk) -> dict[str, Any]:
    """Return all of a chunk; what is only counted (lengths, learnt tokens) without its order."""
    found = {each.name: getattr(chunk, each.name) for each in dataclasses.fields(chunk)}
    for name in ("columns", "sizes"):
        found[name] = [(each.dtype, each.tolist()) for each in found[name]]
    for name in ("mask", "labels", "rows", "keys", "numbers"):
        found[name] = (found[name].dtype, found[name].tolist())
    for name in ("lengths", "trained"):
        found[name] = (found[name].dtype, sorted(found[name].tolist()))
    found["troubles"] = list(chunk.troubles.items())
    return found


def both(rows: list[DatasetRow], system: str | None = None, name: str = "chatml", **changes: Any) -> Chunk:
    """Return what becomes of rows many at a time, after it was compared with one by one."""
    held = (index_questions("dataset:held@1", [normalise(HELD), normalise("Where is water?")]),)
    numbered = list(enumerate(rows, start=3))
    quick, slow = (
        RowWork(**{"renderer": RENDERERS[name], "reader": each, "held": held, "max_length": 256, **changes}).work(
            numbered, WordHashes()
        )
        for each in (reader(system), _OneByOne(form="chat", kind="supervised", as_case=row_to_case, system=system))
    )  # fmt: skip
    assert told(quick) == told(slow)
    return quick


words = st.sampled_from(["walking", "water", "Where is water?", HELD, "é", "a < b", "[1]", "<|im_end|>", "<|im_start|>user", "[INST]", "<|", "\n", " ", "\ufdd0"])  # fmt: skip
texts = st.lists(words, max_size=5).map(" ".join)
odd_messages = st.sampled_from(
    [
        {"role": "user"},
        {"content": "x", "weight": 0},
        {"role": "assistant", "content": "x", "weight": 0},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
        {"role": "assistant", "content": None},
        {"role": "developer", "content": "x"},
        {"role": ["user"], "content": "x"},
        {"role": "user", "content": 3},
        {"role": "assistant", "content": "x", "reasoning_content": "y"},
    ]
)
pairs = st.tuples(texts, texts).map(
    lambda said: [{"role": "user", "content": said[0]}, {"role": "assistant", "content": said[1]}]
)
conversations = st.tuples(
    st.sampled_from([[], [], [{"role": "system", "content": "Be brief."}]]), st.lists(pairs, min_size=1, max_size=3)
).map(lambda said: [*said[0], *(each for pair in said[1] for each in pair)])  # fmt: skip
fields = st.one_of(
    *[conversations.map(lambda said: {"messages": said})] * 6,
    st.tuples(conversations, odd_messages, st.integers(0, 4)).map(
        lambda given: {"messages": [*given[0][: given[2]], given[1], *given[0][given[2] :]]}
    ),
    conversations.map(
        lambda said: {"messages": said, "tools": [{"type": "function", "function": {"name": "f"}}]}
    ),
    st.sampled_from([{"messages": []}, {"messages": "text"}, {"messages": [1, 2]}, {"messages": [[], []]}, {}]),
)  # fmt: skip


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("system", [None, "Be <short>."])
@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@given(given_fields=st.lists(fields, min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_rows_become_what_each_becomes_by_itself(
    name: str, system: str | None, changes: dict[str, Any], given_fields: list[dict[str, Any]]
) -> None:
    rows = [DatasetRow(id=f"r{n}", fields=each) for n, each in enumerate(given_fields)]
    both(rows, system, name, **changes)


def chat(*said: str, **more: Any) -> DatasetRow:
    messages = [
        {"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)
    ]
    return DatasetRow(id="r", fields={"messages": messages, **more})


TEXT = DatasetRow(id="t", fields={"messages": [{"role": "assistant", "content": "Only text."}]})


def test_rows_that_need_a_second_look_keep_their_place_among_the_others() -> None:
    long = "walking " * 90
    rows = [
        chat("a", "b"),
        chat("Say <|im_end|>", "no"),
        chat("c", "d"),
        chat("e", long),
        chat("f", ""),
        chat("g", "h"),
    ]
    chunk = both(rows, max_length=60, truncate="drop", n_samples=3)
    assert chunk.rows.tolist() == [3, 4, 5, 7, 8]
    assert [each["row"] for each in chunk.samples] == [3, 4, 5]
    assert {kind: numbers for (kind, _), (_, numbers) in chunk.troubles.items()} == {
        "template-text": [4],
        "too-long": [6],
        "empty-mask": [7],
    }


def test_text_without_turns_comes_first_whatever_lies_around_it() -> None:
    chunk = both([chat("a", "b"), TEXT, chat("c", "d")])
    assert chunk.rows.tolist() == [4, 3, 5]


def test_a_held_out_question_is_found_in_any_turn_and_in_what_is_learnt() -> None:
    rows = [
        chat("Where is water?", "There."),
        chat("Hello", "Yes", "WHERE is  water", "There."),
        chat("Tell me", f"Well, {HELD} indeed."),
        chat("Nothing", "of it"),
    ]
    chunk = both(rows)
    assert chunk.troubles[("contaminated", "dataset:held@1")] == (3, [3, 4, 5])


def test_a_row_of_roles_and_texts_alone_is_read_as_plain() -> None:
    assert reader().read_plain(chat("a", "b")) == PlainTalk(("user", "assistant"), ["a", "b"])
    assert reader("Be brief.").read_plain(chat("a", "b")) == PlainTalk(
        ("system", "user", "assistant"), ["Be brief.", "a", "b"]
    )


@pytest.mark.parametrize(
    "row",
    [TEXT, chat("a"), chat("a", "b", "c"), chat("a", "b", tools=[{}]), DatasetRow(id="x", fields={})],
    ids=["text", "one message", "no reply", "tools", "nothing"],
)
def test_a_row_with_anything_else_is_not(row: DatasetRow) -> None:
    assert reader().read_plain(row) is None


def test_rows_of_other_kinds_and_formats_are_not_plain() -> None:
    row = chat("a", "b")
    for each in (
        RowReader(form="cases", kind="supervised", as_case=row_to_case),
        RowReader(form="chat", kind="kto", as_case=row_to_case),
    ):
        assert each.read_plain(row) is None
