"""How the targets are: requests in flight, time to the first content, circuit breakers. Shared by a machine's workers.

`HealthBoard.enter` begins an attempt and gives a `Lease`, unless the breaker lets nothing through; the lease is told how
the attempt went and ends with its reply. Targets that are the same place with the same breaker policy are one, whatever
route they stand in. A worker's own counts die with it: sections whose owner has not shown itself for some seconds are
left out of sums.

Callers of an open route choose the model, so what one model does says nothing of the others: each has a health of its
own, behind the one of the place (the *door*), which only failed connections close.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

from penstock.gateway.routing.affinity import AFFINITY_WORDS, Affinity
from penstock.gateway.routing.breaker import (
    CIRCUIT_CELLS,
    TALLY_CELLS,
    Circuit,
    CircuitState,
    Floats,
    Tally,
    should_open,
)
from penstock.gateway.shared_memory import SharedMemory
from penstock.spec.routes import BreakerPolicy, FaultKind, Provider

N_SLOTS = 256
"""Targets that are shared; more than these are known to each worker alone."""
N_CHOSEN_MODELS = 256
"""Models of open routes whose health a worker remembers; the one asked for longest ago is forgotten first."""
BEAT_WITHIN_S = 5.0
MAX_REST_S = 60.0
_TAU_S = 10.0
"""How quickly an old latency is forgotten."""
_LEAST_PENALTY_S = 0.5
_FAULTS: tuple[FaultKind, ...] = ("connect", "timeout", "rate-limit", "server-error")

# common part of a slot: who it is, the circuit, until when it rests, why it failed last
_ID, _CIRCUIT, _REST_UNTIL, _LAST_FAULT = 0, 1, 1 + CIRCUIT_CELLS, 2 + CIRCUIT_CELLS
_COMMON_CELLS = 3 + CIRCUIT_CELLS
# a worker's part of a slot
_IN_FLIGHT, _LATENCY, _LATENCY_AT, _TALLY = 0, 1, 2, 3
_OWN_CELLS = 3 + TALLY_CELLS
_SECTION_HEAD = 1  # the worker's last sign of life
_LOCK_TRIES = 100
N_COMMON_WORDS = N_SLOTS * _COMMON_CELLS + AFFINITY_WORDS
N_OWN_WORDS = _SECTION_HEAD + N_SLOTS * _OWN_CELLS
"""How many words the shared file has for all, and for each worker."""


def name_target(provider: Provider, model: str) -> str:
    """Return under which name a target's health is kept; `*` is the model of routes that are open to all of them."""
    return f"{provider.name} {provider.base_url} {model}"


def name_slot(health_id: str, policy: BreakerPolicy | None) -> float:
    """Return what stands in a target's slot: 48 bits of a digest, so that a float holds them exactly; never 0."""
    digest = blake2b(repr((health_id, policy)).encode(), digest_size=6).digest()
    return float(int.from_bytes(digest, "big") or 1)


def find_slot(floats: Floats, name: float) -> int | None:
    """Return the slot of this name, or None."""
    for slot in range(N_SLOTS):
        there = floats[slot * _COMMON_CELLS + _ID]
        if there == name:
            return slot
        if there == 0.0:
            return None
    return None


class Lease:
    """One attempt at one target. `end` it exactly when its reply is over; everything else is optional."""

    __slots__ = ("_door", "_health", "_is_over", "_is_probe", "_policy", "_voted_good")

    def __init__(
        self,
        health: "TargetHealth",
        policy: BreakerPolicy | None,
        *,
        is_probe: bool,
        door: "Lease | None" = None,
    ) -> None:
        """`door` is the lease of the place that the target is one model of."""
        self._health = health
        self._door = door
        self._policy = policy
        self._is_probe = is_probe
        self._is_over = False
        self._voted_good = False

    def succeed(self, first_content_s: float | None) -> None:
        """Say that the target has begun to answer well (also: that it rightly refused a wrong request)."""
        if self._door is not None:
            self._door.succeed(first_content_s)
        self._voted_good = True
        self._health.note_good(first_content_s, self._policy, is_probe=self._is_probe)
        self._is_probe = False

    def fail(self, fault: FaultKind | None = None, *, took_s: float = 0.0) -> None:
        """Say that the target failed, before its answer or in the middle of it. A rate limit is no failure."""
        if self._door is not None:
            if fault == "connect":
                self._door.fail(fault, took_s=took_s)
                return
            if fault != "timeout" and not self._voted_good:
                self._door.succeed(None)  # somebody was there to fail
        self._health.note_bad(
            fault, took_s, self._policy, is_probe=self._is_probe, takes_back=self._voted_good
        )
        self._voted_good = self._is_probe = False

    def end(self) -> None:
        """Say that the attempt is over. May be called twice. Without a vote before, it says nothing of the target."""
        if self._is_over:
            return
        self._is_over = True
        if self._door is not None:
            self._door.end()
        self._health.leave()
        if self._is_probe:
            self._health.circuit.give_probe_back()


