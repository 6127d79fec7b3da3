"""Jobs of evaluations: whoever loses, ends or begins one, the evaluation says what is so and can go on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.evals.types import ExperimentSpec
from penstock.jobs.context import JobContext
from penstock.jobs.errors import LeaseLost
from penstock.main.evaluating import run_evaluation, run_experiment
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
