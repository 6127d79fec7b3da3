"""SQL of searching text: the one place that knows how text is found.

`search_text` holds name, and the beginnings of input and output, in lower case with a separator between them. Rows of
older files have no separator: of them the whole is looked at.
"""

from typing import Any

from penstock.spec.search import Words

Fragment = tuple[str, list[Any]]
SEPARATOR = "chr(30)"
_PARTS = {"name": 1, "input": 2, "output": 3}
_BY_FREQUENCY = " etaoinsrhldcumfpgwybvk"
"""The commonest letters of most text, those of English first; what is not here is rare."""
_MIN_END = 3


def text_condition(words: Words, alias: str) -> Fragment:
    """Return the condition on the row `alias` of the span table that its text has these words, case-blind."""
    found, values = f"contains({alias}.search_text, lower(?))", [words.text]
    end = rarest_end(words.text)
    if end != words.text:
        found, values = f"({found} AND {found})", [end, words.text]
    if words.where == "anywhere":
        return found, values
    part = f"split_part({alias}.search_text, {SEPARATOR}, {_PARTS[words.where]})"
    older = f"NOT contains({alias}.search_text, {SEPARATOR})"
    return f"({found} AND ({older} OR contains({part}, lower(?))))", [*values, words.text]


def rarest_end(text: str) -> str:
    """Return the end of `text` that begins with its rarest letter.

    The engine goes from one first letter to the next: `parcel` takes half as long as `order parcel`. Whoever has the
    whole has its end, so asking for the end first loses nothing.
    """
    places = range(max(1, len(text) - _MIN_END + 1))
    first = max(places, key=lambda place: (_rarity(text[place : place + 1]), -place), default=0)
    return text[first:]


def _rarity(letter: str) -> int:
    place = _BY_FREQUENCY.find(letter.lower())
    return len(_BY_FREQUENCY) if place < 0 else place