class TargetHealth:
    """One target as this worker writes it, and as all workers together know it."""

    __slots__ = ("_common", "_door", "_floats", "_memory", "_now", "_own", "_slot", "circuit", "tally")

    def __init__(
        self,
        memory: SharedMemory,
        slot: int,
        window_s: float,
        monotonic: Callable[[], float],
        *,
        door: "TargetHealth | None" = None,
    ) -> None:
        """`door` is the health of the place that this is one model of."""
        self._door = door
        self._memory = memory
        self._floats = memory.floats
        self._now = monotonic
        self._slot = slot
        self._common = slot * _COMMON_CELLS
        self._own = memory.own_start + _SECTION_HEAD + slot * _OWN_CELLS
        self.circuit = Circuit(memory.floats, self._common + _CIRCUIT)
        self.tally = Tally(memory.floats, self._own + _TALLY, window_s)

    # -- what is known

    @property
    def in_flight(self) -> float:
        """Attempts and replies under way, over all workers; of the whole place where this is one model of it."""
        if self._door is not None:
            return self._door.in_flight
        floats = self._floats
        return sum(floats[start + _IN_FLIGHT] for start in self._living())

    @property
    def latency_s(self) -> float:
        """Seconds to the first content, recent and bad ones weighing most; 0 when nothing is known lately."""
        floats, now = self._floats, self._now()
        known = [
            floats[start + _LATENCY] * math.exp((floats[start + _LATENCY_AT] - now) / (6 * _TAU_S))
            for start in self._living()
            if floats[start + _LATENCY_AT] > 0
        ]
        return sum(known) / len(known) if known else 0.0

    @property
    def state(self) -> CircuitState:
        """Of the circuit breaker."""
        return self.circuit.state(self._now())

    @property
    def is_resting(self) -> bool:
        """Whether the target asked to be left alone and the time is not over."""
        until = self._floats[self._common + _REST_UNTIL]
        return until != 0.0 and self._now() < until

    @property
    def last_fault(self) -> FaultKind | None:
        """Of the last failure that counted."""
        if self._door is not None and self._door.circuit.open_until != 0.0:
            return self._door.last_fault
        number = int(self._floats[self._common + _LAST_FAULT])
        return _FAULTS[number - 1] if 0 < number <= len(_FAULTS) else None

    def free_in_s(self) -> float:
        """Return in how many seconds the breaker may let a call through, 0 if it may now."""
        now = self._now()
        own = max(0.0, self.circuit.free_at(now) - now)
        return own if self._door is None else max(own, self._door.free_in_s())

    def recent(self, policy: BreakerPolicy) -> tuple[float, float]:
        """Return (good, bad) outcomes within the breaker's window, over all workers."""
        counts = list(self._counts(self._now(), self.circuit.generation, policy))
        return sum(good for good, _ in counts), sum(bad for _, bad in counts)

    # -- what happens

    def enter(self, policy: BreakerPolicy | None) -> Lease | None:
        """Begin an attempt; None if the breaker lets nothing through."""
        is_probe = False
        if policy is not None and self.circuit.open_until != 0.0:
            now = self._now()
            if self.circuit.state(now) == "open":
                return None
            with self._memory.try_lock() as has_lock:
                if not has_lock or not self.circuit.take_probe(now, policy.open_s):
                    return None
            is_probe = True
        door = None
        if self._door is not None and (door := self._door.enter(policy)) is None:
            if is_probe:
                self.circuit.give_probe_back()
            return None
        self._floats[self._own + _IN_FLIGHT] += 1.0
        return Lease(self, policy, is_probe=is_probe, door=door)

    def leave(self) -> None:
        """Count one attempt less."""
        floats, at = self._floats, self._own + _IN_FLIGHT
        floats[at] = max(0.0, floats[at] - 1.0)

    def rest(self, seconds: float) -> None:
        """Ask others first for `seconds`, a minute at most."""
        until = self._now() + min(seconds, MAX_REST_S)
        self._floats[self._common + _REST_UNTIL] = until

    def note_good(
        self, first_content_s: float | None, policy: BreakerPolicy | None, *, is_probe: bool
    ) -> None:
        """Count a success; that of a probe closes the circuit."""
        now = self._now()
        if is_probe:
            self.circuit.close()
        if policy is not None:
            self.tally.count(now, self.circuit.generation, is_bad=False)
        if first_content_s is not None:
            self._observe(now, first_content_s)

    def note_bad(
        self,
        fault: FaultKind | None,
        took_s: float,
        policy: BreakerPolicy | None,
        *,
        is_probe: bool,
        takes_back: bool,
    ) -> None:
        """Count a failure, which may open the circuit. With `takes_back` it was counted as a success before."""
        now = self._now()
        floats = self._floats
        # a target that fails quickly must not look like a quick one
        self._observe(now, max(took_s, 2 * floats[self._own + _LATENCY], _LEAST_PENALTY_S))
        if fault == "rate-limit":
            if is_probe:
                self.circuit.give_probe_back()
            return
        if fault in _FAULTS:
            floats[self._common + _LAST_FAULT] = float(_FAULTS.index(fault) + 1)
        if policy is None:
            return
        if is_probe:
            self.circuit.open(now + policy.open_s)
            return
        generation = self.circuit.generation
        if takes_back:
            self.tally.count(now, generation, is_bad=False, amount=-1.0)
        self.tally.count(now, generation, is_bad=True)
        # what ends now may have begun before the circuit opened: only a probe says something about an open one
        if self.circuit.open_until == 0.0 and should_open(policy, self._counts(now, generation, policy)):
            self.circuit.open(now + policy.open_s)

    def _observe(self, now: float, seconds: float) -> None:
        floats, at = self._floats, self._own + _LATENCY
        before, since = floats[at], floats[self._own + _LATENCY_AT]
        if since > 0 and seconds < before:
            # peaks are believed at once, good news only slowly (Finagle's peak EWMA)
            keep = math.exp((since - now) / _TAU_S)
            seconds = before * keep + seconds * (1.0 - keep)
        floats[at] = seconds
        floats[self._own + _LATENCY_AT] = now

    def _counts(self, now: float, generation: float, policy: BreakerPolicy) -> Iterator[tuple[float, float]]:
        for start in self._memory.section_starts():
            place = start + _SECTION_HEAD + self._slot * _OWN_CELLS + _TALLY
            yield Tally(self._floats, place, policy.window_s).read(now, generation)

    def _living(self) -> Iterator[int]:
        floats, offset = self._floats, _SECTION_HEAD + self._slot * _OWN_CELLS
        own = self._own
        oldest = self._now() - BEAT_WITHIN_S
        for start in self._memory.section_starts():
            if start + offset == own or floats[start] >= oldest:
                yield start + offset


