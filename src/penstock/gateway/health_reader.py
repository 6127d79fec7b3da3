"""Reads the health of targets without being a gateway: from a copy of the shared file, never through a mapping.

A mapping would tie the reader to the file: a gateway that starts anew cuts it to nothing first, and touching a mapped
page that is gone kills a process.
"""

import math
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from penstock.gateway.health import (
    N_COMMON_WORDS,
    N_OWN_WORDS,
    TargetHealth,
    find_slot,
    name_slot,
)
from penstock.gateway.shared_memory import N_SECTIONS, SharedMemory
from penstock.spec.routes import BreakerPolicy

_NOWHERE = -(2**40)
FRESH_S = 0.3


class HealthReader:
    """The board in `folder`, read again when the last copy is older than `FRESH_S`. Safe for threads."""

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / "board.bin"
        self._monotonic = monotonic
        self._copy: tuple[float, BoardCopy | None] = (-math.inf, None)

    def target(self, health_id: str, policy: BreakerPolicy | None) -> TargetHealth | None:
        """Return one target, frozen; None when no gateway has asked it since the first of them started."""
        board = self._board()
        if board is None:
            return None
        slot = find_slot(board.floats, name_slot(health_id, policy))
        if slot is None:
            return None
        window_s = policy.window_s if policy is not None else BreakerPolicy().window_s
        return TargetHealth(board, slot, window_s, self._monotonic)

    def _board(self) -> "BoardCopy | None":
        read_at, copy = self._copy
        now = self._monotonic()
        if now - read_at > FRESH_S:
            try:
                copy = BoardCopy.of(self._path.read_bytes())
            except OSError:
                copy = None
            self._copy = (now, copy)
        return copy


class BoardCopy(SharedMemory):
    """The words of all sections as they were at one moment. No section is the reader's own."""

    def __init__(self, words: bytes) -> None:
        super().__init__(None, n_common=N_COMMON_WORDS, n_own=N_OWN_WORDS)
        self.is_shared = True
        self.own_start = _NOWHERE
        view = memoryview(array("d", words)).cast("B")
        self.floats = view.cast("d")
        self.words = view.cast("Q")

    @classmethod
    def of(cls, data: bytes) -> "BoardCopy | None":
        """Return the copy, or None for a file that is not whole (yet)."""
        if len(data) != 8 * (N_COMMON_WORDS + N_SECTIONS * N_OWN_WORDS):
            return None
        return cls(data)
