"""Where CommonMark hides what somebody wrote: cells beyond a table's header, definitions that define no link.

Both rules stand in front of the original ones. Definitions that no link refers to are counted (`count_unused`).
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.token import Token

_DEFINITION = re.compile(r"\[((?:[^\[\]\\]|\\.)+)\]:\s*(<[^<>\n]*>|\S+)", re.DOTALL)
_ADDRESS = re.compile(
    r"<.*>|[a-z][a-z0-9+.-]*:.*|[#/?].*|\.{1,2}/.*|[^/]+/.*|.*\.[a-z0-9]{1,5}(?:[#?].*)?",
    re.IGNORECASE | re.DOTALL,
)
MAX_DEFINITION = 4000


def make_reader(max_nesting: int) -> "MarkdownIt":
    """Return a reader of CommonMark with tables that drops no words."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"maxNesting": max_nesting, "store_labels": True}).enable("table")
    reader.block.ruler.at("table", _read_table, {"alt": ["paragraph", "reference"]})
    reader.block.ruler.at("reference", _read_definition)
    return reader


def count_unused(tokens: "Iterable[Token]", env: "dict[str, object]") -> int:
    """Return how many definitions of links no link refers to."""
    waiting = list(tokens)
    used: set[object] = set()
    while waiting:
        token = waiting.pop()
        used.add(token.meta.get("label"))
        waiting.extend(token.children or ())
    defined, again = env.get("references"), env.get("duplicate_refs")
    n_again = len(again) if isinstance(again, list) else 0
    return n_again + (sum(label not in used for label in defined) if isinstance(defined, dict) else 0)


def _read_table(state: "StateBlock", start: int, end: int, silent: bool) -> bool:
    from markdown_it.rules_block.table import escapedSplit, table

    n_before = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    if silent:
        return True
    made = state.tokens[n_before:]
    n_columns = sum(token.type == "th_open" for token in made)
    whole: list[Token] = []
    for token in made:
        if token.type == "tr_open" and token.map is not None:
            line = token.map[0]
        if token.type == "tr_close":
            text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
            cells = escapedSplit(text.strip())
            cells = cells[1:] if cells and cells[0] == "" else cells
            cells = cells[:-1] if cells and cells[-1] == "" else cells
            for cell in cells[n_columns:]:
                whole += _cell(cell.strip(), line, token.level + 1)
        whole.append(token)
    state.tokens[n_before:] = whole
    return True


def _cell(text: str, line: int, level: int) -> "list[Token]":
    from markdown_it.token import Token

    content = Token(
        "inline", "", 0, content=text, map=[line, line + 1], level=level + 1, block=True, children=[]
    )
    return [
        Token("td_open", "td", 1, level=level, block=True),
        content,
        Token("td_close", "td", -1, level=level, block=True),
    ]


def _read_definition(state: "StateBlock", start: int, end: int, silent: bool) -> bool:
    """Read the definition of a link, and let a footnote or a word after a colon be the text that it is."""
    from markdown_it.rules_block import reference

    begin = state.bMarks[start] + state.tShift[start]
    found = _DEFINITION.match(state.src, begin, begin + MAX_DEFINITION)
    if found is not None and (found[1].lstrip().startswith("^") or not _ADDRESS.fullmatch(found[2])):
        return False
    return reference(state, start, end, silent)
