"""The binary frames of AWS event streams (`application/vnd.amazon.eventstream`), taken apart as they arrive.

A frame is: its length and that of its headers (32 bits each, big-endian), a CRC of those eight bytes, the headers, the
payload, a CRC of all before it. Knows nothing of what the payload says.
"""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

MAX_FRAME_BYTES = 24 * 1024 * 1024
_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_STRING = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Header types of fixed size: true, false, byte, short, integer, long, timestamp, uuid."""


class Frame(NamedTuple):
    """One message. Of the headers, texts and bytes have values; those of other types are `True`."""

    headers: Mapping[str, Any]
    payload: bytes


class FrameSplitter:
    """Cuts one stream into frames. Any split of the bytes gives the same frames; nothing it is fed makes it raise.

    A frame whose CRC or lengths are wrong ends the stream: `is_broken` becomes true and nothing more comes out.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self.is_broken = False

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete."""
        if self.is_broken:
            return []
        held = self._held
        held += data
        frames: list[Frame] = []
        at = 0
        while len(held) - at >= 12:
            total, n_headers, prelude_crc = _PRELUDE.unpack_from(held, at)
            is_sound = crc32(held[at : at + 8]) == prelude_crc
            if not is_sound or not 16 + n_headers <= total <= MAX_FRAME_BYTES:
                self.is_broken = True
                break
            if len(held) - at < total:
                break
            frame = _read(bytes(held[at : at + total]), n_headers)
            if frame is None:
                self.is_broken = True
                break
            frames.append(frame)
            at += total
        del held[:at]
        if self.is_broken:
            held.clear()
        return frames

    @property
    def is_between_frames(self) -> bool:
        """Whether no frame has begun without having ended."""
        return not self._held


def _read(data: bytes, n_headers: int) -> Frame | None:
    if crc32(data[:-4]) != _CRC.unpack_from(data, len(data) - 4)[0]:
        return None
    headers = _read_headers(data[12 : 12 + n_headers])
    return None if headers is None else Frame(headers, data[12 + n_headers : -4])


def _read_headers(data: bytes) -> dict[str, Any] | None:
    headers: dict[str, Any] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end >= len(data):
            return None
        name = data[at + 1 : end].decode("utf-8", "replace")
        kind = data[end]
        at = end + 1
        if kind in _SIZES:
            headers[name] = True
            at += _SIZES[kind]
        elif kind in (6, _STRING):
            if at + 2 > len(data):
                return None
            size = _SHORT.unpack_from(data, at)[0]
            value = data[at + 2 : at + 2 + size]
            headers[name] = value.decode("utf-8", "replace") if kind == _STRING else value
            at += 2 + size
        else:
            return None
    return headers if at == len(data) else None


def write_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one frame; all headers are texts."""
    packed = b"".join(
        bytes((len(key),)) + key + bytes((_STRING,)) + _SHORT.pack(len(text)) + text
        for key, text in ((name.encode(), value.encode()) for name, value in headers.items())
    )
    lengths = _LENGTHS.pack(16 + len(packed) + len(payload), len(packed))
    data = b"".join((lengths, _CRC.pack(crc32(lengths)), packed, payload))
    return data + _CRC.pack(crc32(data))
