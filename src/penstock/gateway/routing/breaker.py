"""The circuit breaker as a state machine over shared numbers. Knows no clock and no lock: both are the caller's.

A circuit is closed, open until a moment, or half open from then on: one call at a time is let through (the probe) until
one succeeds. Its numbers lie in memory that several processes read and write, so each is one float that is written
whole; only the taking of the probe needs a lock. Outcomes are tallied by each process in a place of its own.
"""

from collections.abc import Iterable
from typing import Literal, Protocol

from penstock.spec.routes import BreakerPolicy

CircuitState = Literal["closed", "open", "half-open"]

N_BUCKETS = 10
TALLY_CELLS = 1 + 3 * N_BUCKETS
CIRCUIT_CELLS = 3

_OPEN_UNTIL, _PROBE_UNTIL, _GENERATION = range(CIRCUIT_CELLS)


class Floats(Protocol):
    """Numbers in memory: an array, or a view of a mapped file."""

    def __getitem__(self, at: int, /) -> float: ...

    def __setitem__(self, at: int, value: float, /) -> None: ...


class Circuit:
    """One target's circuit, over `CIRCUIT_CELLS` floats of `cells` from `start` on, zeroes at first."""

    __slots__ = ("_cells", "_start")

    def __init__(self, cells: Floats, start: int) -> None:
        self._cells = cells
        self._start = start

    @property
    def open_until(self) -> float:
        """When a probe may be sent; 0 while the circuit is closed."""
        return self._cells[self._start + _OPEN_UNTIL]

    @property
    def generation(self) -> float:
        """Rises each time the circuit closes; tallies of an earlier one do not count."""
        return self._cells[self._start + _GENERATION]

    def state(self, now: float) -> CircuitState:
        """Return the state at `now`."""
        until = self.open_until
        if until == 0.0:
            return "closed"
        return "open" if now < until else "half-open"

    def free_at(self, now: float) -> float:
        """Return when the next call may pass, `now` or before it if one may now."""
        return max(self.open_until, self._cells[self._start + _PROBE_UNTIL]) if self.open_until else now

    def take_probe(self, now: float, lease_s: float) -> bool:
        """Return whether this call is the probe. To be called under a lock that all users of the cells share.

        The probe is taken for `lease_s`, after which another call may have it: a process may die with it.
        """
        if self.state(now) != "half-open" or now < self._cells[self._start + _PROBE_UNTIL]:
            return False
        self._cells[self._start + _PROBE_UNTIL] = now + lease_s
        return True

    def give_probe_back(self) -> None:
        """Say that the probe ended without telling anything: another call may be it."""
        self._cells[self._start + _PROBE_UNTIL] = 0.0

    def open(self, until: float) -> None:
        """Let no call through until `until`."""
        self._cells[self._start + _OPEN_UNTIL] = until
        self._cells[self._start + _PROBE_UNTIL] = 0.0

    def close(self) -> None:
        """Let calls through, and begin to count anew."""
        self._cells[self._start + _GENERATION] += 1.0
        self._cells[self._start + _PROBE_UNTIL] = 0.0
        self._cells[self._start + _OPEN_UNTIL] = 0.0


class Tally:
    """Good and bad outcomes in a sliding window, over `TALLY_CELLS` floats. One process writes, others may read."""

    __slots__ = ("_bucket_s", "_cells", "_start")

    def __init__(self, cells: Floats, start: int, window_s: float) -> None:
        self._cells = cells
        self._start = start
        self._bucket_s = window_s / N_BUCKETS

    def count(self, now: float, generation: float, *, is_bad: bool, amount: float = 1.0) -> None:
        """Count an outcome. A negative `amount` takes back what was counted just now, as far as it is there."""
        cells, start = self._cells, self._start
        if cells[start] != generation:
            for index in range(start + 1, start + TALLY_CELLS):
                cells[index] = 0.0
            cells[start] = generation
        number = float(int(now / self._bucket_s) + 1)
        at = start + 1 + 3 * (int(number) % N_BUCKETS)
        if cells[at] != number:
            cells[at] = number
            cells[at + 1] = cells[at + 2] = 0.0
        cells[at + 1 + is_bad] = max(0.0, cells[at + 1 + is_bad] + amount)

    def read(self, now: float, generation: float) -> tuple[float, float]:
        """Return (good, bad) of the window that ends now."""
        cells, start = self._cells, self._start
        if cells[start] != generation:
            return 0.0, 0.0
        oldest = float(int(now / self._bucket_s) + 1 - N_BUCKETS)
        good = bad = 0.0
        for at in range(start + 1, start + TALLY_CELLS, 3):
            if cells[at] > oldest:
                good += cells[at + 1]
                bad += cells[at + 2]
        return good, bad


def should_open(policy: BreakerPolicy, counts: Iterable[tuple[float, float]]) -> bool:
    """Return whether the (good, bad) outcomes of all processes are reason to open."""
    good = bad = 0.0
    for some_good, some_bad in counts:
        good += some_good
        bad += some_bad
    total = good + bad
    return bad > 0 and total >= policy.min_calls and bad >= policy.failure_ratio * total
