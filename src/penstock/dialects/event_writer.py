"""Events of the hub, written as server-sent events that name their kind: what such dialects have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.sse_events import write_event
from penstock.spec.hub import (
    End,
    Event,
    Failed,
    FinishSeen,
    HubError,
    Part,
    PartDelta,
    PartEnd,
    PartStart,
    Start,
    UsageSeen,
)
from penstock.spec.usage import Usage


class EventWriter(ABC):
    """See `dialects.port.StreamWriter`. Of several choices the first is told; finish and usage wait for the end."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._open: Part | None = None
        self._finish: FinishSeen | None = None
        self._has_begun = False
        self._has_ended = False

    def write(self, events: Sequence[Event]) -> bytes:
        """Return the bytes for `events`."""
        return b"".join([piece for event in events for piece in self._write(event)])

    def fail(self, error: HubError) -> bytes:
        """Return the event that ends the stream with an error."""
        if self._has_ended:
            return b""
        self._has_ended = True
        return self._write_error(error)

    def _write(self, event: Event) -> list[bytes]:
        if self._has_ended or getattr(event, "choice", 0) != 0:
            return []
        match event:
            case Start():
                return [self._begin(event)]
            case PartStart():
                return self._part_start(event.part)
            case PartDelta():
                return self._part_delta(event)
            case PartEnd():
                return self._part_end()
            case FinishSeen():
                self._finish = event
            case UsageSeen():
                self._usage = event.usage
            case Failed():
                return [self.fail(event.error)]
            case End():
                return self._end(event.complete)
        return []

    def _begin(self, start: Start) -> bytes:
        self._has_begun = True
        self._usage = start.usage
        return self._write_start(start)

    def _end(self, is_complete: bool) -> list[bytes]:
        """A stream that broke off before its finish is left open: only `fail` may close it."""
        if not is_complete and self._finish is None:
            return []
        self._has_ended = True
        pieces = [] if self._has_begun else [self._begin(Start())]
        return [*pieces, *self._write_end(self._finish or FinishSeen(finish="unknown"), self._usage)]

    @abstractmethod
    def _write_start(self, start: Start) -> bytes: ...

    @abstractmethod
    def _write_end(self, finish: FinishSeen, usage: Usage | None) -> list[bytes]: ...

    @abstractmethod
    def _write_error(self, error: HubError) -> bytes: ...

    @abstractmethod
    def _part_start(self, part: Part) -> list[bytes]: ...

    @abstractmethod
    def _part_delta(self, delta: PartDelta) -> list[bytes]: ...

    @abstractmethod
    def _part_end(self) -> list[bytes]: ...


def write_typed(kind: str, **members: Any) -> bytes:
    """Return an event whose data is an object that names its kind too."""
    return write_event(msgspec.json.encode({"type": kind, **members}), kind)
