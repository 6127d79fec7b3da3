"""Runs as people see them: pages, stopping, resuming, deleting, comparing; records that nobody drives any more."""

from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.spec.tuning import RunRecord
from penstock.tuning.runs.errors import RecipeInvalid, RunActive, RunEnded, UnknownRun
from penstock.tuning.runs.queries import RunStore
from tests.tuning.runs.workshop import Workshop


class Jobs:
    """`RunJobs` whose endings are told by the test."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.ended: tuple[str, str] | None = None

    def submit(self, run_id: str, *, attempt: int) -> str:
        self.submitted.append(run_id)
        return f"job-{len(self.submitted)}"

    def ending(self, job_id: str) -> tuple[str, str] | None:
        return self.ended

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


@pytest.fixture
def jobs(workshop: Workshop) -> Jobs:
    found = Jobs()
    workshop.service._jobs = found
    return found


def test_runs_are_listed_newest_first_by_cursor(control_engine: Engine) -> None:
    clock = iter(range(1, 100))
    store = RunStore(control_engine, clock=lambda: next(clock))
    for number in range(5):
        store.add(
            RunRecord(
                id=f"run_{number}",
                name="a" if number % 2 else "b",
                state="done" if number else "failed",
                method="lora",
                recipe={"train": {"lr": 1e-4}},
                created_ns=number,
                updated_ns=number,
                actor="ann\x00",
            )
        )
    first = store.page(limit=2)
    assert [row.id for row in first.rows] == ["run_4", "run_3"]
    second = store.page(limit=10, cursor=first.next_cursor)
    assert [row.id for row in second.rows] == ["run_2", "run_1", "run_0"]
    assert second.next_cursor is None
    assert [row.id for row in store.page(state="failed").rows] == ["run_0"]
    assert [row.id for row in store.page(name="a").rows] == ["run_3", "run_1"]
    assert store.page(method="dpo").rows == []
    assert store.counts() == {"done": 4, "failed": 1}
    assert store.get("b").id == "run_4"
    with pytest.raises(InvalidInput):
        store.page(cursor="nonsense")
    with pytest.raises(UnknownRun):
        store.get("c")


def test_starting_queues_a_job_and_stopping_cancels_it(workshop: Workshop, jobs: Jobs) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    assert (record.state, record.job, record.actor) == ("queued", "job-1", "ann")
    workshop.service.stop("walks")
    assert jobs.cancelled == ["job-1"]
    jobs.ended = ("stopped", "its job was cancelled")
    assert workshop.service.get(record.id).state == "stopped"
    with pytest.raises(RunEnded):
        workshop.service.stop(record.id)


def test_a_run_whose_job_was_buried_is_told_as_killed(workshop: Workshop, jobs: Jobs) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    jobs.ended = ("failed", "3 workers in a row stopped while working on this job.")
    found = workshop.service.get(record.id)
    assert (found.state, found.fault) == ("failed", "killed")
    assert found.error is not None
    assert "3 workers" in found.error["message"]


def test_runs_are_counted_and_chosen_as_they_are_shown(workshop: Workshop, jobs: Jobs) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    jobs.ended = ("stopped", "its job was cancelled")
    assert workshop.service.counts() == {"stopped": 1}
    assert not workshop.service.list(state="queued").rows
    assert [row.id for row in workshop.service.list(state="stopped").rows] == [record.id]


def test_a_run_whose_command_is_gone_is_stopped(workshop: Workshop) -> None:
    record = workshop.begin()
    assert workshop.service.get(record.id).state == "queued"
    workshop.store.now_ns = lambda: record.created_ns + 60_000_000_000
    with workshop.folder(record).hold(record.id):
        assert workshop.service.get(record.id).state == "queued"
        with pytest.raises(RunActive):
            workshop.service.stop(record.id)
    assert workshop.service.get(record.id).state == "stopped"


def test_only_what_is_over_can_be_resumed_or_deleted(workshop: Workshop, jobs: Jobs) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    with pytest.raises(RunActive):
        workshop.service.resume(record.id)
    with pytest.raises(RunActive):
        workshop.service.delete(record.id)
    done = workshop.finish(record)
    with pytest.raises(RunEnded):
        workshop.service.resume(done.id)
    assert workshop.service.events(done.id).rows
    workshop.service.delete(done.id)
    assert not workshop.folder(done).path.exists()
    with pytest.raises(UnknownRun):
        workshop.service.get(done.id)


def test_resuming_queues_a_fresh_job(workshop: Workshop, jobs: Jobs) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    workshop.store.update(record.id, state="stopped")
    resumed = workshop.service.resume(record.id)
    assert (resumed.state, resumed.job) == ("queued", "job-2")


def test_a_run_that_cannot_be_queued_is_not_left_behind(workshop: Workshop) -> None:
    with pytest.raises(InvalidInput):
        workshop.service.start(workshop.recipe(), actor="ann")
    assert workshop.service.list().rows == []


def test_runs_are_compared_by_recipe_and_figures(workshop: Workshop) -> None:
    first = workshop.finish(workshop.begin())
    second = workshop.finish(workshop.begin(train={"max_steps": 6, "lr": 1e-3}))
    found = workshop.service.compare([first.id, second.id])
    assert found.differences == {"train.lr": [2e-5, 1e-3], "train.max_steps": [12, 6]}
    assert found.figures["eval.loss (best)"] == [0.25, 0.5]
    assert found.same_data
    other = workshop.finish(workshop.begin(seed=21))
    assert not workshop.service.compare([first.id, other.id]).same_data
    with pytest.raises(InvalidInput):
        workshop.service.compare([first.id])


def test_curves_samples_and_logs_of_a_run(workshop: Workshop) -> None:
    done = workshop.finish(workshop.begin())
    assert {curve.name for curve in workshop.service.curves("walks")} >= {
        "step.loss",
        "eval.loss",
        "step.tokens_per_s",
    }
    assert [sample.step for sample in workshop.service.samples(done.id)] == [3, 6, 9, 12, 12]
    assert workshop.service.logs(done.id) == ""
    page = workshop.service.events(done.id, kinds=("ended",))
    assert page.is_final
    assert [event.kind for event in page.rows] == ["ended"]


def test_the_record_survives_its_way_through_json(workshop: Workshop) -> None:
    done = workshop.finish(workshop.begin())
    assert msgspec.json.decode(msgspec.json.encode(done), type=RunRecord) == done


def test_the_shared_base_is_checked_out_once(workshop: Workshop) -> None:
    first = workshop.finish(workshop.begin())
    second = workshop.finish(workshop.begin(seed=3))
    assert workshop.models.n_checkouts == 1
    links = [(workshop.folder(run).base).readlink() for run in (first, second)]
    assert links[0] == links[1]
    assert isinstance(links[0], Path)
    assert not links[0].is_absolute()


def test_a_name_never_takes_the_place_of_an_id(workshop: Workshop) -> None:
    record = workshop.begin()
    other = workshop.begin()
    workshop.store.update(other.id, name=record.id)
    assert workshop.store.get(record.id).id == record.id
    assert workshop.finish(record).id == record.id
    assert workshop.store.get_by_id(other.id).state == "queued"
    workshop.service.delete(record.id)
    assert workshop.execution.find(record.id) is None, "what works on a run it was given goes by ids alone"
    with pytest.raises(UnknownRun):
        workshop.store.get_by_id(record.id)


def test_a_run_is_not_called_what_an_id_looks_like(workshop: Workshop) -> None:
    with pytest.raises(RecipeInvalid, match="would be taken for the id of a run"):
        workshop.recipe(name=workshop.begin().id)
