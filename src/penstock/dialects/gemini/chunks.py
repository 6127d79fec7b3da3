"""Cuts a streamed reply into its JSON objects: server-sent events (`alt=sse`) or one JSON array, told by its first byte."""

import re

from penstock.dialects.sse_events import MAX_EVENT_BYTES, SseSplitter

_MARK = re.compile(rb'["\\{}\[\]]')
_SPACE = b" \t\r\n\xef\xbb\xbf"


class ChunkSplitter:
    """Any split of the bytes gives the same objects; nothing it is fed makes it raise."""

    def __init__(self) -> None:
        self._events: SseSplitter | None = None
        self._array: ArraySplitter | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the objects that are complete, as JSON text that was not checked."""
        if self._events is None and self._array is None:
            data = data.lstrip(_SPACE)
            if not data:
                return []
            if data[0] in b"[{":
                self._array = ArraySplitter()
            else:
                self._events = SseSplitter()
        if self._events is not None:
            return [event.data for event in self._events.feed(data) if event.data.strip() != b"[DONE]"]
        assert self._array is not None, "one of the two"
        return self._array.feed(data)

    def finish(self) -> list[bytes]:
        """Say that the stream has ended; return an event that lacks only its blank line."""
        if self._events is None:
            return []
        return [event.data for event in self._events.finish() if event.data.strip() != b"[DONE]"]

    @property
    def is_broken(self) -> bool:
        """Whether an object was larger than any reply is."""
        splitter = self._events or self._array
        return splitter is not None and splitter.is_broken


class ArraySplitter:
    """Cuts the objects out of one JSON array (or out of a row of them), reading each byte once."""

    def __init__(self, *, max_object_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_object_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self.is_broken = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the objects that are complete."""
        objects: list[bytes] = []
        start = 0
        at = 0
        while not self.is_broken and at < len(data):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = _MARK.search(data, at)
            if found is None:
                break
            at = found.end()
            mark = found.group()
            if self._in_string:
                self._in_string = mark != b'"'
                self._is_escaped = mark == b"\\"
                self._in_string = self._in_string or self._is_escaped
            elif self._depth == 0:
                if mark == b"{":
                    start, self._depth = at - 1, 1
            elif mark == b'"':
                self._in_string = True
            elif mark in b"{[":
                self._depth += 1
            elif mark != b"\\":
                self._depth -= 1
                if self._depth == 0:
                    objects.append(b"".join((*self._pieces, data[start:at])))
                    self._pieces, self._size = [], 0
        if self._depth:
            self._pieces.append(data[start:])
            self._size += len(data) - start
            if self._size > self._max_bytes:
                self.is_broken, self._pieces = True, []
        return objects