class HealthBoard:
    """The health of all targets. One per process."""

    def __init__(
        self, folder: Path | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Share through `folder` with the other workers of this machine; without one, know only what happens here."""
        self.monotonic = monotonic
        self.memory = SharedMemory(folder, n_common=N_COMMON_WORDS, n_own=N_OWN_WORDS)
        self.affinity = Affinity(self.memory.words[N_COMMON_WORDS - AFFINITY_WORDS : N_COMMON_WORDS])
        self._targets: dict[tuple[str, BreakerPolicy | None], TargetHealth] = {}
        self._chosen: OrderedDict[tuple[str, str, BreakerPolicy | None], TargetHealth] = OrderedDict()
        self.beat()

    def target(self, health_id: str, policy: BreakerPolicy | None) -> TargetHealth:
        """Return the health of one target, which is shared by all that ask with the same policy."""
        key = (health_id, policy)
        found = self._targets.get(key)
        if found is None:
            slot = self._slot(key)
            memory = self.memory if slot is not None else _private_slot()
            found = TargetHealth(memory, slot or 0, _window_s(policy), self.monotonic)
            self._targets[key] = found
        return found

    def chosen(self, health_id: str, model: str, policy: BreakerPolicy | None) -> TargetHealth:
        """Return the health of a model that a caller chose at the place `health_id`. Known to this worker alone."""
        key = (health_id, model, policy)
        found = self._chosen.get(key)
        if found is not None:
            self._chosen.move_to_end(key)
            return found
        door = self.target(health_id, policy)
        made = TargetHealth(_private_slot(), 0, _window_s(policy), self.monotonic, door=door)
        self._chosen[key] = made
        if len(self._chosen) > N_CHOSEN_MODELS:
            self._chosen.popitem(last=False)
        return made

    def beat(self) -> None:
        """Show that this worker lives. To be called about once a second."""
        self.memory.floats[self.memory.own_start] = self.monotonic()

    def n_workers(self) -> int:
        """Return how many workers live, this one included."""
        floats, own = self.memory.floats, self.memory.own_start
        oldest = self.monotonic() - BEAT_WITHIN_S
        return sum(start == own or floats[start] >= oldest for start in self.memory.section_starts())

    def close(self) -> None:
        """Let go of the memory. Nothing that came from here may be used any more."""
        self._targets.clear()
        self._chosen.clear()
        self.memory.close()

    def _slot(self, key: tuple[str, BreakerPolicy | None]) -> int | None:
        name = name_slot(*key)
        found = find_slot(self.memory.floats, name)
        if found is not None:
            return found
        for _ in range(_LOCK_TRIES):
            with self.memory.try_lock() as has_lock:
                if has_lock:
                    return self._take_slot(name)
        return None

    def _take_slot(self, name: float) -> int | None:
        found = find_slot(self.memory.floats, name)
        if found is not None:
            return found
        floats = self.memory.floats
        for slot in range(N_SLOTS):
            if floats[slot * _COMMON_CELLS + _ID] == 0.0:
                floats[slot * _COMMON_CELLS + _ID] = name
                return slot
        return None


def _window_s(policy: BreakerPolicy | None) -> float:
    return (policy or BreakerPolicy()).window_s


def _private_slot() -> SharedMemory:
    return SharedMemory(None, n_common=_COMMON_CELLS, n_own=_SECTION_HEAD + _OWN_CELLS)
