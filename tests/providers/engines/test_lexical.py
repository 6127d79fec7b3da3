"""The lexical embedder: the same everywhere, near for shared words, and nothing more."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.engines.lexical import DIMS, embed_texts


def likeness(one: str, other: str) -> float:
    first, second = embed_texts([one, other])
    return float(first @ second)


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_rows_are_unit_length_or_zero_and_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    rows = embed_texts(texts)
    assert rows.shape == (len(texts), DIMS)
    norms = np.linalg.norm(rows, axis=1)
    assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))
    for text, row in zip(texts, rows, strict=True):
        assert np.array_equal(embed_texts([text])[0], row)


def test_shared_words_and_word_forms_are_near_and_strangers_are_far() -> None:
    assert likeness("How much water should I drink?", "Drink water when thirsty") > 0.3
    assert likeness("walking shoes", "a walk in new shoes") > likeness(
        "walking shoes", "lower blood pressure"
    )
    assert abs(likeness("automobile", "car")) < 0.2  # it knows nothing of meaning, and must not pretend


def test_case_accents_and_order_do_not_matter() -> None:
    assert likeness("Café au lait", "lait AU cafe") == pytest.approx(1.0, abs=1e-6)


def test_vectors_are_the_same_in_another_process() -> None:
    code = (
        "from penstock.providers.engines.lexical import embed_texts;"
        "import hashlib; print(hashlib.sha256(embed_texts(['Walk every day, 30 minutes']).tobytes()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
