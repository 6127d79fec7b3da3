"""Server-sent events as a gateway relays them: event borders, the usage event, the end of a stream.

The hot path searches bytes and never parses an event that it does not have to. Works for any split of the
stream into pieces: feeding one byte at a time gives the same bytes out.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.dialects.openai.usage import UsageObject

_BORDER = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_SURE_BORDER = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
"""As above, but a return at the very end may be half of a line break whose rest is still to come."""
_EMPTY_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"|(?:^|[\r\n])data: ?\[DONE\]')
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_LINE = re.compile(rb"\r\n|\n|\r")
_HOLD_BYTES = 64 * 1024
"""A usage event is small. An unfinished event over this is let through: it is something else."""
_TAIL_BYTES = 8 * 1024


class UsageStripper:
    """Takes the usage event out of a stream whose client did not ask for it, and passes all else.

    An event that is not complete yet is held back; no client can act on half an event, so nothing is late.
    An event that also carries members beyond the standard ones (citations of an app) is passed.
    """

    def __init__(self) -> None:
        self._held = b""
        self._in_long_event = False

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes to pass on now."""
        held = self._held
        data = held + piece if held else piece
        cut = _last_border(data, max(0, len(held) - 3))
        if cut:
            self._held = data[cut:]
            complete = data[:cut]
            if not self._in_long_event:
                return _strip(complete)
            self._in_long_event = False
            first = _BORDER.search(complete)
            end = first.end() if first else len(complete)
            return complete[:end] + _strip(complete[end:])
        if self._in_long_event or len(data) > _HOLD_BYTES:
            self._in_long_event = True
            self._held = data[-3:]  # a border may begin here
            return data[:-3]
        self._held = data
        return b""

    def finish(self) -> bytes:
        """Return what is still held at the end of the stream."""
        held, self._held = self._held, b""
        return held if self._in_long_event else _strip(held)


def _last_border(data: bytes, start: int) -> int:
    """Return the index behind the last blank line that ends after `start`, or 0."""
    if data.endswith(b"\n\n"):
        return len(data)
    cut = 0
    for border in _SURE_BORDER.finditer(data, start):
        cut = border.end()
    return cut


def _strip(complete: bytes) -> bytes:
    if b'"usage"' not in complete or _EMPTY_CHOICES.search(complete) is None:
        return complete
    kept: list[bytes] = []
    start = 0
    for border in _BORDER.finditer(complete):
        event = complete[start : border.end()]
        if not is_usage_event(event):
            kept.append(event)
        start = border.end()
    rest = complete[start:]
    if rest and not is_usage_event(rest):
        kept.append(rest)
    return b"".join(kept)


class _UsageChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    choices: list[Any]
    usage: Any = None
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None
    obfuscation: Any = None
    provider: Any = None


_usage_chunk = msgspec.json.Decoder(_UsageChunk)


def is_usage_event(event: bytes) -> bool:
    """Return whether `event` holds nothing but the usage of the stream: empty `choices` and a `usage` object."""
    if _EMPTY_CHOICES.search(event) is None:
        return False
    data = b"\n".join(iter_data(event))
    try:
        chunk = _usage_chunk.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return not chunk.choices and isinstance(chunk.usage, dict)


def iter_data(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each event (lines of one event joined by a newline), `[DONE]` left out."""
    lines: list[bytes] = []
    for line in _LINE.split(stream):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and lines:
            data = b"\n".join(lines)
            lines = []
            if data.strip() != b"[DONE]":
                yield data
    if lines and (data := b"\n".join(lines)).strip() != b"[DONE]":
        yield data


class StreamTail:
    """Keeps the last bytes of a stream and answers, at its end, what they say."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> None:
        """Remember a piece; only about the last 8 KB are kept."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > 4 * _TAIL_BYTES or len(self._pieces) > 256:
            self._pieces = [b"".join(self._pieces)[-_TAIL_BYTES:]]
            self._size = len(self._pieces[0])

    @property
    def content(self) -> bytes:
        """The last bytes."""
        return b"".join(self._pieces)[-_TAIL_BYTES:]

    def is_finished(self) -> bool:
        """Return whether the provider said that the reply is complete: a finish reason or `[DONE]`."""
        return _FINISHED.search(self.content) is not None

    def is_done(self) -> bool:
        """Return whether the stream's last event, `[DONE]`, is there: nothing of the reply can be missing."""
        return _DONE.search(self.content) is not None

    def find_usage(self) -> tuple[UsageObject | None, str | None]:
        """Return the last usage object and the model's name, as far as the kept bytes hold them."""
        return find_usage(self.content)


class GroqPart(msgspec.Struct, frozen=True):
    """Groq's own member of the last chunk."""

    usage: UsageObject | None = None


class _ChunkHead(msgspec.Struct, frozen=True):
    model: str | None = None
    usage: UsageObject | None = None
    x_groq: GroqPart | None = None


_chunk_head = msgspec.json.Decoder(_ChunkHead)


def find_usage(tail: bytes) -> tuple[UsageObject | None, str | None]:
    """Return the usage object and the model of the last event in `tail` that carries a usage object.

    The first event of `tail` may be cut; it is skipped if it cannot be read.
    """
    model: str | None = None
    has_usage = tail.find(b'"usage"') >= 0
    for data in reversed(list(iter_data(tail))):
        if model is not None and not has_usage:
            break
        try:
            head = _chunk_head.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        model = model or head.model
        usage = head.usage or (head.x_groq.usage if head.x_groq is not None else None)
        if usage is not None:
            return usage, model
    return None, model
