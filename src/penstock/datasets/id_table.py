"""Which ids were seen at which row, in little memory: open addressing over two plain arrays, 12 bytes a slot.

An id is known by 64 bits of its BLAKE2 digest: among a million ids two differing ones are taken for equal with a chance of
three in a hundred million.
"""

from array import array
from hashlib import blake2b

_FIRST_SLOTS = 1 << 12


class IdTable:
    """Maps ids to the number of the row that had each first."""

    def __init__(self) -> None:
        self._n = 0
        self._make(_FIRST_SLOTS)

    def __len__(self) -> int:
        return self._n

    def add(self, text: str, row: int) -> int | None:
        """Note that row `row` has this id; return the row that had it before (which stays noted), else None."""
        key = int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1
        slot = self._slot_of(key)
        if self._keys[slot]:
            return self._rows[slot]
        self._keys[slot] = key
        self._rows[slot] = row
        self._n += 1
        if self._n * 3 > len(self._keys) * 2:
            self._grow()
        return None

    def find(self, text: str) -> int | None:
        """Return the row that has this id, or None."""
        slot = self._slot_of(int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1)
        return self._rows[slot] if self._keys[slot] else None

    def _slot_of(self, key: int) -> int:
        keys, mask = self._keys, len(self._keys) - 1
        slot = key & mask
        while (there := keys[slot]) and there != key:
            slot = (slot + 1) & mask
        return slot

    def _make(self, n_slots: int) -> None:
        self._keys = array("Q", bytes(8 * n_slots))
        self._rows = array("I", bytes(4 * n_slots))

    def _grow(self) -> None:
        keys, rows = self._keys, self._rows
        self._make(len(keys) * 2)
        for key, row in zip(keys, rows, strict=True):
            if key:
                slot = self._slot_of(key)
                self._keys[slot] = key
                self._rows[slot] = row
