"""Checks whether a judge's quotation stands in the text that it is said to come from."""

import re
import unicodedata
from collections.abc import Sequence

_GAP = re.compile(r"\.{3,}|…|\[\.\.\.\]")
_NOT_WORD = re.compile(r"[^\w]+")
_UNSPACED = "\u0e00"
"""From Thai on: most scripts beyond it put no spaces between words."""
MIN_LETTERS = 2
"""A quotation of less says nothing."""


def stands_in(quote: str, texts: Sequence[str]) -> bool:
    """Return whether every piece of `quote` (cut at ellipses) stands in one of the texts, in order.

    Case, punctuation, spacing and Unicode forms make no difference; words do. An empty quotation stands nowhere.
    """
    pieces = [words for piece in _GAP.split(quote) if (words := plain_words(piece))]
    if sum(map(len, pieces)) < MIN_LETTERS:
        return False
    return any(_holds(pieces, f" {plain_words(text)} ") for text in texts)


def _holds(pieces: Sequence[str], text: str) -> bool:
    start = 0
    for piece in pieces:
        at = text.find(piece, start)
        while at >= 0 and not _is_whole(piece, text, at):
            at = text.find(piece, at + 1)
        if at < 0:
            return False
        start = at + len(piece)
    return True


def _is_whole(piece: str, text: str, at: int) -> bool:
    """Return whether the piece is cut out between words; scripts written without spaces have no such borders."""
    starts = piece[0] >= _UNSPACED or text[at - 1] == " "
    return starts and (piece[-1] >= _UNSPACED or text[at + len(piece)] == " ")


def plain_words(text: str) -> str:
    """Return the words of a text, case-folded, with single spaces."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
