"""Tokenizer step: trains the BPE on the train split, drills and small talk; held-out articles are never read."""

from __future__ import annotations

import random
from pathlib import Path

import chat
from corpus import load_articles, load_reading
from facts import make_facts
from tokens import NO_PASSAGES_ANSWER, UNKNOWN_ANSWER, train_tokenizer
from words import SYNONYMS, coin_word


def training_lines(seed: int, validation_share: float) -> list[str]:
    """All text the tokenizer sees; each corpus sentence three times against the drills' weight."""
    rng = random.Random(seed)
    lines: list[str] = []
    for text in (*load_reading(validation_share)[0], *load_articles("train")):
        lines += [" " + sentence for sentence in text.sentences] * 3
        lines += [f"Question: {p}" for question in text.questions for p in question.phrasings] * 2
    lines += [" " + part for fact in make_facts(60, rng) for part in fact]
    lines += [" " + " ".join(group) for group in SYNONYMS] * 2
    lines += [" " + coin_word(rng) for _ in range(2000)]
    replies = [reply for _, replies in chat.PAIRS for reply in replies]
    lines += [*replies, *chat.OTHER, *(said for saids, _ in chat.PAIRS for said in saids)] * 5
    return lines + [UNKNOWN_ANSWER, NO_PASSAGES_ANSWER, "\n"] * 50


def build_tokenizer(out: Path, recipe: dict[str, dict[str, int]]) -> Path:
    """Train and save `tokenizer.json`; does nothing where it exists."""
    path = out / "tokenizer.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        share = recipe["data"]["validation_share"]
        made = train_tokenizer(
            training_lines(int(recipe["seed"]), share),
            recipe["tokenizer"]["vocab_size"],
            recipe["tokenizer"]["n_marks"],
        )  # type: ignore[call-overload]
        made.save(str(path))
    return path
