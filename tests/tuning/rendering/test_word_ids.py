"""Remembered words give the tokenizer's own ids, for every cutting rule that is taken for safe."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from penstock.tuning.word_ids import _CUTTING_RULES, WordIds
from tests.tuning.tiny_models import CORPUS

QWEN2, LLAMA3 = sorted(_CUTTING_RULES, key=len)


def make(rule: str | None, *, nfc: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if rule is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(rule), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, "a  b", "a  ", "x\n y", "1 2 a"] * 9, trainer)
    tokenizer.add_tokens([AddedToken("[1]", special=False, normalized=False)])
    return tokenizer


TOKENIZERS = {"gpt2": make(None), "qwen2": make(QWEN2, nfc=True), "llama3": make(LLAMA3)}
texts = st.lists(
    st.one_of(
        st.sampled_from([" ", "  ", "\n", "\n ", " \n", "\t", "a", " a", "walking", " Water", "'s", " 's", "é", "e\u0301",
                         " \u0301x", "1", " 12", ".", " .", "...", "[1]", " [1]", "  [1]", "(", " (", "_", " _", "\x1c", "\u3000", "東京", " 東", "\u00a0", "🚰"]),
        st.text(max_size=4),
    ),
    max_size=14,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
@given(given_texts=st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_remembered_words_give_the_tokenizers_own_ids(name: str, given_texts: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    words = WordIds(tokenizer)
    assert words.is_cut
    many = [*given_texts, *(f"filler number {n}" for n in range(70))]  # so many that words are looked up
    found = words.encode_all(many)
    again = words.encode_all(many)
    for text in given_texts:
        assert found[text] == again[text] == tokenizer.encode(text, add_special_tokens=False).ids


def test_tokenizers_that_may_join_across_spaces_are_asked_for_whole_texts() -> None:
    spacy = Tokenizer(models.BPE())
    spacy.pre_tokenizer = pre_tokenizers.Metaspace()
    greedy = make(None)
    greedy.add_tokens([AddedToken("two words", special=False, normalized=False)])
    swallowing = make(None)
    swallowing.add_tokens([AddedToken("<x>", special=False, rstrip=True)])
    odd = Tokenizer.from_str(
        json.dumps(json.loads(make(QWEN2).to_str()) | {"normalizer": {"type": "Lowercase"}})
    )
    for tokenizer in (spacy, greedy, swallowing, odd, make(r"\S+|\s+")):
        assert not WordIds(tokenizer).is_cut


@pytest.mark.parametrize("name", TOKENIZERS)
def test_spaces_before_an_added_token_stay_together(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    text = "walking  [1] on"
    alone = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(alone) == len(tokenizer.encode("walking [1] on", add_special_tokens=False).ids)  # one for both
    many = [text, *(f"filler number {n}" for n in range(70))]
    assert WordIds(tokenizer).encode_all(many)[text] == alone
