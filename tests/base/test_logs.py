"""Keys are blacked out wherever they stand, and ordinary words are left alone."""

import pytest

from penstock.base.logs import redact


@pytest.mark.parametrize(
    "word", ["task-classification-v2", "risk-assessment-model", "https-certificates-old"]
)
def test_words_that_end_like_a_key_begins_are_left_alone(word: str) -> None:
    assert redact(f"The model '{word}' does not exist.") == f"The model '{word}' does not exist."


@pytest.mark.parametrize("before", ["", "key ", "'", "=", "x_", "/"])
@pytest.mark.parametrize("secret", ["sk-proj-0123456789abc", "ps-0123456789abcdef", "rk_live_0123456789"])
def test_keys_are_blacked_out(before: str, secret: str) -> None:
    assert redact(before + secret) == before + "[redacted]"
