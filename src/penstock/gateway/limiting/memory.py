"""Counters in the memory of one worker, for when the file of this machine cannot be written (a full disk)."""

from collections.abc import Sequence

from penstock.store.counters import MAX_VALUE, Adjustment, Ask, Taken

_MAX_COUNTERS = 100_000


class MemoryCounters:
    """The semantics of `store.counters`, for one process. Bounded: the oldest counters are forgotten first."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[int, int]] = {}

    def reserve(self, asks: Sequence[Ask]) -> list[Taken]:
        """Count all asks, or none of them if one does not fit its limit."""
        found = [self._weigh(ask) for ask in asks]
        if not all(one.allowed for one in found):
            return [one.given_back() for one in found]
        for ask, one in zip(asks, found, strict=True):
            self._put(ask.key, one.value, one.window_end_s)
        return found

    def adjust(self, adjustments: Sequence[Adjustment]) -> None:
        """Add each amount to its window; no value falls below zero."""
        for one in adjustments:
            value, end_s = self._stored.get(one.key, (0, 0))
            if end_s <= one.window_end_s:
                value = (value if end_s == one.window_end_s else 0) + one.amount
                self._put(one.key, min(max(0, value), MAX_VALUE), one.window_end_s)

    def _weigh(self, ask: Ask) -> Taken:
        value, end_s = self._stored.get(ask.key, (0, 0))
        if not ask.window_end_s <= end_s <= ask.window_end_s + ask.window_s:
            value, end_s = 0, ask.window_end_s
        taken = ask.amount if ask.limit is None else min(ask.amount, ask.limit - value)
        if taken < ask.least:
            return Taken(value, end_s, 0, False)
        after = min(value + taken, MAX_VALUE)
        return Taken(after, end_s, after - value, True)

    def _put(self, key: str, value: int, end_s: int) -> None:
        self._stored[key] = (value, end_s)
        if len(self._stored) > _MAX_COUNTERS:
            del self._stored[next(iter(self._stored))]
