"""Numbers that states give to people, of those countries whose numbers carry a check: only where it is right, it is one.

Known: Spain (DNI, NIE), Italy (codice fiscale), France (NIR), China (resident identity), Brazil (CPF, as written with its
dots), Poland (PESEL), Finland (henkilötunnus). Numbers without a check, such as that of the United States, are not
found: a guess would meet every order number.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_SPANISH_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_FINNISH_LETTERS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CHINESE_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_POLISH_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)
_ITALIAN_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10,
         22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    pattern: re.Pattern[str]
    is_right: Callable[[str], bool]


def find_national_ids(text: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each number, from left to right, none twice."""
    places = {
        match.span()
        for kind in _KINDS.values()
        for match in kind.pattern.finditer(text)
        if kind.is_right(match[0])
    }
    end = -1
    for start, stop in sorted(places):
        if start >= end:
            yield start, stop
            end = stop


def _spanish(text: str) -> bool:
    body = text.upper().replace("-", "")
    number = int(str("XYZ".index(body[0])) + body[1:8]) if body[0] in "XYZ" else int(body[:8])
    return _SPANISH_LETTERS[number % 23] == body[-1]


def _italian(text: str) -> bool:
    body = text.upper()
    total = sum(_ITALIAN_ODD[char] for char in body[0:15:2])
    total += sum(int(char) if char.isdigit() else ord(char) - ord("A") for char in body[1:15:2])
    return chr(ord("A") + total % 26) == body[15]


def _french(text: str) -> bool:
    body = text.replace(" ", "").upper()
    number = int(body[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(body[13:])


def _chinese(text: str) -> bool:
    total = sum(int(char) * weight for char, weight in zip(text[:17], _CHINESE_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == text[17].upper()


def _brazilian(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    for length in (9, 10):
        total = sum(digit * (length + 1 - i) for i, digit in enumerate(digits[:length]))
        if (total * 10 % 11) % 10 != digits[length]:
            return False
    return len(set(digits)) > 1


def _polish(text: str) -> bool:
    total = sum(int(char) * weight for char, weight in zip(text[:10], _POLISH_WEIGHTS, strict=True))
    return (10 - total % 10) % 10 == int(text[10])


def _finnish(text: str) -> bool:
    return _FINNISH_LETTERS[int(text[:6] + text[7:10]) % 31] == text[10].upper()


_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_KINDS: Mapping[str, _Kind] = {
    "ES": _Kind(re.compile(r"(?<![\w-])(?:\d{8}|[XYZxyz]-?\d{7})-?[A-Za-z](?![\w-])", re.ASCII), _spanish),
    "IT": _Kind(
        re.compile(
            r"(?<!\w)[A-Za-z]{6}\d{2}[A-EHLMPRSTa-ehlmprst]\d{2}[A-Za-z]\d{3}[A-Za-z](?!\w)", re.ASCII
        ),
        _italian,
    ),
    "FR": _Kind(
        re.compile(
            r"(?<![\w-])[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-])",
            re.ASCII,
        ),
        _french,
    ),
    "CN": _Kind(
        re.compile(
            rf"(?<!\w)[1-8]\d{{5}}(?:18|19|20)\d{{2}}(?:0[1-9]|1[0-2]){_DAY}\d{{3}}[\dXx](?!\w)", re.ASCII
        ),
        _chinese,
    ),
    "BR": _Kind(re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])", re.ASCII), _brazilian),
    "PL": _Kind(
        re.compile(rf"(?<![\w-])\d{{2}}(?:[02468][1-9]|[13579][0-2]){_DAY}\d{{5}}(?![\w-])", re.ASCII),
        _polish,
    ),
    "FI": _Kind(
        re.compile(
            rf"(?<!\w){_DAY}(?:0[1-9]|1[0-2])\d{{2}}[-+A-FU-Ya-fu-y]\d{{3}}[0-9A-Ya-y](?!\w)", re.ASCII
        ),
        _finnish,
    ),
}
