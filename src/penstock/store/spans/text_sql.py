"""SQL of searching text: the one place that knows how text is found.

`search_text` holds name, and the beginnings of input and output, in lower case with a separator between them. Rows of
older files have no separator: of them the whole is looked at.
"""

from typing import Any

from penstock.spec.search import Words

Fragment = tuple[str, list[Any]]
SEPARATOR = "chr(30)"
_PARTS = {"name": 1, "input": 2, "output": 3}


def text_condition(words: Words, alias: str) -> Fragment:
    """Return the condition on the row `alias` of the span table that its text has these words, case-blind."""
    found = f"contains({alias}.search_text, lower(?))"
    if words.where == "anywhere":
        return found, [words.text]
    part = f"split_part({alias}.search_text, {SEPARATOR}, {_PARTS[words.where]})"
    older = f"NOT contains({alias}.search_text, {SEPARATOR})"
    return f"({found} AND ({older} OR contains({part}, lower(?))))", [words.text, words.text]
