"""Jobs of evaluations: whoever loses, ends or begins one, the evaluation says what is so and can go on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.evals.experiments import ExperimentService
from penstock.evals.service import EvaluationService
from penstock.evals.types import EvaluationRecord, ExperimentSpec
from penstock.jobs import queries
from penstock.jobs.context import JobContext
from penstock.jobs.errors import LeaseLost
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.main.eval_ports import QueuedRuns
from penstock.main.evaluating import run_evaluation, run_experiment
from penstock.main.job_kinds import EVAL_RUN, EXPERIMENT_RUN
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.home import Home
from tests.evals.running.house import House, echo


class Context:
    """A job's context whose lease is lost after some looks."""

    job_id = "job_x"

    def __init__(self, n_looks: int | None = None) -> None:
        self.n_looks = n_looks

    def log(self, text: str) -> None:
        del text

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        del fraction, message

    def check_cancelled(self) -> None:
        if self.n_looks is not None:
            self.n_looks -= 1
            if self.n_looks < 0:
                raise LeaseLost(self.job_id)


def context(n_looks: int | None = None) -> JobContext:
    made: Any = Context(n_looks)
    return made


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(Home(root=tmp_path / "home"), echo)
    yield made
    made.engine.dispose()


def test_a_worker_that_lost_its_lease_leaves_the_state_to_the_one_that_goes_on(house: House) -> None:
    house.fill(30)
    record = house.start()
    with pytest.raises(LeaseLost):
        run_evaluation(house.runs, context(6), {"evaluation": record.id})
    left = house.store.get(record.id)
    assert (left.state, left.reason) == ("running", None)
    assert run_evaluation(house.runs, context(), {"evaluation": record.id})["state"] == "done"
    assert house.store.get(record.id).n_ok == 30


def test_an_experiment_whose_lease_is_lost_goes_on_too(house: House) -> None:
    house.fill(10)
    record = house.experiments.start(
        ExperimentSpec(name="g", evaluation=house.spec(), models=["a", "b"]), actor="test"
    )
    with pytest.raises(LeaseLost):
        run_experiment(house.grids, house.experiments.store, context(6), {"experiment": record.id})
    assert house.experiments.get(record.id).state == "running"
    run_experiment(house.grids, house.experiments.store, context(), {"experiment": record.id})
    assert house.experiments.get(record.id).state == "done"
    assert [house.store.get(str(cell.evaluation_id)).n_ok for cell in record.cells] == [10, 10]


class Control:
    """Evaluations with real jobs and a worker."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.jobs = JobService(house.engine)
        queued = QueuedRuns(self.jobs)
        self.service = EvaluationService(house.store, house.ports, queued)
        self.experiments = ExperimentService(house.experiments.store, self.service, queued)

    def start(self) -> EvaluationRecord:
        return self.service.start(self.house.spec(), actor="test")

    def work(self) -> bool:
        def run_one(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
            return run_evaluation(self.house.runs, ctx, spec)

        return Worker(self.house.engine, {EVAL_RUN: run_one}, "w").run_once()

    def when(self, state: str, do: Callable[[], object]) -> None:
        """Do something as soon as the record says `state`, while its job still runs."""
        count = self.house.store.count

        def counted(evaluation_id: str, **fields: Any) -> EvaluationRecord:
            record = count(evaluation_id, **fields)
            if fields.get("state") == state:
                self.house.store.count = count  # type: ignore[method-assign]
                do()
            return record

        self.house.store.count = counted  # type: ignore[method-assign]

    def kill_for_good(self, job_id: str | None) -> None:
        """Let the job's workers die as often as it is tried."""
        assert job_id is not None
        dead = {"state": "running", "attempts": 5, "worker_id": "dead", "lease_until_ns": 1}
        with self.house.engine.begin() as connection:
            queries.update_job(connection, job_id, dead)
        kinds = {EVAL_RUN: lambda *_: None, EXPERIMENT_RUN: lambda *_: None}
        Worker(self.house.engine, kinds, "w").run_once()
        assert self.jobs.get(job_id).state == "failed"


@pytest.fixture
def control(house: House) -> Control:
    return Control(house)


