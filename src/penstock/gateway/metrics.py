"""What a gateway worker counts, and the page on which all workers' counts are read.

`observe` is called once at the end of each call and costs about two microseconds: where a series' numbers lie is looked
up once for each combination of labels. Combinations are bounded by the room in the worker's file; calls that come with
new ones after that are counted under `other`.
"""

import asyncio
import logging
import os
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from penstock.gateway.calls import Call
from penstock.gateway.health import HealthBoard
from penstock.gateway.metering import families as named
from penstock.gateway.metering.cells import Cells
from penstock.gateway.metering.families import Family
from penstock.gateway.metering.text import write_text
from penstock.gateway.metering.totals import Totals, add, collect
from penstock.gateway.table import Table

_log = logging.getLogger("penstock.gateway")

PULSE_S = 1.0
_LAG_SAMPLES = 15
_OTHER = "other"
_NONE = ""
_ANY = "*"
"""The model in calls to open routes that failed: whoever asks there chooses the name."""
_MAX_LABEL_CHARS = 200
_STATES = {"closed": 0.0, "half-open": 1.0, "open": 2.0}
_DURATION_BOUNDS, _DURATION_SUM = named.DURATION.bounds, named.DURATION.n_values - 1
_OVERHEAD_BOUNDS, _OVERHEAD_SUM = named.OVERHEAD.bounds, named.OVERHEAD.n_values - 1
_FIRST_BOUNDS, _FIRST_SUM = named.FIRST_TOKEN.bounds, named.FIRST_TOKEN.n_values - 1
_TOKEN_BOUNDS, _TOKEN_SUM = named.TOKENS.bounds, named.TOKENS.n_values - 1
_MADE_EARLY = frozenset(
    family.name for family in (named.ATTEMPTS, named.OVERHEAD, named.FIRST_TOKEN, named.TOKENS)
)
"""Families whose places are taken with a call's series, before there is something to count."""
_LIMITS = {"PS-2601": "rate", "PS-2641": "budget"}


class _Series:
    """Where the numbers of all calls with the same route, target, dialect and operation lie."""

    __slots__ = (
        "_gen_ai",
        "_labels",
        "_metrics",
        "_place",
        "cost",
        "durations",
        "first_token",
        "input",
        "output",
        "overhead",
        "route",
        "served",
        "statuses",
    )

    def __init__(self, metrics: "Metrics", labels: tuple[str, str, str, str, str]) -> None:
        route, provider, model, dialect, operation = labels
        self.route = route
        self._labels = (route, provider, model, dialect)
        self._gen_ai = (operation, provider, route, model)
        self._metrics = metrics
        self.statuses: dict[int | None, int] = {}
        self.durations: dict[str | None, int] = {}
        self.cost: int | None = None
        """Of a series whose cost was known at least once: 0 must not stand for what nobody knows."""
        self._place = (route, provider, model)
        self.overhead = metrics.place(named.OVERHEAD, (dialect,))
        self.served = metrics.place(named.ATTEMPTS, (provider, model, "served"))
        self.first_token = metrics.place(named.FIRST_TOKEN, self._gen_ai)
        self.input = metrics.place(named.TOKENS, (*self._gen_ai, "input"))
        self.output = metrics.place(named.TOKENS, (*self._gen_ai, "output"))

    def add_cost(self, usd: Decimal | None) -> None:
        if usd is None:
            self._metrics.count(named.UNPRICED, *self._place)
            return
        if self.cost is None:
            self.cost = self._metrics.place(named.COST, self._place)
        self._metrics.add(self.cost, float(usd))

    def add_status(self, status: int | None) -> int:
        route, provider, model, dialect = self._labels
        shown = _NONE if status is None else str(status)
        at = self.statuses[status] = self._metrics.place(
            named.REQUESTS, (route, provider, model, shown, dialect)
        )
        return at

    def add_duration(self, error_code: str | None) -> int:
        at = self.durations[error_code] = self._metrics.place(
            named.DURATION, (*self._gen_ai, error_code or _NONE)
        )
        return at


