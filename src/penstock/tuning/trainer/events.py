"""The run's log: one JSON object a line in `events.jsonl`, each flushed at once.

After a kill the trainer goes on from its last checkpoint, so steps after that one are told again. Who reads takes
`begun` with `resumed_from = N` to mean: what was told of steps after N does not count any more.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Number = float | int | None


class EventLog:
    """Appends events. The half line that a kill left behind is cut off when the file is opened."""

    def __init__(self, path: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        cut_torn_line(path)
        self.last_best_step = find_last_step(path, "best")
        """Which step was told last to be the best one, by whichever start of the run."""
        self._file = path.open("a", encoding="utf-8")

    def write(
        self,
        kind: str,
        *,
        step: int = 0,
        epoch: float | None = None,
        values: Mapping[str, Number] | None = None,
        text: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one event. A value that is not a finite number is written as null: JSON has no NaN."""
        line: dict[str, Any] = {"kind": kind, "at_ns": self._clock_ns(), "step": step}
        if epoch is not None:
            line["epoch"] = round(epoch, 6)
        if values:
            line["values"] = {name: keep_finite(value) for name, value in values.items()}
        if text:
            line["text"] = text
        if detail:
            line["detail"] = dict(detail)
        if kind == "best":
            self.last_best_step = step
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Flush to the disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def find_last_step(path: Path, kind: str) -> int | None:
    """Return the step of the last event of a kind; None where the file tells of none."""
    if not path.exists():
        return None
    found: int | None = None
    with path.open("rb") as file:
        for line in file:
            if kind.encode() in line:
                with suppress(ValueError):
                    event = json.loads(line)
                    found = event.get("step", 0) if event.get("kind") == kind else found
    return found


def cut_torn_line(path: Path) -> int:
    """Shorten the file to its last whole line and return the size that is left; 0 for a file that is not there."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        kept = end
        while kept > 0:
            start = max(0, kept - 65536)
            file.seek(start)
            found = file.read(kept - start).rfind(b"\n")
            if found >= 0:
                kept = start + found + 1
                break
            kept = start
        if kept != end:
            file.truncate(kept)
        return kept


def keep_finite(value: Number) -> Number:
    """Return the value, or None for one that JSON cannot write."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
