"""Personal data in text: what is found by form and check digit, and where.

Found are addresses of mail, telephone numbers, account and card numbers (check digits right), addresses of the internet,
national ids with a check, and keys of programs. The surprise worth knowing: names of people, postal addresses and dates of
birth are not found, and whoever reports says so. What is found by form alone (a telephone number) may be something else.
"""

import bisect
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

from penstock.base.errors import InvalidInput
from penstock.telemetry.finders import find_places
from penstock.telemetry.national_ids import find_national_ids

PersonalKind = Literal["email", "phone", "iban", "credit_card", "ip", "national_id", "api_key"]
KINDS: tuple[PersonalKind, ...] = get_args(PersonalKind)
NOT_FOUND = "Names of people, postal addresses and dates of birth are not looked for."
_IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])",
    re.ASCII,
)
Place = tuple[int, int, PersonalKind]


def check_kinds(kinds: Sequence[str]) -> tuple[PersonalKind, ...]:
    """Return the kinds, all of them where none is named; raise `InvalidInput` for an unknown one."""
    unknown = [each for each in kinds if each not in KINDS]
    if unknown:
        raise InvalidInput(
            f"There is no kind {unknown[0]!r}.", hint=f"Known: {', '.join(KINDS)}.", where="kinds"
        )
    return tuple(kind for kind in KINDS if not kinds or kind in kinds)


def find_personal(text: str, kinds: Sequence[PersonalKind] = KINDS) -> list[Place]:
    """Return begin, end and kind of every place, from left to right, none overlapping.

    Where two kinds meet in one place, the one whose check is stricter wins: kinds later in the list of checks lose.
    """
    taken: list[Place] = []
    for kind in _STRICTEST:
        if kind in kinds:
            free = [(*span, kind) for span in _FINDERS[kind](text) if _is_free(taken, *span)]
            taken = sorted([*taken, *free])
    return taken


def mask_personal(text: str, kinds: Sequence[PersonalKind] = KINDS) -> tuple[str, Counter[PersonalKind]]:
    """Return the text with each place replaced whole by its kind, such as `[email]`, and how many of each."""
    counts: Counter[PersonalKind] = Counter()
    pieces: list[str] = []
    last = 0
    for start, end, kind in find_personal(text, kinds):
        counts[kind] += 1
        pieces += (text[last:start], f"[{kind}]")
        last = end
    return ("".join([*pieces, text[last:]]) if pieces else text), counts


def _is_free(taken: Sequence[Place], start: int, end: int) -> bool:
    """Return whether nothing of `taken`, which is sorted and does not overlap, lies between the two."""
    after = bisect.bisect_left(taken, end, key=lambda place: place[0])
    return after == 0 or taken[after - 1][1] <= start


def _find_ips(text: str) -> Iterator[tuple[int, int]]:
    """Yield addresses that are one; a version such as 1.2.3.4 cannot be told apart, and loopback is nobody's."""
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield match.span()


_FINDERS: Mapping[PersonalKind, Callable[[str], Iterable[tuple[int, int]]]] = {
    "email": partial(find_places, "email"),
    "phone": partial(find_places, "phone"),
    "iban": partial(find_places, "iban"),
    "credit_card": partial(find_places, "credit_card"),
    "api_key": partial(find_places, "api_key"),
    "ip": _find_ips,
    "national_id": find_national_ids,
}
_STRICTEST: tuple[PersonalKind, ...] = (
    "iban",
    "email",
    "api_key",
    "national_id",
    "credit_card",
    "ip",
    "phone",
)