class Metrics:
    """The counts of this worker, and a view of all. One per process, on one event loop."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        health: HealthBoard | None = None,
        spans_lost: Callable[[], dict[str, int]] = dict,
    ) -> None:
        """Keep counts in a file in `folder`, where other workers find them; without one they are this worker's alone.

        `spans_lost` counts since the start by what was lost.
        """
        self._folder = folder
        self._worker = str(os.getpid())
        self._name = f"{self._worker}-{time.time_ns()}.bin"
        self._health = health
        self.n_active: Callable[[], int] = lambda: 0
        """Gives the calls being served."""
        self.limits: Callable[[], tuple[bool, int]] = lambda: (False, 0)
        """Gives whether limits are held without the others, and how often Redis was lost."""
        self._spans_lost = spans_lost
        self._cells = self._open()
        self._floats = self._cells.floats
        self._series: dict[tuple[str, str, str, str, str], _Series] = {}
        self._single: dict[tuple[str, tuple[str, ...]], int] = {}
        self._lags: deque[float] = deque(maxlen=_LAG_SAMPLES)
        for family in named.FAMILIES.values():  # so that there is always a place for what has none
            if family.labels:
                self._spill(family)

    # -- counting

    def observe(self, call: Call) -> None:
        """Count a finished call."""
        ready, target = call.asked or call.route, call.target
        error = call.error_code
        route = ready.route.name if ready is not None else _NONE
        model = target.model if target is not None else _NONE
        if error is not None and ready is not None and ready.row.endswith("/*"):
            route, model = ready.row, _ANY if target is not None else _NONE  # names that callers made up
        key = (
            route,
            target.provider.name if target is not None else _NONE,
            model,
            call.dialect,
            call.operation,
        )
        series = self._series.get(key)
        if series is None:
            series = self._make_series(key)
        floats = self._floats
        status = call.http_status
        at = series.statuses.get(status)
        floats[series.add_status(status) if at is None else at] += 1.0
        at = series.durations.get(error)
        if at is None:
            at = series.add_duration(error)
        took_s = time.perf_counter() - call.started_at
        floats[at + bisect_left(_DURATION_BOUNDS, took_s)] += 1.0
        floats[at + _DURATION_SUM] += took_s
        if call.overhead_ms is not None:
            own_s, at = call.overhead_ms / 1e3, series.overhead
            floats[at + bisect_left(_OVERHEAD_BOUNDS, own_s)] += 1.0
            floats[at + _OVERHEAD_SUM] += own_s
        if call.ttft_ms is not None:
            first_s, at = call.ttft_ms / 1e3, series.first_token
            floats[at + bisect_left(_FIRST_BOUNDS, first_s)] += 1.0
            floats[at + _FIRST_SUM] += first_s
        usage = call.usage
        if usage is not None:
            for tokens, at in ((usage.input_tokens, series.input), (usage.output_tokens, series.output)):
                if tokens is not None:
                    floats[at + bisect_left(_TOKEN_BOUNDS, tokens)] += 1.0
                    floats[at + _TOKEN_SUM] += tokens
        cost = call.cost
        if cost is not None and target is not None:
            if cost.usd is None or series.cost is None:
                series.add_cost(cost.usd)
            else:
                floats[series.cost] += float(cost.usd)
        log = call.attempt_log
        if (
            error is not None
            or len(log) != 1
            or call.cache_state is not None
            or log[0].outcome != "served"
            or call.route is not ready
        ):
            self._observe_rare(call, series.route)
        else:
            floats[series.served] += 1.0

    def count(self, family: Family, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._floats[self._one(family, *labels)] += amount

    def add(self, at: int, amount: float) -> None:
        """Add to the counter at a place."""
        self._floats[at] += amount

    def place(self, family: Family, labels: tuple[str, ...]) -> int:
        """Return where the numbers of a series begin: its own place, or that of `other` where there is no more room."""
        found = self._cells.place(family, labels)
        return found if found is not None else self._spill(family)

    def _make_series(self, key: tuple[str, str, str, str, str]) -> _Series:
        key = self._bounded(key)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = _Series(self, key)
        return found

    def _observe_rare(self, call: Call, route: str) -> None:
        for record in call.attempt_log:
            target = record.target
            is_made_up = target.is_open and record.outcome != "served"
            model = _ANY if is_made_up else target.model[:_MAX_LABEL_CHARS]
            self.count(named.ATTEMPTS, target.provider.name, model, record.outcome)
        if call.attempts > 1:
            self.count(named.RETRIES, route, amount=call.attempts - 1)
        if call.asked is not None and call.route is not None and call.route is not call.asked:
            self.count(named.FALLBACKS, route, call.route.route.name[:_MAX_LABEL_CHARS])
        if call.cache_state is not None:
            self.count(named.CACHE, route, call.cache_state)
        if call.error_code is not None:
            self.count(named.ERRORS, call.error_code)
            if call.error_code in _LIMITS:
                self.count(named.LIMITED, _LIMITS[call.error_code])

    def _one(self, family: Family, *labels: str) -> int:
        key = (family.name, labels)
        at = self._single.get(key)
        if at is None:
            at = self._cells.place(family, labels)
            if at is None:
                return self._spill(family)
            self._single[key] = at
        return at

    def _spill(self, family: Family) -> int:
        at = self._cells.place(family, tuple(_OTHER for _ in family.labels))
        assert at is not None, "a new file has room for one series of each family"
        return at

    def _bounded(self, key: tuple[str, str, str, str, str]) -> tuple[str, str, str, str, str]:
        route, provider, model, dialect, operation = key
        if not self._cells.has_room:
            return _OTHER, _OTHER, _OTHER, dialect, operation
        return route[:_MAX_LABEL_CHARS], provider, model[:_MAX_LABEL_CHARS], dialect, operation

    # -- the state of this worker

    async def pulse(self) -> None:
        """Note once a second, for ever, how the worker is; also shows the other workers that it lives."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(PULSE_S)
            self._lags.append(max(0.0, time.perf_counter() - before - PULSE_S))
            try:
                self.note_state()
            except Exception:  # the edge of this task: without it other workers would take this one for dead
                _log.exception("pulse failed, it goes on")

    def note_state(self) -> None:
        """Write this worker's gauges."""
        if self._health is not None:
            self._health.beat()
        floats, worker = self._floats, self._worker
        floats[self._one(named.IN_FLIGHT, worker)] = float(self.n_active())
        floats[self._one(named.LOOP_LAG, worker)] = max(self._lags, default=0.0)
        floats[self._one(named.RESIDENT, worker)] = float(resident_bytes())
        for what, lost in self._spans_lost().items():
            floats[self._one(named.SPANS_LOST, what)] = float(lost)
        is_alone, n_lost = self.limits()
        floats[self._one(named.LIMITS_ALONE, worker)] = float(is_alone)
        if n_lost:
            floats[self._one(named.REDIS_LOST)] = float(n_lost)

    # -- the page

    async def write_page(self, table: Table | None, content_type: bytes) -> bytes:
        """Return what all workers of this machine have counted, as text."""
        self.note_state()
        if self._folder is None or not self._cells.is_shared:
            totals: Totals = {}
            add(totals, self._cells.series())
        else:
            totals = await asyncio.to_thread(collect, self._folder, self._cells.read(), self._name)
        _drop_empty(totals)
        if self._health is not None:
            self._add_targets(totals, self._health, table)
        return write_text(totals, content_type)

    def close(self) -> None:
        """Leave the file to be folded by another worker."""
        self._cells.close()

    def _add_targets(self, totals: Totals, health: HealthBoard, table: Table | None) -> None:
        totals[named.WORKERS.name, ()] = [float(health.n_workers())]
        if table is None:
            return
        for ready in (*table.routes.values(), *table.open_routes.values()):
            for target in ready.targets:
                known = health.target(target.health_id, ready.route.breaker)
                labels = (ready.route.name, target.provider.name, target.model)
                totals[named.BREAKER.name, labels] = [_STATES[known.state]]
                totals[named.TARGET_LOAD.name, labels] = [known.in_flight]

    def _open(self) -> Cells:
        if self._folder is None:
            return Cells(None)
        try:
            return Cells(self._folder / self._name)
        except OSError as error:
            _log.warning("metrics of this worker are not shared", extra={"reason": str(error)})
            return Cells(None)


def resident_bytes() -> int:
    """Return the memory this process has in use."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _drop_empty(totals: Totals) -> None:
    """Leave out places that nothing has been counted in: those for `other`, and those that calls only might need."""
    for name in [name for name, values in totals.items() if not any(values)]:
        if name[0] in _MADE_EARLY or _OTHER in name[1]:
            del totals[name]
