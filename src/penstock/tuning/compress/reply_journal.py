"""Replies of a teacher that have come but are not part of a finished step yet: one line each, on the disk before anything goes on.

A wave of calls is kept as a whole when all of it has come. Who is killed in its middle has paid for what had come by then, so each
reply is written down by itself as it arrives; what reads the wave again asks only for the rest.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from penstock.tuning.compress.distilling import TeacherReply


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    call: str
    reply: TeacherReply


class ReplyJournal:
    """`tuning.compress.distilling.ArrivedReplies` in a file. Safe for threads; one process at a time."""

    def __init__(self, path: Path) -> None:
        """A last line that a kill has cut is left out, as are lines that are none."""
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, list[TeacherReply]] = {}
        with suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                with suppress(msgspec.DecodeError):
                    found = msgspec.json.decode(line, type=_Line)
                    self._known.setdefault(found.call, []).append(found.reply)

    def attempts(self, call: str) -> Sequence[TeacherReply]:
        """Return what came of the attempts of a call so far, oldest first."""
        with self._lock:
            return tuple(self._known.get(call, ()))

    def keep(self, call: str, reply: TeacherReply) -> None:
        """Write down what came of one attempt; it is on the disk on return."""
        line = msgspec.json.encode(_Line(call=call, reply=reply))
        with self._lock:
            self._known.setdefault(call, []).append(reply)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # begins a line of its own, whatever a kill has left of the one before
                file.write(b"\n" + line + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def clear(self) -> None:
        """Forget all: it is part of a finished step by now."""
        with self._lock:
            self._known = {}
            self._path.unlink(missing_ok=True)
