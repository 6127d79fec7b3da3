"""Load tests as REST, command line and console use them: plan, start, look, stop, compare, delete.

Running one is a job (`main/loadtesting.py`); the record here is the truth of how it stands.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput
from penstock.base.ids import new_id
from penstock.deploy.load import queries
from penstock.deploy.load.errors import CostNotAgreed, InvalidLoadTest, LoadTestRunning, UnknownLoadTest
from penstock.deploy.load.planning import join_prices, plan_load
from penstock.deploy.load.ports import LoadJobs, Materials, TargetFacts, Targets
from penstock.deploy.load.running import check_spec
from penstock.deploy.load.sides import SideBySide, put_side_by_side
from penstock.deploy.load.types import (
    FINAL_STATES,
    LoadPage,
    LoadPlan,
    LoadRecord,
    LoadSpec,
    LoadSummary,
    Shape,
)
from penstock.store.blobs import BlobStore

MAX_PAGE = 500
_MAX_DIGITS = 19
_PIECE = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class LoadPorts:
    """What load tests rest on."""

    targets: Targets
    materials: Materials
    jobs: LoadJobs
    blobs: BlobStore


class LoadTestService:
    """Use-cases of load tests. Every method may be called from any thread."""

    def __init__(self, engine: Engine, ports: LoadPorts, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine, self._ports, self._clock = engine, ports, clock

    @property
    def ports(self) -> LoadPorts:
        """What it rests on, for the job that runs tests."""
        return self._ports

    def plan(self, spec: LoadSpec) -> LoadPlan:
        """Return what the test would do and cost. Asks no model. Raises `InvalidLoadTest`, `InvalidLimit`, `NothingToAsk`."""
        check_spec(spec)
        return plan_load(spec, self._ports.materials.read(spec), self._facts(spec))

    def start(self, spec: LoadSpec, *, actor: str, is_agreed: bool = False) -> LoadRecord:
        """Keep the test and queue its run.

        Raises `CostNotAgreed` where calls may cost money at providers and neither `is_agreed` nor a cost cap says that they
        may, besides what `plan` raises.
        """
        plan = self.plan(spec)
        if plan.must_confirm and not is_agreed and spec.max_cost_usd is None:
            cost = "an unknown amount" if plan.cost_usd is None else f"up to ${plan.cost_usd:.4f}"
            raise CostNotAgreed(
                f"About {plan.n_calls:,.0f} calls to {', '.join(plan.providers)} would cost {cost}.",
                hint="Agree to it (--yes, or `agreed` in the body), or set max_cost_usd.",
                providers=list(plan.providers),
            )
        facts = self._facts(spec)
        if spec.max_cost_usd is not None and join_prices(facts) is None:
            raise InvalidLoadTest(
                "A cost cap cannot be kept: what these calls cost is unknown.",
                hint="Set a price (`penstock price create`), or leave the cap out and agree to the cost.",
                where="max_cost_usd",
            )
        now_ns = self._clock()
        versions: dict[str, str] = {}
        for fact in facts:
            versions |= dict(fact.versions or {})
        record = LoadRecord(
            id=new_id("load"),
            name=spec.name or name_of(spec),
            route=spec.route,
            against=spec.against,
            state="queued",
            spec=spec,
            actor=actor,
            created_ns=now_ns,
            updated_ns=now_ns,
            plan=plan,
            versions=versions,
        )
        with self._engine.begin() as connection:
            queries.insert_test(connection, {"id": record.id, **_columns(record)})
        try:
            job_id = self._ports.jobs.submit(record.id)
        except BaseException:
            with self._engine.begin() as connection:
                queries.delete_test(connection, record.id)
            raise
        return self.change(record.id, job_id=job_id)

    def get(self, test_id: str) -> LoadRecord:
        """Return a test as it stands; raise `UnknownLoadTest`."""
        with self._engine.connect() as connection:
            content = queries.get_content(connection, test_id)
        return self._settled(_read(test_id, content))

    def list(
        self,
        *,
        route: str | None = None,
        state: str | None = None,
        verdict: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> LoadPage:
        """Return a page of tests, newest first."""
        limit = min(max(1, limit), MAX_PAGE)
        given = {"route": route, "state": state, "verdict": verdict}
        conditions = {name: value for name, value in given.items() if value is not None}
        with self._engine.connect() as connection:
            contents = queries.list_contents(
                connection, conditions, before=_read_cursor(cursor), limit=limit + 1
            )
            n_matching = queries.count_tests(connection, conditions)
        records = [self._settled(_read("", content)) for content in contents[:limit]]
        last = records[-1] if len(contents) > limit else None
        return LoadPage(
            rows=[summarise(record) for record in records],
            next_cursor=None if last is None else f"{last.created_ns}.{last.id}",
            n_matching=n_matching,
        )

    def stop(self, test_id: str) -> LoadRecord:
        """End a test; what it has measured is kept. One that has ended is returned as it is."""
        record = self.get(test_id)
        if record.state in FINAL_STATES:
            return record
        if record.job_id is not None:
            self._ports.jobs.cancel(record.job_id)
        if record.state == "queued":
            return self.change(
                test_id, state="stopped", finished_ns=self._clock(), sentence="stopped before it began"
            )
        return self.get(test_id)

    def delete(self, test_id: str) -> None:
        """Forget a test and its calls; raise `LoadTestRunning`, `UnknownLoadTest`."""
        record = self.get(test_id)
        if record.state not in FINAL_STATES:
            raise LoadTestRunning(
                f"Load test {test_id} is {record.state}.", hint=f"`penstock loadtest stop {test_id}` ends it."
            )
        with self._engine.begin() as connection:
            queries.delete_test(connection, test_id)
        if record.samples is not None:
            # each line holds moments of this very test, so nobody else has the same bytes
            self._ports.blobs.delete(record.samples)

    def read_samples(self, test_id: str) -> Iterator[bytes]:
        """Yield the calls of a test, one JSON object a line, in pieces."""
        record = self.get(test_id)
        if record.samples is None:
            return
        with zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(self._ports.blobs.get(record.samples))
        ) as reader:
            while piece := reader.read(_PIECE):
                yield piece

    def compare(self, first: str, second: str) -> SideBySide:
        """Put two tests side by side. Raises `InvalidLoadTest` for one without results."""
        return put_side_by_side(self.get(first), self.get(second))

    def change(self, test_id: str, **fields: Any) -> LoadRecord:
        """Set fields of a test and return it."""
        with self._engine.begin() as connection:
            record = _read(test_id, queries.get_content(connection, test_id, for_update=True))
            changed = msgspec.structs.replace(record, **fields, updated_ns=self._clock())
            queries.update_test(connection, test_id, _columns(changed))
        return changed

    def _settled(self, record: LoadRecord) -> LoadRecord:
        """A test whose job has ended runs no more, whatever it says."""
        if record.state in FINAL_STATES or record.job_id is None:
            return record
        ending = self._ports.jobs.ending(record.job_id)
        if ending is None:
            return record
        with self._engine.connect() as connection:  # it may have told meanwhile
            record = _read(record.id, queries.get_content(connection, record.id))
        if record.state in FINAL_STATES:
            return record
        state, reason = ending
        return self.change(record.id, state=state, sentence=reason, finished_ns=self._clock())

    def _facts(self, spec: LoadSpec) -> Sequence[TargetFacts]:
        names = [spec.route, *([] if spec.against is None else [spec.against])]
        facts: Sequence[TargetFacts] = ()
        for name in names:
            found = self._ports.targets.describe(name)
            if not found.is_known:
                raise InvalidLoadTest(
                    f"Nothing answers under {name!r}.",
                    hint=self._ports.targets.suggest(name) or "`penstock route list` shows what does.",
                    where="route",
                )
            facts = (*facts, found)
        return facts


def read_spec(given: Mapping[str, Any]) -> LoadSpec:
    """Return a specification from JSON or TOML values; raise `InvalidLoadTest` that names the member."""
    try:
        return msgspec.convert(dict(given), LoadSpec, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidLoadTest(f"This is no load test: {error}.") from error


def name_of(spec: LoadSpec) -> str:
    """Return what a test is called in lists, unless it was named."""
    against = f" against {spec.against}" if spec.against else ""
    return f"{spec.route}{against}, {tell_shape(spec)}"


def tell_shape(spec: LoadSpec) -> str:
    """Return how calls arrive, in words."""
    shape: Shape = spec.shape
    if spec.find_rate is not None:
        return f"looking for a rate, {shape.kind}"
    if spec.rates:
        return f"{shape.kind} at {', '.join(f'{rate:g}' for rate in spec.rates)}/s"
    if shape.kind == "closed":
        return f"{shape.concurrency} at once (closed loop)"
    if shape.kind == "ramp":
        return f"ramp from {shape.rate:g} to {shape.to_rate or 0:g}/s"
    if shape.kind == "burst":
        return f"bursts of {shape.burst} at {shape.rate:g}/s"
    return f"{shape.kind} at {shape.rate:g}/s"


def summarise(record: LoadRecord) -> LoadSummary:
    """Return the row of a list."""
    result = record.result
    figures = None if result is None or not result.targets else result.targets[0]
    spreads = {} if figures is None else figures.spreads

    def p95(measure: str) -> float | None:
        spread = spreads.get(measure)
        return None if spread is None or spread.p95 is None else spread.p95.value

    rate = None if figures is None or figures.requests_per_s is None else figures.requests_per_s.value
    return LoadSummary(
        id=record.id,
        name=record.name,
        route=record.route,
        against=record.against,
        state=record.state,
        verdict=record.verdict,
        sentence=record.sentence,
        shape=tell_shape(record.spec),
        n_calls=None if result is None else result.n_calls,
        ttft_p95_ms=p95("ttft"),
        e2e_p95_ms=p95("e2e"),
        requests_per_s=rate,
        actor=record.actor,
        created_ns=record.created_ns,
    )


def _columns(record: LoadRecord) -> dict[str, Any]:
    return {
        "route": record.route,
        "state": record.state,
        "verdict": record.verdict,
        "spec": msgspec.to_builtins(record.spec),
        "content": msgspec.to_builtins(record),
        "actor": record.actor,
        "created_ns": record.created_ns,
        "updated_ns": record.updated_ns,
    }


def _read(test_id: str, content: Any) -> LoadRecord:
    if content is None:
        raise UnknownLoadTest(
            f"There is no load test {test_id!r}.", hint="`penstock loadtest list` shows them."
        )
    return msgspec.convert(content, LoadRecord, strict=False)


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    time, _, last_id = cursor.partition(".")
    if not time.isascii() or not time.isdigit() or len(time) > _MAX_DIGITS or not last_id:
        raise InvalidInput("This is no cursor of load tests.", where="cursor")
    return int(time), last_id
