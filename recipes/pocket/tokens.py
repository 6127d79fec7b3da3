"""Tokens: Pocket's tokenizer, its chat template and the exact form of a prompt.

It knows nothing about data sources or training. `CHAT_TEMPLATE` and `render_grounded` are the contract that
applications must follow to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from words import split_pieces

BOS, PAD, SYSTEM, USER, ASSISTANT, END = (
    "<|bos|>",
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
CONTROLS = (BOS, PAD, SYSTEM, USER, ASSISTANT, END)
UNKNOWN_ANSWER = "I do not know from these passages."
NO_PASSAGES_ANSWER = "I can only answer from passages that are given to me."
CHAT_TEMPLATE = (
    "<|bos|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt is not defined or add_generation_prompt %}<|assistant|>{% endif %}"
)


def mark(number: int) -> str:
    """The mark of the n-th sentence, counted from 1."""
    return f"[{number}]"


def render_grounded(question: str, sentences: Sequence[str], first: int = 1) -> str:
    """The user message that asks a question about numbered sentences."""
    lines = [f"{mark(first + index)} {sentence}\n" for index, sentence in enumerate(sentences)]
    return "".join(lines) + f"Question: {question}"


def train_tokenizer(lines: Iterable[str], vocab_size: int, n_marks: int) -> Tokenizer:
    """Train a byte-level BPE with GPT-2's split; control tokens come first, then the marks, then the bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(text, special=True, normalized=False) for text in CONTROLS]
    marks = [AddedToken(mark(number + 1), special=True, normalized=False) for number in range(n_marks)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials + marks,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    document = json.loads(tokenizer.to_str())
    for token in document["added_tokens"]:
        token["special"] = token["content"] in CONTROLS  # marks are ordinary text that a reply may hold
    return Tokenizer.from_str(json.dumps(document))


class Coder:
    """Encodes text piece by piece with a cache; gives the same ids as the tokenizer would for the whole."""

    def __init__(self, tokenizer: Tokenizer, n_marks: int) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        self.control = {text: tokenizer.token_to_id(text) for text in CONTROLS}
        self.marks = [tokenizer.token_to_id(mark(number + 1)) for number in range(n_marks)]
        self.encode_piece = lru_cache(maxsize=200_000)(self._encode_piece)

    @classmethod
    def load(cls, path: Path, n_marks: int) -> Coder:
        return cls(Tokenizer.from_file(str(path)), n_marks)

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(piece, add_special_tokens=False).ids)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text without marks or control tokens."""
        return [token for piece in split_pieces(text) for token in self.encode_piece(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)
