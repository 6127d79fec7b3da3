"""Texts with control tokens in them ↔ token ids, where nothing that a person wrote can become a control token.

Contents are marked before they go into a template: each control token that they spell out gets a marker (a Unicode
noncharacter) behind its first character. Afterwards only unmarked ones are control tokens, and markers are taken out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from penstock.tuning.errors import TemplateRefused
from penstock.tuning.word_ids import WordIds

MARKERS = tuple(chr(code) for code in range(0xFDD0, 0xFDE0))  # noncharacters: never meant for interchange


class ControlText:
    """A tokenizer with its control tokens kept apart. Immutable; safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, control: Mapping[str, int]) -> None:
        self.tokenizer = tokenizer
        self.control = control
        self._words = WordIds(tokenizer)
        longest_first = sorted(control, key=len, reverse=True)
        alone = tokenizer.encode("a", add_special_tokens=False).tokens
        self.adds_to_front = "".join(alone) != "a"
        """Whether a text alone gets something in front that it has not within another (a space of SentencePiece)."""
        self._split = re.compile("|".join(map(re.escape, longest_first))) if control else None
        self._edge = max(map(len, control), default=1) - 1
        self._first = frozenset(token[0] for token in control)
        self._last = frozenset(token[-1] for token in control)
        self._heads = frozenset(token[:size] for token in control for size in range(1, len(token)))
        self._tails = frozenset(token[size:] for token in control for size in range(1, len(token)))

    def mark(self, value: Any, marker: str) -> Any:
        """Return a JSON value with every text in it marked."""
        if isinstance(value, str):
            return self.mark_text(value, marker)
        if isinstance(value, Mapping):
            return {self._break(str(name), marker): self.mark(item, marker) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, marker) for item in value]
        return value

    def mark_text(self, content: str, marker: str) -> str:
        """Break control tokens in `content`, and pieces at its edges that could join with the template's text."""
        if not self._may_hold(content):
            return content
        marked = self._break(content, marker)
        edge = self._edge
        size = min(edge, len(marked))
        for place in range(len(marked) - size, len(marked)):
            if marked[place] in self._first and marked[place:] in self._heads:
                marked += marker
                break
        for place in range(min(edge, len(marked))):
            if marked[place] in self._last and marked[: place + 1] in self._tails:
                return marker + marked
        return marked

    def is_open(self, text: str) -> bool:
        """Whether a text ends with what a control token begins with, so that one could go on behind it."""
        return any(text[place:] in self._heads for place in range(max(0, len(text) - self._edge), len(text)))

    def is_plain(self, content: str) -> bool:
        """Whether a content may stand in a conversation unmarked."""
        if not content.isascii() and MARKERS[0] in content:
            return False
        return not self._may_hold(content) or self.mark_text(content, MARKERS[0]) == content

    def _may_hold(self, content: str) -> bool:
        """Whether a text has a character that a control token begins with, or one near its front that one ends with."""
        for char in self._first:
            if char in content:
                return True
        front = content[: self._edge]
        for char in self._last:  # noqa: SIM110 - any() with a generator takes longer than all of this
            if char in front:
                return True
        return False

    def _break(self, text: str, marker: str) -> str:
        if self._split is None:
            return text
        return self._split.sub(lambda hit: hit[0][:1] + marker + hit[0][1:], text)

    def find(self, text: str) -> str | None:
        """Return the first control token that stands in a text; None where none does."""
        if self._split is None or not any(char in text for char in self._first):
            return None
        hit = self._split.search(text)
        return None if hit is None else hit[0]

    def cut(self, text: str) -> list[tuple[int, int | str]]:
        """Return the pieces of a rendered text with the place where each ends: ids of control tokens, plain texts.

        Plain texts still hold their markers; they are never empty.
        """
        pieces: list[tuple[int, int | str]] = []
        at = 0
        if self._split is not None:
            control = self.control
            for hit in self._split.finditer(text):
                start, end = hit.span()
                if start > at:
                    pieces.append((start, text[at:start]))
                pieces.append((end, control[hit[0]]))
                at = end
        if at < len(text):
            pieces.append((len(text), text[at:]))
        return pieces

    def encode_all(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Return the ids of plain texts, each encoded once; several cores are used for many."""
        return self._words.encode_all(texts)

    def encode_bytes(self, texts: Iterable[str]) -> dict[str, bytes]:
        """Return the same ids as `encode_all`, as integers of 32 bits."""
        return self._words.encode_bytes(texts)

    def encode(self, text: str, marker: str) -> list[int]:
        """Return the ids of a rendered text."""
        pieces = [
            piece if isinstance(piece, int) else piece.replace(marker, "") for _, piece in self.cut(text)
        ]
        known = self.encode_all(piece for piece in pieces if isinstance(piece, str))
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
            else:
                ids += known[piece]
        return ids


def choose_marker(texts: Sequence[str]) -> str:
    """Return a noncharacter that stands in none of the texts; raise `TemplateRefused` if all of them do."""
    for marker in MARKERS:
        if not any(marker in text for text in texts):
            return marker
    raise TemplateRefused("The messages hold every Unicode noncharacter that could mark control tokens.")


def texts_in(value: Any) -> list[str]:
    """Return every text in a JSON value, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for name, item in value.items() for text in (str(name), *texts_in(item))]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts_in(item)]
    return []
