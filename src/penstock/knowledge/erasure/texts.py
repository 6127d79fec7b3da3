"""Which pieces of an erased document its copies are found by: sentences and lines that stand in no other document."""

from collections.abc import Iterable, Iterator

from penstock.knowledge.sentences import find_sentences

MIN_CHARS = 24
"""Shorter pieces stand in other texts by chance."""
MAX_CHARS = 200
"""Of a longer piece its beginning is looked for."""
MAX_TEXTS = 300


def split_pieces(text: str) -> Iterator[str]:
    """Yield the lines of tables and code, and the sentences of everything else, that are long enough to tell it."""
    for start, end in find_sentences(text):
        for piece in text[start:end].split("\n"):
            stripped = piece.strip()
            if len(stripped) >= MIN_CHARS:
                yield stripped[:MAX_CHARS]


def choose_texts(erased: Iterable[str], others: Iterable[str], *, most: int = MAX_TEXTS) -> list[str]:
    """Return pieces of `erased` that are in none of `others`, at most so many, spread over all of them."""
    pieces = dict.fromkeys(piece for text in erased for piece in split_pieces(text))
    if pieces:
        for text in others:
            for piece in split_pieces(text):
                pieces.pop(piece, None)
    found = list(pieces)
    if len(found) <= most:
        return found
    return [found[number * len(found) // most] for number in range(most)]
