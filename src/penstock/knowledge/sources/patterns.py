"""Which paths a source takes: globs as people write them, `*` within a name, `**` over folders."""

import re
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1000)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression for a glob over paths with `/`. A pattern without `/` meets names in every folder."""
    text = pattern.removeprefix("./")
    if "/" not in text:
        text = f"**/{text}"
    if text.endswith("/"):
        text += "**"
    pieces: list[str] = []
    position = 0
    while position < len(text):
        if text.startswith("**/", position):
            pieces.append("(?:.*/)?")
            position += 3
        elif text.startswith("**", position):
            pieces.append(".*")
            position += 2
        else:
            piece, position = _translate(text, position)
            pieces.append(piece)
    return re.compile("".join(pieces), re.DOTALL)


def _translate(text: str, position: int) -> tuple[str, int]:
    char = text[position]
    if char == "*":
        return "[^/]*", position + 1
    if char == "?":
        return "[^/]", position + 1
    end = text.find("]", position + 2) if char == "[" else -1
    if end < 0:
        return re.escape(char), position + 1
    inside = text[position + 1 : end].replace("\\", "\\\\")
    inside = f"^{inside[1:]}" if inside.startswith("!") else inside.replace("^", "\\^", 1)
    try:
        re.compile(f"[{inside}]")
    except re.error:
        return re.escape(char), position + 1
    return f"[{inside}]", end + 1


def reason_against(path: str, include: Sequence[str], exclude: Sequence[str]) -> str | None:
    """Return why a path is not wanted, or None when it is."""
    for pattern in exclude:
        if compile_glob(pattern).fullmatch(path):
            return f"excluded by {pattern!r}"
    if include and not any(compile_glob(pattern).fullmatch(path) for pattern in include):
        return "not among what is included"
    return None
