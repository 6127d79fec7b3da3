"""Cuts text into sentences by rules. Offsets are kept; every visible character is in exactly one sentence.

Tables and code (paragraphs that hold line breaks) count as one sentence each. The surprise: a wrong cut
costs little here (passages are joined again), so the rules prefer to leave two sentences together.
"""

import itertools
import re

_BLANK_LINE = re.compile(r"\n[^\S\n]*(?=\n)")
# The look behind and the possessive marks keep long runs of dots and spaces from being read once for each of them.
_STOP = re.compile(r"(?:(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s++[^\sa-z])|(?<![。！？])[。！？]++[」』”’）]*+)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|approx|Dr|Mr|Mrs|Ms|Prof|Fig|No|St)|(?:^|\b[A-Z]\w*\.?\s)[A-Z])\.$"
)
"""A stop that ends no sentence: abbreviations, and initials (`J. Smith`, `John F. Kennedy`, not `vitamin D.`)."""
_LOOK_BACK = 32


def find_sentences(text: str) -> list[tuple[int, int]]:
    """Return `(start, end)` of each sentence, in order, without surrounding white space."""
    spans: list[tuple[int, int]] = []
    bounds = [0, *(gap.end() for gap in _BLANK_LINE.finditer(text)), len(text)]
    for first, last in itertools.pairwise(bounds):
        piece = text[first:last]
        start, end = first + len(piece) - len(piece.lstrip()), first + len(piece.rstrip())
        if start >= end:
            continue
        if "\n" in text[start:end]:
            spans.append((start, end))
        else:
            spans.extend(cut_paragraph(text, start, end))
    return spans


def split_sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of `text`, each on one line."""
    return tuple(" ".join(text[start:end].split()) for start, end in find_sentences(text))


def cut_paragraph(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the sentences between `start` and `end`, whatever line breaks are in them."""
    spans: list[tuple[int, int]] = []
    for stop in _STOP.finditer(text, start, end):
        seen = text[max(start, stop.start() - _LOOK_BACK) : stop.start() + 1]
        if seen.endswith(".") and _ABBREVIATION.search(seen):
            continue
        spans.append((start, stop.end()))
        start = stop.end()
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        spans.append((start, end))
    return spans
