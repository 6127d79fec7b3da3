"""How likely texts are held: windows that count each token once, sums that a plain computation gives as well."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec.messages import Message
from penstock.tuning.compress.chances import (
    Marked,
    Reader,
    find_anchor,
    log_chances,
    measure_row,
    split_windows,
)
from penstock.tuning.compress.errors import CannotMeasure
from penstock.tuning.compress.marking import mark_item, mark_items
from penstock.tuning.compress.types import TextItem

VOCABULARY, WIDTH = 11, 4


class Table:
    """An engine whose state after a token depends on that token alone: any window gives the same chances."""

    def __init__(self, seed: int) -> None:
        self.rows = np.random.default_rng(seed).standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
        self.lengths: list[int] = []

    def states(self, ids):  # type: ignore[no-untyped-def]
        self.lengths.append(len(ids))
        return self.rows[list(ids)]


def reader(seed: int) -> Reader:
    head = np.random.default_rng(99).standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
    return Reader(engine=Table(seed), head=head)


def marked(ids: list[int], mask: list[int]) -> Marked:
    return Marked(row="r", ids=tuple(ids), mask=tuple(mask), n_bytes=7)


@given(n=st.integers(0, 300), size=st.integers(2, 40))
def test_each_token_but_the_first_counts_in_exactly_one_window(n: int, size: int) -> None:
    windows = split_windows(n, size)
    counted = [place for each in windows for place in range(each.count_from, each.end)]
    assert counted == list(range(1, n))
    assert all(each.end - each.start <= size and each.count_from > each.start for each in windows)


@given(n=st.integers(3, 300), size=st.integers(4, 40))
def test_tokens_of_later_windows_are_read_after_half_a_window_at_least(n: int, size: int) -> None:
    for each in split_windows(n, size)[1:]:
        assert each.count_from - each.start >= size // 2


def test_sums_are_those_of_every_token_that_counts_whatever_the_window() -> None:
    ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    mask = [1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
    first, second = reader(1), reader(2)
    logs = [log_chances(each.engine.rows[ids], each.head).astype(np.float64) for each in (first, second)]
    places = [place for place in range(1, len(ids)) if mask[place]]
    for window in (4, 5, 64):
        own, other = measure_row(marked(ids, mask), [first, second], window=window, is_shared=True)
        assert own.n_tokens == other.n_tokens == len(places)
        assert own.nll == pytest.approx(-sum(logs[0][p - 1, ids[p]] for p in places), rel=1e-5)
        assert other.nll == pytest.approx(-sum(logs[1][p - 1, ids[p]] for p in places), rel=1e-5)
        divergence = sum((np.exp(logs[0][p - 1]) * (logs[0][p - 1] - logs[1][p - 1])).sum() for p in places)
        assert other.kl == pytest.approx(divergence, rel=1e-4)
        same = sum(int(logs[0][p - 1].argmax() == logs[1][p - 1].argmax()) for p in places)
        assert other.n_same_top == same
        assert own.kl is None and own.n_same_top is None


def test_a_large_vocabulary_is_worked_off_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = [3, 1, 4, 1, 5, 9, 2, 6], [0] + [1] * 7
    whole = measure_row(marked(ids, mask), [reader(1), reader(2)], window=64, is_shared=True)
    monkeypatch.setattr("penstock.tuning.compress.chances._CELLS", 3 * VOCABULARY)
    for told, expected in zip(
        measure_row(marked(ids, mask), [reader(1), reader(2)], window=64, is_shared=True), whole, strict=True
    ):
        assert told.nll == pytest.approx(expected.nll)
        assert told.kl == (expected.kl if expected.kl is None else pytest.approx(expected.kl))


def test_divergence_is_not_told_where_tokens_are_others() -> None:
    _, other = measure_row(marked([1, 2, 3], [0, 1, 1]), [reader(1), reader(2)], window=8, is_shared=False)
    assert other.kl is None and other.n_same_top is None


def test_the_anchor_is_how_far_the_engine_itself_says_otherwise() -> None:
    own = reader(1)
    row = marked([3, 1, 4, 1], [0, 1, 1, 1])
    told = log_chances(own.engine.rows[[4]], own.head)[0]
    honest = find_anchor(own, [row], lambda ids: {token: float(told[token]) for token in range(10)}, window=8)
    assert honest == pytest.approx(0.0, abs=1e-6)
    shifted = find_anchor(
        own, [row], lambda ids: {token: float(told[token]) + 1.5 for token in range(10)}, window=8
    )
    assert shifted == pytest.approx(1.5, abs=1e-5)
    assert find_anchor(own, [], lambda ids: {}, window=8) is None


class Plain:
    digest = "sha256:plain"

    def __init__(self, *, rewrites: bool = False) -> None:
        self.rewrites = rewrites

    def render_chat(self, messages, *, add_generation_prompt=True):  # type: ignore[no-untyped-def]
        ids = [1]
        for message in messages:
            ids += [2, *map(ord, message.content), 3]
        if add_generation_prompt:
            ids += [2]
        if self.rewrites and not add_generation_prompt:
            ids[1] = 9
        return ids

    def encode_texts(self, texts):  # type: ignore[no-untyped-def]
        return [[1, *map(ord, text)] for text in texts]


def conversation(*contents: str) -> tuple[Message, ...]:
    return tuple(
        Message(role="assistant" if number % 2 else "user", content=text)
        for number, text in enumerate(contents)
    )


def test_of_a_conversation_the_last_reply_and_what_ends_it_count() -> None:
    found = mark_item(TextItem(row="a", messages=conversation("hi", "yo", "so?", "ok")), Plain())
    assert found is not None
    assert [each for each, counts in zip(found.ids, found.mask, strict=True) if counts] == [
        ord("o"),
        ord("k"),
        3,
    ]
    assert found.n_bytes == 2


def test_a_text_counts_whole_but_for_its_first_token() -> None:
    found = mark_item(TextItem(row="a", text="abc"), Plain())
    assert found is not None and found.mask == (0, 1, 1, 1)


def test_a_template_that_writes_answered_turns_otherwise_is_refused() -> None:
    """tinker-cookbook#860: what is scored must stand after the prompt that serving sends."""
    with pytest.raises(CannotMeasure, match="otherwise than the prompt"):
        mark_item(TextItem(row="a", messages=conversation("hi", "yo")), Plain(rewrites=True))


def test_rows_with_nothing_to_look_at_are_counted() -> None:
    items = [
        TextItem(row="a", messages=conversation("hi")),
        TextItem(row="b", messages=conversation("hi", "yo")),
    ]
    found, n_left_out = mark_items(items, Plain())
    assert [each.row for each in found] == ["b"] and n_left_out == 1
