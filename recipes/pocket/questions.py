"""Questions made from sentences, and small changes of wording to questions that people wrote."""

from __future__ import annotations

import random
from collections import Counter

from words import SYNONYM_OF, inflect, is_content, split_pieces, stem_of

PATTERNS = (
    "What should I know about {0} {1}?", "How does {0} {1} {2}?", "What is said about {0} and {1}?", "Why {0} {1} {2}?",
    "When does {0} {1}?", "What {0} the {1} of {2}?", "How many {0} {1}?", "How long does {0} take to {1}?",
    "Which {0} is best for {1}?", "Is it safe to {0} {1}?", "Can I {0} the {1}?", "Should people {0} {1} {2}?",
    "Where can {0} be {1}?", "Who should {0} {1}?", "What happens when {0} {1} {2}?", "How do you {0} a {1}?",
    "What helps with {0} and {1}?", "Why is {0} {1} important?", "How much {0} do {1} need?", "What makes {0} {1}?",
    "Does {0} {1} {2}?", "What can {0} {1}?", "How should {0} be {1} {2}?", "When is {0} {1} {2} needed?",
    "How often should {0} {1}?", "What is the {0} of a {1}?", "Is {0} good for {1}?", "Why should I {0} my {1}?",
    "At what {0} should {1} {2}?", "What does {0} do to {1}?", "{0} {1}?", "{0} {1} {2}?", "How can {0} {1} {2}?",
)  # fmt: skip


def ask_about(sentence: str, rarity: Counter[str], rng: random.Random) -> str:
    """A rough question from two or more of a sentence's rarer words, mostly in their own order."""
    pieces = [p.strip() for p in split_pieces(sentence) if is_content(p)]
    words = list(dict.fromkeys(p.lower() for p in pieces))
    pattern = rng.choice(PATTERNS)
    n_slots = max(pattern.count("{"), 2)
    weights = {w: rng.random() * (rarity.get(w, 1) + 2) ** 0.3 for w in words}
    chosen = sorted(words, key=weights.__getitem__)[:n_slots]
    if rng.random() < 0.8:
        chosen.sort(key=words.index)
    chosen += ["that"] * (n_slots - len(chosen))
    changed = [_reshape(w, rng) for w in chosen]
    text = pattern.format(*changed)
    return text[0].upper() + text[1:]


def _reshape(word: str, rng: random.Random) -> str:
    drawn = rng.random()
    if drawn < 0.12:
        return inflect(word, rng)
    if drawn < 0.25 and word in SYNONYM_OF:
        return rng.choice(SYNONYM_OF[word])
    return word


def soften(question: str, rng: random.Random) -> str:
    """The same question with, now and then, a word replaced by a synonym or another form, or in lower case."""
    out: list[str] = []
    for piece in split_pieces(question):
        low = piece.strip().lower()
        if is_content(piece) and rng.random() < 0.12:
            space = " " if piece.startswith(" ") else ""
            low = rng.choice(SYNONYM_OF[low]) if low in SYNONYM_OF else inflect(low, rng)
            out.append(space + low)
        else:
            out.append(piece)
    text = "".join(out)
    if rng.random() < 0.05:
        text = text.lower()
    return text.removesuffix("?") if rng.random() < 0.05 else text


def shares_stem(question: str, sentence: str) -> bool:
    """Whether question and sentence have a content stem in common."""
    stems = {stem_of(p) for p in split_pieces(sentence) if is_content(p)}
    return any(stem_of(p) in stems for p in split_pieces(question) if is_content(p))
