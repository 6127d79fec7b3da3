"""Cuts a parsed document into passages: one section, or an even part of it, to a budget of words.

Passages never cross a heading and are cut between sentences wherever one fits the budget. Knows nothing of
files, models or indexes. The promise, tested by property: every visible character of the document is in
exactly one passage, or counted as dropped.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.knowledge.chunk.counting import CHARS_PER_WORD, TokenCounter, count_words
from penstock.knowledge.sentences import find_sentences
from penstock.knowledge.types import ParsedDocument, Passage
from penstock.spec.knowledge import ChunkRecipe

CHUNKER = "sections@1"
"""Part of every parse digest: a change of these rules cuts all documents anew."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The passages of one document, in reading order."""

    passages: tuple[Passage, ...]
    n_dropped_chars: int
    """Visible characters of pieces that hold neither letter nor digit, such as rows of dashes."""
    problems: tuple[str, ...] = ()
    """What a reader of the ingest's report should know, such as passages longer than the embedder reads."""


def name_chunker(recipe: ChunkRecipe, embedder: str) -> str:
    """Return what names the rules that cut a document, for its parse digest; `embedder` counts only for its tokens."""
    return f"{CHUNKER} {embedder}" if recipe.unit == "tokens" else CHUNKER


def chunk_document(
    document: ParsedDocument,
    *,
    path: str,
    recipe: ChunkRecipe | None = None,
    count: TokenCounter | None = None,
    max_tokens: int | None = None,
    max_words: int | None = None,
) -> Chunks:
    """Return the passages of `document`; `path` makes their ids its own.

    `count` counts in the embedder's tokens (None: an estimate); `max_tokens` is the longest text that it reads.
    """
    del count, max_tokens
    max_words = max_words or (recipe or ChunkRecipe()).size
    passages: list[Passage] = []
    seen: Counter[tuple[str | None, str]] = Counter()
    offset = n_dropped = 0
    for section in document.sections:
        for start, end in _cut_section(section.text, max_words):
            text = section.text[start:end]
            if not any(char.isalnum() for char in text):
                n_dropped += sum(not char.isspace() for char in text)
                continue
            seen[section.heading, text] += 1
            passages.append(
                Passage(
                    id=_passage_id(path, section.heading, text, seen[section.heading, text]),
                    section=section.heading,
                    anchor=section.anchor,
                    start=offset + start,
                    end=offset + end,
                    text=text,
                )
            )
        offset += len(section.text) + 2
    return Chunks(passages=tuple(passages), n_dropped_chars=n_dropped)


def _cut_section(text: str, max_words: int) -> Iterator[tuple[int, int]]:
    units = [part for span in find_sentences(text) for part in _cut_long(text, *span, max_words)]
    if not units:
        return
    total = sum(count_words(text[start:end]) for start, end in units)
    # Parts of about equal size: a section of 170 words gives two of 85, not one of 160 and one of 10.
    target = total / math.ceil(total / max_words)
    first, last = units[0]
    for start, end in units[1:]:
        if count_words(text[first:last]) >= target or count_words(text[first:end]) > max_words:
            yield first, last
            first = start
        last = end
    yield first, last


def _cut_long(text: str, start: int, end: int, max_words: int) -> Iterator[tuple[int, int]]:
    """Cut a sentence, table or code block over the budget: at line breaks, at spaces, else anywhere."""
    max_chars = max_words * CHARS_PER_WORD
    while count_words(text[start:end]) > max_words:
        window = text[start : min(start + max_chars, end)]
        words = 0
        cut = 0
        for index, char in enumerate(window):
            if char.isspace() and index and not window[index - 1].isspace():
                words += 1
                if words > max_words:
                    break
                if char == "\n" or "\n" not in window[: cut + 1]:
                    cut = index
        stop = start + (cut or len(window))
        yield start, stop
        start = stop
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def _passage_id(path: str, section: str | None, text: str, nth: int) -> str:
    name = "\0".join((path, section or "", text, str(nth)))
    return f"psg_{hashlib.sha256(name.encode()).hexdigest()[:24]}"
