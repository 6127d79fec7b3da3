"""Server-sent events that hold an object with a `type`, read into events of the hub: what such dialects share."""

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from penstock.dialects.part_line import PartLine
from penstock.dialects.sse_events import SseEvent, SseSplitter
from penstock.spec.hub import End, Event, Failed, HubError


class EventReader(ABC):
    """See `dialects.port.StreamReader`. A dialect says what one event means."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._line = PartLine()
        self._has_begun = False
        self._has_ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete."""
        events: list[Event] = []
        for event in self._splitter.feed(data):
            self._take(event, events)
        if self._splitter.is_broken:
            self._fail(events, "An event of the stream is too large.")
        return events

    def finish(self) -> list[Event]:
        """Say that the connection has ended."""
        events: list[Event] = []
        if self._has_ended:
            return events
        for event in self._splitter.finish():
            if decode_event(event.data) is not None:  # else it was cut in the middle
                self._take(event, events)
        if not self._has_ended:
            self._has_ended = True
            events.append(End(complete=False))
        return events

    def _fail(self, events: list[Event], message: str, raw: Any = None) -> None:
        if not self._has_ended:
            self._fail_with(HubError(kind="server_error", message=message, status=502, raw=raw), events)

    def _fail_with(self, error: HubError, events: list[Event]) -> None:
        self._has_ended = True
        events += [Failed(error=error), End(complete=False)]

    def _take(self, event: SseEvent, events: list[Event]) -> None:
        if self._has_ended or event.data.strip() == b"[DONE]":  # some copies of these protocols end so
            return
        value = decode_event(event.data)
        if value is None:
            self._fail(events, "An event of the stream is not a JSON object.")
            return
        self._read(event, value, events)

    @abstractmethod
    def _read(self, event: SseEvent, value: dict[str, Any], events: list[Event]) -> None:
        """Add to `events` what `event` says, whose data is `value`."""


def decode_event(data: bytes) -> dict[str, Any] | None:
    """Return the object an event holds, None if it is none."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_or_none(value: Any) -> str | None:
    """Return `value` if it is a text."""
    return value if isinstance(value, str) else None
