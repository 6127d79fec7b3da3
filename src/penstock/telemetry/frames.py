"""The record format of spool segments, and reading it back from damaged bytes.

A segment is `MAGIC`, then records `length u32 | crc32 u32 | payload`, little-endian. The checksum covers the
length too. A record is never empty, so that a tail of zeros (a file system's way of saying "power was
lost") is damage and not an endless run of empty records.
"""

import struct
import zlib
from typing import NamedTuple

MAGIC = b"PSSPOOL1"
MAX_RECORD_BYTES = 64 * 1024 * 1024
_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
HEAD_BYTES = _HEAD.size
"""Of each record, ahead of its payload."""
_pack_head, _pack_length, _crc32 = _HEAD.pack, _LENGTH.pack, zlib.crc32


class Frame(NamedTuple):
    """One intact record and the offset just behind it."""

    payload: bytes
    end: int


class Scan(NamedTuple):
    """What a pass over some bytes found. `next_offset` is where the next pass has to begin."""

    frames: list[Frame]
    next_offset: int
    skipped_bytes: int
    """Damaged bytes passed over in search of the next intact record."""
    is_suspect: bool
    """True when the pass stopped at a complete record with a wrong checksum, or a wrong start."""


def encode_frame(payload: bytes) -> bytes:
    """Return the record that holds `payload` (1 byte to `MAX_RECORD_BYTES`)."""
    return encode_head(payload) + payload


def encode_head(payload: bytes) -> bytes:
    """Return what stands before `payload` in its record."""
    size = len(payload)
    return _pack_head(size, _crc32(payload, _crc32(_pack_length(size))))


def scan_frames(data: bytes, *, base: int, is_final: bool, skip_damage: bool, max_bytes: int) -> Scan:
    """Read the records of `data`, which lies at offset `base` of its segment.

    An incomplete record at the end is left for the next pass, unless `is_final` says that nobody will
    complete it. Damage stops the pass, unless `skip_damage` (implied by `is_final`) says to go on at the
    next intact record. Stops once `max_bytes` of payload were read.
    """
    view = memoryview(data)
    frames: list[Frame] = []
    position, skipped, taken = 0, 0, 0
    if base == 0:
        if len(data) < len(MAGIC) and not is_final:
            return Scan([], 0, 0, False)
        if data.startswith(MAGIC):
            position = len(MAGIC)
    while position < len(data) and taken < max_bytes:
        found = _frame_at(view, position)
        if found is not None:
            payload, position = found
            frames.append(Frame(payload, base + position))
            taken += len(payload)
            continue
        is_incomplete = _is_incomplete(view, position)
        if is_incomplete and not is_final:
            break
        if not (skip_damage or is_final):
            return Scan(frames, base + position, skipped, True)
        ahead = _find_frame(view, position + 1)
        if ahead is None and not is_final:
            break  # the rest may still be completed; look again when more has arrived
        resume = len(data) if ahead is None else ahead
        skipped += resume - position
        position = resume
    return Scan(frames, base + position, skipped, False)


def _frame_at(view: memoryview, position: int) -> tuple[bytes, int] | None:
    if position + _HEAD.size > len(view):
        return None
    length, checksum = _HEAD.unpack_from(view, position)
    start, end = position + _HEAD.size, position + _HEAD.size + length
    if not 0 < length <= MAX_RECORD_BYTES or end > len(view):
        return None
    payload = view[start:end]
    if zlib.crc32(payload, zlib.crc32(view[position : position + _LENGTH.size])) != checksum:
        return None
    return bytes(payload), end


def _is_incomplete(view: memoryview, position: int) -> bool:
    if position + _HEAD.size > len(view):
        return True
    length: int = _HEAD.unpack_from(view, position)[0]
    return 0 < length <= MAX_RECORD_BYTES and position + _HEAD.size + length > len(view)


def _find_frame(view: memoryview, position: int) -> int | None:
    for candidate in range(position, len(view) - _HEAD.size):
        # Nearly every wrong offset fails on its length alone: four bytes of JSON text read as > 500 MB.
        if _frame_at(view, candidate) is not None:
            return candidate
    return None
