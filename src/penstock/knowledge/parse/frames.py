"""What passes between the pool and its processes."""

import struct
from typing import BinaryIO

import msgspec

from penstock.spec.knowledge import ParseRecipe

_LENGTH = struct.Struct(">Q")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to parse; the bytes follow in a frame of their own."""

    name: str
    recipe: ParseRecipe
    retire_mb: int
    """A process whose largest document took more gives its memory back by ending."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a document was not parsed."""

    code: str | None
    """None where a parser broke in a way that is nobody's word."""
    message: str
    hint: str | None


def write_frame(stream: BinaryIO, *pieces: bytes) -> None:
    """Write a frame of all pieces; the caller flushes."""
    stream.write(_LENGTH.pack(sum(len(piece) for piece in pieces)))
    stream.writelines(pieces)


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, None where the stream ends."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None
