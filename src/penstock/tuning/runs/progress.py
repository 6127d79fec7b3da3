"""What the events of a run mean for its record and for those who wait: step, best value, time left."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from penstock.spec.tuning import FrozenRun, RunEvent, RunRecord
from penstock.tuning.runs.events import step_of
from penstock.tuning.runs.ports import RunContext
from penstock.tuning.runs.queries import RunStore

WRITE_EVERY_S = 1.0
RATE_STEPS = 200
"""The time left is told from so many last steps: the first ones are slower than the rest."""


class RunProgress:
    """Reads events as they come. Writes the record at most once a second, and when told to."""

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        frozen: FrozenRun,
        context: RunContext,
        *,
        share: tuple[float, float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._run_id, self._context = store, run_id, context
        self._metric = frozen.recipe.evaluation.metric
        self._share = share
        self._monotonic = monotonic
        self._written_s = -math.inf
        self._pending: dict[str, Any] = {}
        self._evals: dict[int, dict[str, Any]] = {}
        self._times: list[tuple[int, int]] = []
        self.n_steps: int | None = frozen.n_steps or None
        self.step = 0
        self.loss: float | None = None

    def catch_up(self, events: Iterable[RunEvent]) -> None:
        """Read what was told before this start, without telling anybody."""
        for event in events:
            self._read(event)
        self._times = []

    def take(self, event: RunEvent) -> None:
        """Read one event and pass on what it says."""
        self._read(event)
        if event.kind in {"note", "fault"} and event.text:
            self._context.log(f"step {event.step}: {event.text}")
        elif event.kind == "begun" and (resumed := event.detail.get("resumed_from")) is not None:
            self._context.log(f"the trainer goes on from {resumed}")
        elif event.kind == "best":
            self._context.log(f"step {event.step}: best so far{self._best_text()}")
        if self._monotonic() - self._written_s >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Bring the record up to what was read."""
        self._written_s = self._monotonic()
        pending, self._pending = self._pending, {}
        if pending:
            self._store.change(self._run_id, lambda record: _changed(record, pending))
        self._context.progress(self._fraction(), self._message())

    def _read(self, event: RunEvent) -> None:
        if event.kind == "begun":
            self._times = []
            self.step = step_of(event.detail.get("resumed_from"))
            n_steps = event.detail.get("n_steps")
            if isinstance(n_steps, int) and n_steps > 0:
                self.n_steps = n_steps
            self._pending |= {"step": self.step, "n_steps": self.n_steps}
        elif event.kind == "step":
            self.step = event.step
            self.loss = event.values.get("loss")
            self._times = [*self._times[-RATE_STEPS:], (event.step, event.at_ns)]
            self._pending["step"] = event.step
        elif event.kind == "eval":
            self._evals[event.step] = dict(event.values)
        elif event.kind == "best":
            values = {**self._evals.get(event.step, {}), **event.values}
            self._pending["best"] = {
                "step": event.step,
                "metric": self._metric,
                "value": values.get(self._metric, event.values.get("value")),
                "n": values.get("n"),
            }

    def seconds_left(self) -> float | None:
        """Return the time until the last step at the present pace; None before that is known."""
        if self.n_steps is None or len(self._times) < 2:
            return None
        (first, first_ns), (last, last_ns) = self._times[0], self._times[-1]
        if last <= first or last_ns <= first_ns:
            return None
        return (self.n_steps - last) * (last_ns - first_ns) / 1e9 / (last - first)

    def _fraction(self) -> float | None:
        if self.n_steps is None:
            return None
        start, end = self._share
        return start + (end - start) * min(1.0, self.step / self.n_steps)

    def _message(self) -> str:
        of = f" of {self.n_steps}" if self.n_steps is not None else ""
        loss = f", loss {self.loss:.4g}" if self.loss is not None else ""
        left = self.seconds_left()
        return f"step {self.step}{of}{loss}" + (f", {duration_text(left)} left" if left is not None else "")

    def _best_text(self) -> str:
        best = self._pending.get("best") or {}
        value = best.get("value")
        return "" if value is None else f", {self._metric} {value:.4g}"


def duration_text(seconds: float) -> str:
    """Return `42 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _changed(record: RunRecord, pending: dict[str, Any]) -> RunRecord:
    return msgspec.structs.replace(record, **pending)
