"""What masks look for: a pattern of the operator's own, or one of the built-in kinds of personal data.

Patterns of people run on RE2, whose time grows with the text and with nothing else: a text that somebody sends cannot
hold the collector up. The built-in ones are bounded by hand, and card and account numbers count only where their check
digits are right, so that order numbers stay readable.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.spec.masks import BuiltInMask

Finder = Callable[[str, str], tuple[str, int]]
"""Takes a text and the replacement; returns the new text and how many places were replaced."""
_Places = Callable[[str], Iterator[tuple[int, int]]]

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z])"
)
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_PHONE = re.compile(
    r"(?<![\w.,/:+-])(?:"
    r"(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){6,13}"
    r"|\(0?\d{2,5}\)[ ./-]{0,2}\d(?:[ ./-]?\d){4,9}"
    r"|0\d{1,4}[ ./-]\d(?:[ ./-]?\d){4,9}"
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r")(?![\w-])"
)
_API_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:ps|sk|pk|rk)[-_][A-Za-z0-9_-]{16,200}"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{30,255}|glpat-[A-Za-z0-9_-]{16,64}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,200}|hf_[A-Za-z0-9]{24,64}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}"
    r"|(?i:bearer)[ ]{1,4}[A-Za-z0-9._~+/-]{16,2000}=*"
    r")"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)


def built_in(kind: BuiltInMask) -> Finder:
    """Return the finder of a built-in kind."""
    return _BUILT_IN[kind]


def find_places(kind: BuiltInMask, text: str) -> list[tuple[int, int]]:
    """Return where a text holds this kind: begin and end of each place, from left to right."""
    return list(_PLACES[kind](text))


def own_pattern(pattern: str) -> Finder:
    """Return the finder of an operator's pattern; raise `ValueError` that says what RE2 does not like about it."""
    import re2

    try:
        compiled = re2.compile(pattern, _quiet(re2))
    except re2.error as error:
        reason = error.args[0] if error.args else error
        raise ValueError(
            reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        ) from error
    if compiled.search("") is not None:
        raise ValueError("it is met by an empty text, so it would be met everywhere")

    def find(text: str, replacement: str) -> tuple[str, int]:
        if compiled.search(text) is None:
            return text, 0
        found: tuple[str, int] = compiled.subn(lambda _match: replacement, text)
        return found

    return find


def _quiet(re2: Any) -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _plain(pattern: re.Pattern[str], is_meant: Callable[[str], bool] | None = None) -> _Places:
    def places(text: str) -> Iterator[tuple[int, int]]:
        for match in pattern.finditer(text):
            if is_meant is None or is_meant(match[0]):
                yield match.span()

    return places


def _replacing(places: _Places) -> Finder:
    def find(text: str, replacement: str) -> tuple[str, int]:
        pieces: list[str] = []
        end = n = 0
        for start, stop in places(text):
            pieces += (text[end:start], replacement)
            end = stop
            n += 1
        return ("".join([*pieces, text[end:]]), n) if n else (text, 0)

    return find


def _is_card(text: str) -> bool:
    """Return whether the digits are those of a card: Luhn's check (ISO/IEC 7812-1)."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    doubled = sum(sum(divmod(digit * 2, 10)) for digit in digits[1::2])
    return len(set(digits)) > 1 and (sum(digits[::2]) + doubled) % 10 == 0


def _iban_places(text: str) -> Iterator[tuple[int, int]]:
    """Yield account numbers; a match may run on into the words after it, so shorter ends are tried too."""
    for match in _IBAN.finditer(text):
        found = match[0]
        for end in range(len(found), 14, -1):
            if (
                found[end - 1 : end].isalnum()
                and (end == len(found) or not found[end].isalnum())
                and _is_iban(found[:end])
            ):
                yield match.start(), match.start() + end
                break


def _is_iban(text: str) -> bool:
    """Return whether the check digits are right (ISO 13616: remainder 1 modulo 97)."""
    packed = "".join(char for char in text if char.isalnum()).upper()
    if not 15 <= len(packed) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in packed[4:] + packed[:4])) % 97 == 1


_PLACES: Mapping[BuiltInMask, _Places] = {
    "email": _plain(_EMAIL),
    "credit_card": _plain(_CARD, _is_card),
    "iban": _iban_places,
    "phone": _plain(_PHONE),
    "api_key": _plain(_API_KEY),
}
_BUILT_IN: Mapping[BuiltInMask, Finder] = {kind: _replacing(places) for kind, places in _PLACES.items()}
