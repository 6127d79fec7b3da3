"""Overlap with evaluation data is found by the datasets' own definition, and rows are divided without tearing groups."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.datasets.cleaning.contamination import ContaminationOptions, find_contamination
from penstock.datasets.cleaning.texts import normalise as datasets_normalise
from penstock.datasets.cleaning.texts import tokens_of
from penstock.spec.datasets import DatasetRow
from penstock.tuning.rows.overlap import (
    _WORD,
    WordHashes,
    find_overlaps,
    index_questions,
    normalise,
    text_key,
    word_sequences,
)
from penstock.tuning.rows.splits import SplitRule

WORDS = "water sleep walking bread light tea stairs shoes music rain".split()  # noqa: SIM905


def overlaps(held: list[str], other: list[str]) -> list[bool]:
    index = index_questions("held", map(normalise, held))
    words = WordHashes()
    texts = list(map(normalise, other))
    keys = np.array([int.from_bytes(text_key(text), "little") for text in texts], np.uint64)
    return find_overlaps(index, keys, word_sequences([words.hash_words(text) for text in texts])).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_the_rows_found_are_those_that_decontamination_finds(seed: int) -> None:
    rng = Random(seed)

    def sentence() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 25)))

    held = [sentence() for _ in range(40)]
    other = [sentence() for _ in range(40)]
    other += [f"{rng.choice(held)} and {sentence()}" for _ in range(30)]
    other += [" ".join(rng.choice(held).split()[: rng.randint(5, 20)]) for _ in range(30)]
    other += [rng.choice(held).upper() + "?" for _ in range(5)]
    report = find_contamination(
        [DatasetRow(id=f"h{n}", fields={"input": text}) for n, text in enumerate(held)],
        [DatasetRow(id=f"o{n}", fields={"input": text}) for n, text in enumerate(other)],
        ContaminationOptions(near=None),
    )
    found = {f"o{n}" for n, is_met in enumerate(overlaps(held, other)) if is_met}
    assert found == report.other
    assert found


@given(text=st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_texts_are_folded_and_cut_as_datasets_do_it(text: str) -> None:
    assert normalise(text) == datasets_normalise(text)
    assert _WORD.findall(normalise(text)) == tokens_of(text)


def test_nothing_held_out_meets_nothing() -> None:
    assert overlaps([], ["a b c"]) == [False]
    assert overlaps([""], ["", "a"]) == [False, False]
    assert overlaps(["a"], []) == []


def test_groups_stay_together_and_rows_that_ask_the_same_too() -> None:
    rule = SplitRule(share=0.5, seed=3)
    sides = {
        group: {
            rule.side(DatasetRow(id=f"{group}{n}", fields={}, group=group), str(n).encode())
            for n in range(10)
        }
        for group in map(str, range(40))
    }
    assert all(len(each) == 1 for each in sides.values())
    assert {"train", "heldout"} == set().union(*sides.values())
    alike = {rule.side(DatasetRow(id=str(n), fields={}), b"the same question") for n in range(20)}
    assert len(alike) == 1


def test_named_splits_decide() -> None:
    rows = {name: DatasetRow(id="x", fields={}, split=name) for name in (None, "train", "test", "other")}
    rule = SplitRule(heldout="test")
    assert {name: rule.side(row, b"") for name, row in rows.items()} == {
        None: "train", "train": "train", "test": "heldout", "other": "train",
    }  # fmt: skip
    rule = SplitRule(split="train", heldout="test")
    assert [rule.side(rows[name], b"") for name in ("train", "test", "other", None)] == [
        "train",
        "heldout",
        None,
        None,
    ]
    assert rule.side(rows["train"], b"") == "train"


def test_another_seed_holds_out_other_rows() -> None:
    rows = [DatasetRow(id=str(n), fields={}) for n in range(200)]
    held = [
        {row.id for row in rows if SplitRule(share=0.3, seed=seed).side(row, row.id.encode()) == "heldout"}
        for seed in (1, 1, 2)
    ]
    assert held[0] == held[1] != held[2]
    assert 30 < len(held[0]) < 90


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_words_of_plain_text_are_those_of_any_text(text: str) -> None:
    words = WordHashes()
    assert words.hash_words(text) + words.hash_words("é") == words.hash_words(f"{text} é")
    assert len(words.hash_words(text)) == 8 * len(_WORD.findall(text))
