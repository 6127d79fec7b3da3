"""Events of runs, read from `events.jsonl` as the trainer writes it. The file is the truth of curves and samples.

A cursor is the byte behind the last line that was read, so a page costs what it holds. A line that is not whole yet is
left for the next time. After a resume the trainer goes on behind a checkpoint: what an attempt wrote beyond it was lost
with that attempt, so curves take the last value of each step, and `kept_events` leaves lost steps out.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock.spec.tuning import RunEvent
from penstock.tuning.runs.types import Curve, CurvePoint, EventPage, Sample

EVENTS = "events.jsonl"
MAX_PAGE = 5000
COUNTS = frozenset({"n"})
"""Values that say how many rows a figure is over: no curves."""
_decoder = msgspec.json.Decoder(RunEvent)


def read_events(
    path: Path, *, after: int = 0, kinds: Collection[str] = (), limit: int = 1000, is_final: bool = False
) -> EventPage:
    """Return events behind byte `after`, oldest first, of some kinds or all; lines that are no event are left out."""
    rows: list[RunEvent] = []
    position = max(0, after)
    for event, end in _walk(path, position):
        position = end
        if event is not None and (not kinds or event.kind in kinds):
            rows.append(event)
        if len(rows) >= min(limit, MAX_PAGE):
            return EventPage(rows=rows, next_after=position)
    return EventPage(rows=rows, next_after=position, is_final=is_final)


def iter_events(path: Path) -> Iterator[RunEvent]:
    """Yield all events, oldest first."""
    return (event for event, _ in _walk(path, 0) if event is not None)


def kept_events(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Return the events without the steps that were lost by a resume from an earlier checkpoint."""
    kept: list[RunEvent] = []
    for event in events:
        resumed = event.detail.get("resumed_from") if event.kind == "begun" else None
        if event.kind == "begun":
            start = step_of(resumed)
            kept = [each for each in kept if each.kind in {"begun", "note", "fault"} or each.step <= start]
        kept.append(event)
    return kept


def read_curves(path: Path, *, max_points: int = 500) -> list[Curve]:
    """Return each figure of steps and evaluations over the steps, thinned evenly to `max_points`, ends kept."""
    values: dict[str, dict[int, float]] = {}
    for event in kept_events(iter_events(path)):
        if event.kind not in {"step", "eval"}:
            continue
        for name, value in event.values.items():
            if name not in COUNTS and value is not None and math.isfinite(value):
                values.setdefault(f"{event.kind}.{name}", {})[event.step] = float(value)
    curves = []
    for name, by_step in sorted(values.items()):
        points = [CurvePoint(step=step, value=by_step[step]) for step in sorted(by_step)]
        curves.append(Curve(name=name, points=thin(points, max_points), n_points=len(points)))
    return curves


def thin(points: list[CurvePoint], max_points: int) -> list[CurvePoint]:
    """Return at most `max_points` of them, evenly spread, the first and the last among them."""
    if len(points) <= max_points or max_points < 2:
        return points[:max_points] if max_points < 2 else points
    last = len(points) - 1
    return [points[round(number * last / (max_points - 1))] for number in range(max_points)]


def read_samples(path: Path) -> list[Sample]:
    """Return the replies to held-out prompts, oldest first."""
    return [
        Sample(
            step=event.step,
            prompt=str(event.detail.get("prompt") or ""),
            reference=_text(event.detail.get("reference")),
            reply=event.text,
            row=event.detail.get("row") if isinstance(event.detail.get("row"), int) else None,
        )
        for event in kept_events(iter_events(path))
        if event.kind == "sample"
    ]


def last_figures(path: Path) -> dict[str, float]:
    """Return the last value of each curve."""
    return {curve.name: curve.points[-1].value for curve in read_curves(path) if curve.points}


def step_of(path: Any) -> int:
    """Return 40 for 40 and for `checkpoints/step-40`, 0 for what names no step."""
    if isinstance(path, int):
        return path
    _, _, number = str(path or "").rpartition("step-")
    return int(number) if number.isdigit() else 0


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _walk(path: Path, after: int) -> Iterator[tuple[RunEvent | None, int]]:
    """Yield each whole line's event with the byte behind it; None for a line that is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(after)
        for line in file:
            if not line.endswith(b"\n"):
                return
            after += len(line)
            try:
                event = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):  # cut by a kill, and followed by a fresh line
                event = None
            yield event, after
