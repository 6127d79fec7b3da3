"""A worker dies at every single write, before or after its commit; what was finished stays finished.

What is shown for each point of death: the job ends with the result of an undisturbed run; each step stands
in the journal once, with the right output; a step whose journal entry was committed never runs again; each
log line that was acknowledged is there, in order.
"""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from penstock.base.errors import UpstreamUnavailable
from penstock.jobs.context import JobContext
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from tests.jobs.crashing import Crash, CrashingEngine, HandClock

_KINDS = itertools.count()


class World:
    """Runs one job to its end, through any number of deaths, and remembers what really happened."""

    def __init__(self, engine: Engine, program: list[str]) -> None:
        self.engine = engine
        self.program = program
        self.clock = HandClock()
        self.service = JobService(engine, clock=self.clock)
        self.kind = f"k{next(_KINDS)}"
        self.runs: list[str] = []
        """Steps that ran, in order, whether or not their record was kept."""
        self.acknowledged: list[str] = []
        """Log lines whose call returned."""
        self.job = self.service.submit(self.kind, {}, max_attempts=1000)
        self.n_starts = 0

    def handler(self, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        """Interpret the program: steps feed on one another's outputs."""
        total = 0
        self.n_starts += 1
        for position, word in enumerate(self.program):
            if word == "step":
                total = ctx.step(
                    f"s{position}", {"total": total}, lambda p=position, t=total: self._run(p, t)
                )
            elif word == "log":
                text = f"line {position} of start {self.n_starts}"
                ctx.log(text)
                self.acknowledged.append(text)
            elif word == "progress":
                self.clock.pass_s(1)
                ctx.progress(position / len(self.program), f"at {position}")
            elif word == "fail" and self.n_starts % 2 == 1:
                raise UpstreamUnavailable("The host is away.")
        return {"total": total}

    def _run(self, position: int, total: int) -> int:
        self.runs.append(f"s{position}")
        return total * 3 + position + 1

    def worker(self, engine: Any) -> Worker:
        """Return a worker in a process of its own, so to say."""
        return Worker(engine, {self.kind: self.handler}, "w", lease_s=60, clock=self.clock)

    def die_at(self, at_write: int, *, after_commit: bool) -> bool:
        """Work until death; return False when the worker came to an end before that."""
        engine = CrashingEngine(self.engine, at_write=at_write, after_commit=after_commit)
        committed = {step.name for step in self.service.steps(self.job.id)}
        before = len(self.runs)
        try:
            while self.worker(engine).run_once():
                self.clock.pass_s(61)
            return False
        except Crash:
            return True
        finally:
            assert not committed & set(self.runs[before:]), "a finished step ran again"
            self.clock.pass_s(61)

    def finish(self) -> None:
        """Work undisturbed to the end."""
        while self.worker(self.engine).run_once():
            self.clock.pass_s(61)

    def check(self, n_deaths: int) -> None:
        """Compare everything that is durable with an undisturbed run."""
        expected, total = {}, 0
        for position, word in enumerate(self.program):
            if word == "step":
                total = total * 3 + position + 1
                expected[f"s{position}"] = total
        job = self.service.get(self.job.id)
        assert (job.state, job.result, job.worker_id) == ("done", {"total": total}, None)
        steps = self.service.steps(self.job.id)
        assert {step.name: step.output for step in steps} == expected
        assert len(steps) == len(expected)
        assert len(self.runs) <= len(expected) + n_deaths, "each death costs one unrecorded step at most"
        lines = [line.text for line in self.service.logs(self.job.id) if line.text.startswith("line ")]
        kept = iter(lines)
        assert all(text in kept for text in self.acknowledged), "an acknowledged line is lost or out of order"
        assert len(lines) == len(set(lines)), "a line stands there twice"


PROGRAM = ["log", "step", "progress", "step", "log", "fail", "step", "log"]


@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
def test_death_at_each_write_loses_and_repeats_nothing(control_engine: Engine, after_commit: bool) -> None:
    for at_write in itertools.count(1):
        world = World(control_engine, PROGRAM)
        died = world.die_at(at_write, after_commit=after_commit)
        world.finish()
        world.check(n_deaths=int(died))
        if not died:
            break
    assert at_write > 10, "the program has more writes than that"


@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
def test_a_job_gets_on_by_one_step_a_life(sqlite_engine: Engine, after_commit: bool) -> None:
    world = World(sqlite_engine, ["step"] * 6)
    n_deaths = 0
    while world.die_at(2 if after_commit else 3, after_commit=after_commit):
        n_deaths += 1
        assert len(world.service.steps(world.job.id)) == min(n_deaths, 6)
    world.check(n_deaths)


@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    program=st.lists(st.sampled_from(["step", "log", "progress", "fail"]), max_size=8),
    deaths=st.lists(st.tuples(st.integers(min_value=1, max_value=8), st.booleans()), max_size=5),
)
def test_any_program_survives_any_deaths(
    sqlite_engine: Engine, program: list[str], deaths: list[tuple[int, bool]]
) -> None:
    world = World(sqlite_engine, program)
    n_deaths = sum(world.die_at(at_write, after_commit=after) for at_write, after in deaths)
    world.finish()
    while world.service.get(world.job.id).state == "queued":
        world.clock.pass_s(61)
        world.finish()
    world.check(n_deaths)
