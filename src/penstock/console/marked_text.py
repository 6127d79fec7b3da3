"""A document's text with its passages marked: cut into pieces, each character once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.knowledge.types import Passage


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of text; `passage` is None for what no passage holds."""

    text: str
    passage: Passage | None = None
    number: int = 0
    """Of the passage, from 1."""
    n_overlap: int = 0
    """Characters that the passage has in common with what stands before it."""


def cut_pieces(text: str, passages: Sequence[Passage]) -> tuple[Piece, ...]:
    """Return the text in order; where passages overlap the characters belong to the earlier one.

    A text that does not fit its passages (it was put together from them) shows the passages alone.
    """
    ordered = sorted(passages, key=lambda each: (each.start, each.end))
    if any(text[each.start : each.end] != each.text for each in ordered):
        return tuple(
            Piece(text=each.text, passage=each, number=number) for number, each in enumerate(ordered, 1)
        )
    pieces: list[Piece] = []
    at = 0
    for number, each in enumerate(ordered, 1):
        if each.start > at:
            pieces.append(Piece(text=text[at : each.start]))
        begin = max(at, each.start)
        pieces.append(
            Piece(
                text=text[begin : each.end],
                passage=each,
                number=number,
                n_overlap=min(begin, each.end) - each.start,
            )
        )
        at = max(at, each.end)
    if at < len(text):
        pieces.append(Piece(text=text[at:]))
    return tuple(piece for piece in pieces if piece.passage or piece.text.strip())