def test_scores_are_made_anew_by_whoever_asks_the_moment_a_run_is_done(
    house: House, control: Control
) -> None:
    house.fill(3)
    record = control.start()
    specs = [ScorerSpec(scorer="exact"), ScorerSpec(scorer="contains")]
    control.when("done", lambda: control.service.rescore(record.id, specs, actor="test", is_new=False))
    assert control.work()
    assert len(list(house.store.scores(record.id))) == 3
    assert control.work()
    ended = control.service.get(record.id)
    assert (ended.state, ended.replaces, len(list(house.store.scores(record.id)))) == ("done", [], 6)


def test_scores_stay_when_making_them_anew_cannot_be_queued(house: House) -> None:
    house.fill(3)
    record = house.evaluate()

    def submit(*_: object, **__: object) -> str:
        raise RuntimeError("database is locked")

    house.jobs.submit = submit  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        house.service.rescore(record.id, [ScorerSpec(scorer="exact")], actor="test", is_new=False)
    assert house.store.get(record.id) == record
    assert len(list(house.store.scores(record.id))) == 3


def test_a_run_that_is_resumed_while_its_job_still_ends_goes_on(house: House, control: Control) -> None:
    house.fill(40)
    record = control.start()

    def answer(body: Any, n_before: int) -> str:
        if house.gateway.n_calls == 6:
            control.jobs.cancel(str(record.job_id))
        return echo(body, n_before)

    stops = iter([None] * 8)
    run = house.runs.run

    def run_until_stopped(evaluation_id: str, **more: Any) -> EvaluationRecord:
        house.runs.run = run  # type: ignore[method-assign]
        return run(evaluation_id, **{**more, "should_stop": lambda: next(stops, "stopped by hand")})

    house.gateway.answer = answer
    house.runs.run = run_until_stopped  # type: ignore[method-assign]
    control.when("stopped", lambda: control.service.resume(record.id))
    assert control.work()
    assert control.service.get(record.id).state == "queued"
    assert control.work()
    ended = control.service.get(record.id)
    assert (ended.state, ended.n_ok) == ("done", 40)


def test_a_job_of_an_earlier_run_does_nothing_more(house: House, control: Control) -> None:
    house.fill(3)
    record = control.start()
    assert control.work()
    control.service.rescore(record.id, [ScorerSpec(scorer="exact")], actor="test", is_new=False)
    assert run_evaluation(house.runs, context(), {"evaluation": record.id, "run": 0}) == {}
    assert house.store.get(record.id).state == "queued"


def test_an_evaluation_whose_job_died_for_good_says_so_and_can_go_on(house: House, control: Control) -> None:
    house.fill(3)
    record = control.start()
    house.store.update(record.id, state="running")
    control.kill_for_good(record.job_id)
    listed = control.service.list().rows[0]
    assert listed.state == "failed"
    assert "workers in a row stopped" in str(listed.reason)
    control.service.resume(record.id)
    assert control.work()
    assert control.service.get(record.id).n_ok == 3
    control.service.delete(record.id)


def test_a_waiting_evaluation_whose_job_was_cancelled_is_stopped(house: House, control: Control) -> None:
    house.fill(3)
    record = control.start()
    control.jobs.cancel(str(record.job_id))
    found = control.service.get(record.id)
    assert (found.state, found.reason) == ("stopped", "its job was cancelled")


def test_an_experiment_whose_job_died_for_good_says_so_with_its_cells(house: House, control: Control) -> None:
    house.fill(3)
    spec = ExperimentSpec(name="g", evaluation=house.spec(), models=["a", "b"])
    record = control.experiments.start(spec, actor="test")
    control.experiments.store.update(record.id, state="running")
    house.store.update(str(record.cells[0].evaluation_id), state="running")
    control.kill_for_good(record.job_id)
    assert control.experiments.get(record.id).state == "failed"
    assert house.store.get(str(record.cells[0].evaluation_id)).state == "failed"
    assert control.experiments.resume(record.id).state == "queued"
    house.grids.run(record.id, tell=lambda *_: None, should_stop=lambda: None)
    assert control.experiments.get(record.id).state == "done"
    control.experiments.delete(record.id)
