"""What a question itself says about how to look: quoted words and identifiers want exact words rather than sense."""

import re
from dataclasses import dataclass

_QUOTED = re.compile(r'"([^"\n]{2,200})"|“([^”\n]{2,200})”|«([^»\n]{2,200})»')
_TOKEN = re.compile(r"[\w][\w./:#+-]*[\w]|\w")
_NUMBER = re.compile(
    r"\d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s|x|am|pm|h|kg|km|cm|mm|mb|gb|tb|ms|%)?", re.IGNORECASE
)
_CAMEL = re.compile(r"[a-z0-9][A-Z]")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What was seen in a question."""

    quoted: tuple[str, ...]
    identifiers: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether the question quotes words or holds identifiers."""
        return bool(self.quoted or self.identifiers)


def analyse_question(query: str) -> Analysis:
    """Return quoted strings and identifiers: codes such as `E-1042`, `foo_bar`, `camelCase`, `v2.1.0`, `a/b.py`.

    Plain numbers, times and sizes (`8`, `10:30`, `5kg`) and hyphenated words are no identifiers.
    """
    quoted = tuple(
        text.strip()
        for match in _QUOTED.finditer(query)
        if (text := next(group for group in match.groups() if group is not None)).strip()
    )
    tokens = dict.fromkeys(token for token in _TOKEN.findall(query) if _is_identifier(token))
    return Analysis(quoted=quoted, identifiers=tuple(tokens))


def _is_identifier(token: str) -> bool:
    if _NUMBER.fullmatch(token) or len(token) < 3:
        return False
    if "_" in token.strip("_") or "::" in token or "#" in token:
        return True
    has_digit = any(char.isdigit() for char in token)
    has_letter = any(char.isalpha() for char in token)
    if has_digit and has_letter:
        # `covid-19` and `24-hour` are words to a reader; `E-1042`, `v2.1`, `RFC9110` are not
        head, dash, tail = token.partition("-")
        is_word = bool(dash) and (
            (head.isdigit() and tail.islower()) or (head.islower() and tail.isdigit() and len(tail) <= 2)
        )
        return not is_word
    if _CAMEL.search(token) and token[:1].islower():
        return True
    return "/" in token and "." in token.rpartition("/")[2] and not token.startswith("http")
