"""Tells the items of a stream one after the other, where a server writes several side by side.

The hub has one open part at a time, and a call's arguments cannot be told in two pieces: events of an item wait while
another one is being told. An item may be followed by the next as soon as it, or its newest part, was said to be done.
"""

from typing import Any

_DONE = ".done"
StreamEvent = tuple[str, dict[str, Any]]
"""Kind and content."""


class Turns:
    """The order in which one stream's events are read."""

    def __init__(self) -> None:
        self._item: int | None = None
        """Whose turn it is, by its output index."""
        self._may_end = True
        self._waiting: dict[int, list[StreamEvent]] = {}
        """By item, in the order in which they began."""

    def take(self, kind: str, value: dict[str, Any]) -> list[StreamEvent]:
        """Return the events that are to be read now, given the next one that came."""
        found = value.get("output_index")
        item = found if isinstance(found, int) else 0
        if item != self._item and (not self._may_end or self._waiting):
            self._waiting.setdefault(item, []).append((kind, value))
            return []
        now = [(kind, value)]
        self._begin(item, now)
        while self._may_end and self._waiting:
            now += self._next()
        return now

    def rest(self) -> list[StreamEvent]:
        """Return what waits when the stream ends."""
        rest: list[StreamEvent] = []
        while self._waiting:
            rest += self._next()
        return rest

    def _next(self) -> list[StreamEvent]:
        item = next(iter(self._waiting))
        events = self._waiting.pop(item)
        self._begin(item, events)
        return events

    def _begin(self, item: int, events: list[StreamEvent]) -> None:
        self._item, self._may_end = item, events[-1][0].endswith(_DONE)
