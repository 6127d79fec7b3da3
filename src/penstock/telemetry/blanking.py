"""Makes single records of a spool unreadable that were stored already and whose bytes are still there.

A segment goes when everything in it was stored; until then its records stay on disk. Only records that the reader has
acknowledged are touched, with a record of the same length in their place, so that a writer and a reader at work on the
same segment see nothing of it.
"""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.spec.spans import Span
from penstock.telemetry.encode import decode_span
from penstock.telemetry.frames import encode_frame, scan_frames
from penstock.telemetry.segments import list_segments
from penstock.telemetry.spool import Position, SpoolReader

_HEAD_BYTES = 8
_NOTHING = b"{}"


class Blanked(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    n_records: int = 0
    n_waiting: int = 0
    """Records to be made unreadable that are not stored yet."""


def blank_records(root: Path, is_doomed: Callable[[Span], bool], *, with_waiting: bool = False) -> Blanked:
    """Blank the stored records below `root`, a folder of spool folders, that hold a doomed span.

    `with_waiting` blanks those too that were not read yet, where nothing but the span itself depends on them.
    """
    n_records = n_waiting = 0
    folders = [path for path in root.iterdir() if path.is_dir()] if root.exists() else []
    for folder in folders:
        try:
            done = SpoolReader(folder).position
            segments = list_segments(folder)
        except FileNotFoundError:
            continue
        for number, path in segments:
            limit = Position(number + 1, 0) if with_waiting else done
            blanked, waiting = _blank_segment(path, number, limit, is_doomed)
            n_records, n_waiting = n_records + blanked, n_waiting + waiting
    return Blanked(n_records=n_records, n_waiting=n_waiting)


def _blank_segment(
    path: Path, number: int, limit: Position, is_doomed: Callable[[Span], bool]
) -> tuple[int, int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # everything in it was stored meanwhile
        return 0, 0
    n_blanked = n_waiting = 0
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read()
        scan = scan_frames(data, base=0, is_final=False, skip_damage=True, max_bytes=len(data) + 1)
        for payload, end in scan.frames:
            if not _holds_doomed(payload, is_doomed):
                continue
            if Position(number, end) > limit:
                n_waiting += 1
                continue
            blank = encode_frame(_NOTHING.ljust(len(payload)))
            os.pwrite(descriptor, blank, end - len(payload) - _HEAD_BYTES)
            n_blanked += 1
        if n_blanked:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return n_blanked, n_waiting


def _holds_doomed(payload: bytes, is_doomed: Callable[[Span], bool]) -> bool:
    try:
        return is_doomed(decode_span(payload))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
