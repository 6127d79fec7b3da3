"""Server-sent events, taken apart as their bytes arrive and put together again (WHATWG HTML, §9.2).

Events are complete or not there: half an event is kept until its end has come. Lines end with CR, LF or CRLF, comments
and unknown fields are left out. Knows nothing of what the data says; `[DONE]` is data like any other.
"""

from typing import NamedTuple

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its name, None where the stream gave none, and its data lines joined by newlines."""

    event: str | None
    data: bytes


class SseSplitter:
    """Cuts one stream into events. Any split of the bytes gives the same events; nothing it is fed makes it raise.

    An event over `max_event_bytes` ends the stream: `is_broken` becomes true and nothing more comes out.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._name: str | None = None
        self._is_first_line = True
        self._skip_newline = False
        self.is_broken = False

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Take the next bytes; return the events that they complete."""
        if self._skip_newline and piece:
            self._skip_newline = False
            if piece[0] == 0x0A:
                piece = piece[1:]
        if self.is_broken or not piece:
            return []
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        self._partial.append(piece)
        text = b"".join(self._partial)
        self._partial, self._partial_bytes = [], 0
        lines = text.splitlines()  # of bytes: at CR, LF and CRLF only
        last = text[-1]
        if last == 0x0D:
            self._skip_newline = True
        events = self._take(lines if last in b"\r\n" else lines[:-1])
        if last not in b"\r\n":
            self._keep(lines[-1])
        return events

    def finish(self) -> list[SseEvent]:
        """Say that the stream has ended; returns the event that lacks its blank line, if it has data.

        Its data may be cut: a reader that cannot decode it leaves it out.
        """
        if self.is_broken:
            return []
        partial, self._partial, self._partial_bytes = b"".join(self._partial), [], 0
        return self._take([partial, b""] if partial else [b""])

    def _keep(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._partial_bytes += len(piece)
        self._check_size()

    def _check_size(self) -> None:
        if self._partial_bytes + self._lines_bytes > self._max_bytes:
            self.is_broken = True
            self._partial, self._lines = [], []

    def _take(self, lines: list[bytes]) -> list[SseEvent]:
        events: list[SseEvent] = []
        for line in lines:
            if self._is_first_line:
                self._is_first_line = False
                line = line.removeprefix(_BOM)  # noqa: PLW2901 - only the very first line can have it
            if not line:
                if self._lines:
                    events.append(SseEvent(self._name, b"\n".join(self._lines)))
                self._lines, self._lines_bytes, self._name = [], 0, None
                continue
            field, _, value = line.partition(b":")
            if field == b"data":
                self._lines.append(value.removeprefix(b" "))
                self._lines_bytes += len(value) + 1
                self._check_size()
                if self.is_broken:
                    break
            elif field == b"event":
                self._name = value.removeprefix(b" ").decode("utf-8", "replace") or None
        return events


def write_event(data: bytes, event: str | None = None) -> bytes:
    """Return the bytes of one event. `event` must hold no line break; line breaks of `data` become lines."""
    head = b"" if event is None else b"event: " + event.encode() + b"\n"
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return head + b"data: " + data + b"\n\n"
