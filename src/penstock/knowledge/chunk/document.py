"""Cuts a parsed document into passages, by a recipe.

Knows nothing of files, models or indexes. The promise, tested by property: every visible character of the document is
in a passage (in exactly one without overlap), or counted as dropped, and no passage is over the budget.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.knowledge.chunk.counting import (
    Ruler,
    Span,
    TokenCounter,
    TokenRuler,
    WordRuler,
    estimate_tokens,
)
from penstock.knowledge.chunk.errors import UnusableRecipe
from penstock.knowledge.chunk.overlapping import reach_back
from penstock.knowledge.chunk.packing import Run, pack_units
from penstock.knowledge.chunk.parents import find_parents
from penstock.knowledge.chunk.units import SENTENCE, Unit, UnitCutter
from penstock.knowledge.types import ParsedDocument, Passage, Section
from penstock.spec.knowledge import ChunkRecipe

CHUNKER = "sections@2"
"""Part of every parse digest: a change of these rules cuts all documents anew."""
MIN_TOKENS = 16
"""Least budget in tokens: a single character may take as many as eight."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The passages of one document, in reading order."""

    passages: tuple[Passage, ...]
    n_dropped_chars: int
    """Visible characters of pieces that hold neither letter nor digit, such as rows of dashes."""
    problems: tuple[str, ...] = ()
    """What a reader of the ingest's report should know, such as passages longer than the embedder reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """What is packed as one: a section, or all of them."""

    units: list[Unit]
    sections: list[int]
    """The section of each unit."""


def name_chunker(recipe: ChunkRecipe, embedder: str) -> str:
    """Return what names the rules that cut a document, for its parse digest; `embedder` counts only for its tokens."""
    return f"{CHUNKER} {embedder}" if recipe.unit == "tokens" else CHUNKER


def check_recipe(recipe: ChunkRecipe) -> None:
    """Raise `UnusableRecipe` for sizes that cannot be cut by."""
    least = MIN_TOKENS if recipe.unit == "tokens" else 1
    if recipe.size < least:
        raise UnusableRecipe(f"chunk.size is {recipe.size}; the least is {least} {recipe.unit}.")
    if not 0 <= recipe.overlap <= recipe.size // 2:
        raise UnusableRecipe(
            f"chunk.overlap is {recipe.overlap}; it must be between 0 and half of chunk.size ({recipe.size // 2})."
        )
    if recipe.parent != "none" and recipe.parent_size < recipe.size:
        raise UnusableRecipe(
            f"chunk.parent_size is {recipe.parent_size}; a parent is no shorter than chunk.size ({recipe.size})."
        )


def chunk_document(
    document: ParsedDocument,
    *,
    path: str,
    recipe: ChunkRecipe | None = None,
    count: TokenCounter | None = None,
    max_tokens: int | None = None,
) -> Chunks:
    """Return the passages of `document`; `path` makes their ids its own.

    `count` counts in the embedder's tokens (None: an estimate, and passages do not tell theirs); `max_tokens` is the
    longest text that it reads. Raises `UnusableRecipe`.
    """
    recipe = recipe or ChunkRecipe()
    check_recipe(recipe)
    return _Cutting(document, path, recipe, count, max_tokens).cut()


class _Cutting:
    def __init__(
        self,
        document: ParsedDocument,
        path: str,
        recipe: ChunkRecipe,
        count: TokenCounter | None,
        max_tokens: int | None,
    ) -> None:
        self._document = document
        self._text = document.text
        self._path = path
        self._recipe = recipe
        self._count = count
        self._max_tokens = max_tokens
        self._ruler: Ruler = WordRuler() if recipe.unit == "words" else TokenRuler(count or estimate_tokens)
        self._starts = _section_starts(document.sections)
        self._above = self._measure_above() if max_tokens is not None or recipe.unit == "tokens" else []

    def cut(self) -> Chunks:
        """Return the passages."""
        passages: list[Passage] = []
        sections: list[int] = []
        seen: Counter[tuple[str | None, str]] = Counter()
        n_dropped = 0
        for stretch in self._stretches():
            before: int | None = (
                None  # first unit of the passage before, where this one may reach back into it
            )
            for first, last in self._runs(stretch):
                unit = stretch.units[first]
                core = self._text[unit.start : stretch.units[last].end]
                if not any(char.isalnum() for char in core):
                    n_dropped += sum(not char.isspace() for char in core)
                    before = None
                    continue
                start, lead = unit.start, unit.lead
                if before is not None:
                    start, lead = reach_back(
                        self._text,
                        stretch.units[before:first],
                        stretch.units[first : last + 1],
                        ruler=self._ruler,
                        overlap=self._room(stretch.sections[first])[1],
                    )
                passage = self._passage(stretch, (first, last), start, lead)
                seen[passage.section, passage.text] += 1
                number = seen[passage.section, passage.text]
                passages.append(
                    replace(passage, id=_passage_id(self._path, passage.section, passage.text, number))
                )
                sections.append(stretch.sections[first])
                before = first if self._recipe.overlap else None
        passages = find_parents(self._text, passages, sections, self._recipe, self._ruler)
        return self._counted(passages, sections, n_dropped)

    def _stretches(self) -> Iterator[_Stretch]:
        recipe = self._recipe
        whole = _Stretch(units=[], sections=[])
        for number, section in enumerate(self._document.sections):
            start = self._starts[number]
            cutter = UnitCutter(self._text, self._ruler, self._room(number)[0])
            units = cutter.cut(
                start,
                start + len(section.text),
                section.kind,
                sentences=recipe.strategy == "sentences",
                rows=recipe.strategy == "rows",
            )
            if recipe.strategy == "recursive":
                whole.units.extend(_at_heading(units, section))
                whole.sections.extend([number] * len(units))
            elif units:
                yield _Stretch(units=units, sections=[number] * len(units))
        if whole.units:
            yield whole

    def _runs(self, stretch: _Stretch) -> list[Run]:
        units, strategy = stretch.units, self._recipe.strategy
        budget = min(self._room(section)[0] for section in set(stretch.sections))
        runs: list[Run] = []
        for first, last in _groups(units, strategy):
            packed = pack_units(self._text, units[first : last + 1], self._ruler, budget)
            runs += [(first + begin, first + end) for begin, end in packed]
        return self._within(units, runs, budget)

    def _within(self, units: Sequence[Unit], runs: list[Run], budget: int) -> list[Run]:
        """Cut runs again that are over the budget after all, as sums of tokens do not tell to the last one."""
        if self._recipe.unit == "words":
            return runs
        texts = [self._text[units[first].start : units[last].end] for first, last in runs]
        kept: list[Run] = []
        for (first, last), size in zip(runs, self._ruler.each(texts), strict=True):
            if size <= budget or first == last:
                kept.append((first, last))
                continue
            smaller = min(max(1, budget * budget // size - 1), budget - 1)
            found = pack_units(self._text, units[first : last + 1], self._ruler, smaller)
            again = [(first + begin, first + end) for begin, end in found]
            if len(again) == 1:
                middle = (first + last) // 2
                again = [(first, middle), (middle + 1, last)]
            kept += self._within(units, again, budget)
        return kept

    def _room(self, section: int) -> tuple[int, int]:
        """Return how much of a section a passage may hold, without what it reaches back for, and with how much."""
        size = self._recipe.size
        if self._recipe.unit == "tokens" and self._max_tokens is not None:
            free = self._max_tokens - self._above[section]
            size = min(size, max(free, self._max_tokens // 2, MIN_TOKENS))
        overlap = min(self._recipe.overlap, size // 2)
        return size - overlap, overlap

    def _passage(self, stretch: _Stretch, run: Run, start: int, lead: Span | None) -> Passage:
        first, last = run
        section = self._document.sections[stretch.sections[first]]
        end = stretch.units[last].end
        # headings that the passage runs over are not in its text, which holds sections alone
        passed = dict.fromkeys(stretch.sections[first : last + 1])
        others = [self._document.sections[each].heading for each in list(passed)[1:]]
        told = [self._text[slice(*lead)]] if lead else []
        told += [heading for heading in others if heading]
        return Passage(
            id="",
            section=section.heading,
            anchor=section.anchor,
            start=start,
            end=end,
            text=self._text[start:end],
            headings=section.headings if len(section.headings) > 1 else (),
            lead="\n".join(told) or None,
        )

    def _measure_above(self) -> list[int]:
        """Return for each section the tokens of what is embedded above its passages."""
        title = self._document.title
        texts = [
            "\n".join(part for part in (title, *(each.headings or (each.heading,))) if part)
            for each in self._document.sections
        ]
        distinct = list(dict.fromkeys(texts))
        counts = (
            dict(zip(distinct, (self._count or estimate_tokens)(distinct), strict=True)) if distinct else {}
        )
        return [counts[text] if text else 0 for text in texts]

    def _counted(self, passages: list[Passage], sections: list[int], n_dropped: int) -> Chunks:
        problems: list[str] = []
        if passages and (self._count is not None or self._max_tokens is not None):
            counts = (self._count or estimate_tokens)([passage.text for passage in passages])
            if self._count is not None:
                passages = [replace(passage, n_tokens=n) for passage, n in zip(passages, counts, strict=True)]
            if self._max_tokens is not None:
                with_above = [n + self._above[each] for n, each in zip(counts, sections, strict=True)]
                over = [n for n in with_above if n > self._max_tokens]
                if over:
                    problems.append(
                        f"{len(over)} passages are longer than the embedder reads at once (up to {max(over)} tokens "
                        f"with their headings; it reads {self._max_tokens}), so they are embedded in parts"
                    )
        return Chunks(passages=tuple(passages), n_dropped_chars=n_dropped, problems=tuple(problems))


def _section_starts(sections: Sequence[Section]) -> list[int]:
    starts: list[int] = []
    offset = 0
    for section in sections:
        starts.append(offset)
        offset += len(section.text) + 2
    return starts


def _at_heading(units: list[Unit], section: Section) -> list[Unit]:
    """Return the units of a section, the first of which is a better place to cut the higher the heading above it."""
    if not units:
        return []
    depth = len(section.headings) or 1
    return [replace(units[0], level=-max(1, 8 - depth)), *units[1:]]


def _groups(units: Sequence[Unit], strategy: str) -> Iterator[Run]:
    """Yield runs of units that no passage crosses: all, or each sentence or row with the parts it was cut into."""
    first = 0
    for number in range(1, len(units) + 1):
        if number == len(units) or _parts(units[number - 1], units[number], strategy):
            yield first, number - 1
            first = number


def _parts(before: Unit, unit: Unit, strategy: str) -> bool:
    if strategy == "sentences":
        return unit.level <= SENTENCE
    if strategy == "rows":
        return unit.is_row != before.is_row or (unit.is_row and unit.level <= SENTENCE)
    return False


def _passage_id(path: str, section: str | None, text: str, nth: int) -> str:
    name = "\0".join((path, section or "", text, str(nth)))
    return f"psg_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
