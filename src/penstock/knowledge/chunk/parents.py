"""What a model is shown for a passage: the section or document it stands in, or a window of it.

A window is made of whole passages, so that its text can be put together from what is kept of them.
"""

from collections.abc import Sequence
from dataclasses import replace

from penstock.knowledge.chunk.counting import Ruler
from penstock.knowledge.types import Passage
from penstock.spec.knowledge import ChunkRecipe


def find_parents(
    text: str, passages: Sequence[Passage], sections: Sequence[int], recipe: ChunkRecipe, ruler: Ruler
) -> list[Passage]:
    """Return the passages with their parents; those that are all of theirs have none."""
    if recipe.parent == "none":
        return list(passages)
    found: list[Passage] = []
    first = 0
    for last in range(len(passages)):
        is_end = last + 1 == len(passages) or (
            recipe.parent == "section" and sections[last + 1] != sections[first]
        )
        if is_end:
            found += _windows(text, passages[first : last + 1], recipe.parent_size, ruler)
            first = last + 1
    return found


def _windows(text: str, group: Sequence[Passage], limit: int, ruler: Ruler) -> list[Passage]:
    sizes = ruler.along(text, [(each.start, each.end) for each in group])
    last = len(group) - 1
    if sizes.of(0, last) <= limit:
        return [_with_parent(each, group[0].start, group[last].end) for each in group]
    found: list[Passage] = []
    for number, passage in enumerate(group):
        begin = end = number
        grew = True
        while grew:  # by one on each side in turn
            grew = False
            if end < last and sizes.of(begin, end + 1) <= limit:
                end, grew = end + 1, True
            if begin and sizes.of(begin - 1, end) <= limit:
                begin, grew = begin - 1, True
        found.append(_with_parent(passage, group[begin].start, group[end].end))
    return found


def _with_parent(passage: Passage, start: int, end: int) -> Passage:
    if (start, end) == (passage.start, passage.end):
        return passage
    return replace(passage, parent_start=start, parent_end=end)
