"""What goes by age: rules of the settings, carried out in small steps so that spans come in all the while."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError
from penstock.base.files import write_atomic
from penstock.store.spans.port import SpanUpkeep, SubjectReader
from penstock.store.spans.upkeep_types import Compaction, Expired, RetentionRule

DAY_NS = 86_400_000_000_000
STEP_SPANS = 20_000
PAUSE_S = 0.1
"""Between two steps, so that appends get their turn."""
_log = logging.getLogger("penstock.upkeep")


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """After how many days something goes; 0 is never."""

    payload_days: int = 0
    span_days: int = 0


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say."""

    usual: Ages = Ages()
    projects: Mapping[str, Ages] = {}
    """Projects with ages of their own, whole."""
    compact: bool = False
    every_hours: int = 24

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept."""
        return all(
            not each.payload_days and not each.span_days for each in (self.usual, *self.projects.values())
        )

    def rules(self, now_ns: int) -> list[RetentionRule]:
        """Return what is too old at a moment."""
        found = [_rule(name, ages, now_ns) for name, ages in sorted(self.projects.items())]
        return [*found, _rule(None, self.usual, now_ns)]


class RetentionRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did."""

    started_ns: int
    finished_ns: int
    n_payloads: int
    n_spans: int
    n_traces: int
    is_done: bool
    """False where it was stopped before everything was gone."""
    compaction: Compaction | None = None
    error: str | None = None


class RetentionState(msgspec.Struct, frozen=True, kw_only=True):
    """The last run, and all of them together."""

    last: RetentionRun | None = None
    n_runs: int = 0
    n_payloads: int = 0
    n_spans: int = 0
    n_traces: int = 0


def _rule(project: str | None, ages: Ages, now_ns: int) -> RetentionRule:
    return RetentionRule(
        project=project,
        payloads_before_ns=now_ns - ages.payload_days * DAY_NS if ages.payload_days else None,
        spans_before_ns=now_ns - ages.span_days * DAY_NS if ages.span_days else None,
    )


class Retention:
    """Carries the policy out. Every method may be called from any thread; one run at a time."""

    def __init__(
        self,
        upkeep: SpanUpkeep,
        reader: SubjectReader,
        read_policy: Callable[[], RetentionPolicy],
        state_path: Path,
        *,
        now_ns: Callable[[], int] = wall_clock,
        max_spans: int = STEP_SPANS,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._upkeep = upkeep
        self._reader = reader
        self._read_policy = read_policy
        self._path = state_path
        self._now_ns = now_ns
        self._max_spans = max_spans
        self._pause_s = pause_s
        self._guard = threading.Lock()

    @property
    def policy(self) -> RetentionPolicy:
        """What the settings say now."""
        return self._read_policy()

    @property
    def state(self) -> RetentionState:
        """What was done so far."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=RetentionState)
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return RetentionState()

    def is_due(self) -> bool:
        """Return whether a run is due: none yet, or the last one long enough ago."""
        policy, last = self._read_policy(), self.state.last
        if policy.is_empty:
            return False
        return last is None or self._now_ns() - last.started_ns >= policy.every_hours * 3_600_000_000_000

    def count(self) -> Expired:
        """Return what a run would delete now."""
        return self._reader.count_old(self._read_policy().rules(self._now_ns()))

    def run(self, stop: threading.Event | None = None) -> RetentionRun:
        """Delete what is too old, step by step until nothing is left or `stop` is set, and note what that was."""
        halt = stop or threading.Event()
        with self._guard:
            policy, started = self._read_policy(), self._now_ns()
            n_payloads = n_spans = n_traces = 0
            is_done, error = policy.is_empty, None
            compaction = None
            try:
                while not is_done and not halt.is_set():
                    step = self._upkeep.expire(policy.rules(started), max_spans=self._max_spans)
                    n_payloads, n_spans = n_payloads + step.n_payloads, n_spans + step.n_spans
                    n_traces, is_done = n_traces + step.n_traces, step.is_done
                    if not is_done:
                        halt.wait(self._pause_s)
                if policy.compact and is_done and n_payloads + n_spans:
                    compaction = self._upkeep.compact()
            except PenstockError as failure:
                error = f"{failure.message} [{failure.code}]"
            done = RetentionRun(
                started_ns=started,
                finished_ns=self._now_ns(),
                n_payloads=n_payloads,
                n_spans=n_spans,
                n_traces=n_traces,
                is_done=is_done,
                compaction=compaction,
                error=error,
            )
            self._note(done)
        return done

    def _note(self, done: RetentionRun) -> None:
        before = self.state
        after = RetentionState(
            last=done,
            n_runs=before.n_runs + 1,
            n_payloads=before.n_payloads + done.n_payloads,
            n_spans=before.n_spans + done.n_spans,
            n_traces=before.n_traces + done.n_traces,
        )
        try:
            write_atomic(self._path, msgspec.json.encode(after), mode=0o600)
        except OSError as error:
            _log.warning("what retention did cannot be noted", extra={"reason": str(error)})
        told = {"n_payloads": done.n_payloads, "n_spans": done.n_spans, "n_traces": done.n_traces}
        if done.error is not None:
            _log.error("retention failed", extra={"reason": done.error, **told})
        elif any(told.values()):
            _log.info("what was too old is gone", extra=told)
