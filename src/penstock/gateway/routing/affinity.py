"""Remembers which target made a stored response, because `previous_response_id` means something only there.

A table of fixed size in memory that the processes of a machine share: two places for each id, the older one is given
up. Entries are two 64-bit words, written without a lock: a torn one is an entry that is not found.
"""

import re
from hashlib import blake2b
from typing import Protocol

N_PLACES = 16384
AFFINITY_WORDS = 2 * N_PLACES

_TAG_BITS = 32
_TAG_MASK = (1 << _TAG_BITS) - 1
_RESPONSE_ID = re.compile(rb'"id"\s*:\s*"(resp[^"\\]{1,200})"')
_HEAD_BYTES = 4096


class Words(Protocol):
    """Whole numbers in memory: an array, or a view of a mapped file."""

    def __getitem__(self, at: int, /) -> int: ...

    def __setitem__(self, at: int, value: int, /) -> None: ...


class Affinity:
    """Ids of responses → tags of targets, over `AFFINITY_WORDS` words, zeroes at first."""

    __slots__ = ("_words",)

    def __init__(self, words: Words) -> None:
        self._words = words

    def remember(self, response_id: str, target_id: str, now_s: float) -> None:
        """Note that the target called `target_id` made the response."""
        digest, first = _place(response_id)
        words = self._words
        places = (first, first ^ 2)
        at = next((place for place in places if words[place] == digest), None)
        if at is None:
            at = min(places, key=lambda place: words[place + 1] >> _TAG_BITS)
        words[at + 1] = (int(now_s) & _TAG_MASK) << _TAG_BITS | tag_of(target_id)
        words[at] = digest

    def find(self, response_id: str) -> int | None:
        """Return the tag of the target that made the response, or None if that is not known (any more)."""
        digest, first = _place(response_id)
        for place in (first, first ^ 2):
            if self._words[place] == digest:
                return int(self._words[place + 1]) & _TAG_MASK
        return None


def tag_of(target_id: str) -> int:
    """Return the number by which a target is remembered."""
    return int.from_bytes(blake2b(target_id.encode(), digest_size=4).digest(), "big")


def find_response_id(body: bytes) -> str | None:
    """Return the id of a response from the beginning of its body or stream."""
    found = _RESPONSE_ID.search(body, 0, _HEAD_BYTES)
    return found.group(1).decode("utf-8", "replace") if found is not None else None


def _place(response_id: str) -> tuple[int, int]:
    raw = blake2b(response_id.encode(), digest_size=12).digest()
    digest = int.from_bytes(raw[:8], "big") or 1
    return digest, 2 * (int.from_bytes(raw[8:], "big") % N_PLACES)
