"""Runs as durable jobs: driven by control's worker, cancelled, taken over after a kill -9 of control."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.main.job_kinds import TUNE_RUN
from penstock.main.tune_rooms import RunQueue, drive_run
from penstock.spec.spans import Span
from penstock.spec.tuning import FINAL_RUN_STATES
from penstock.tuning.runs.events import iter_events
from tests.tuning.runs.workshop import Workshop, open_workshop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny-base")


@pytest.fixture
def workshop(tmp_path: Path, sqlite_engine: Engine, tiny_base: Path) -> Workshop:
    found = open_workshop(tmp_path / "tuning", sqlite_engine, tiny_base)
    found.service._jobs = RunQueue(JobService(sqlite_engine))
    return found


def make_worker(engine: Engine, workshop: Workshop, spans: list[Span] | None = None) -> Worker:
    record = None if spans is None else spans.append
    handlers = {TUNE_RUN: lambda ctx, spec: drive_run(workshop.execution, ctx, spec, record)}
    return Worker(engine, handlers, "test", lease_s=1.0, poll_s=0.05)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def has_told(workshop: Workshop, run_id: str, step: int) -> bool:
    events = iter_events(workshop.root / run_id / "events.jsonl")
    return any(event.kind == "step" and event.step >= step for event in events)


def test_a_job_drives_the_run_and_records_its_span(workshop: Workshop, sqlite_engine: Engine) -> None:
    record = workshop.service.start(workshop.recipe(), actor="ann")
    spans: list[Span] = []
    assert make_worker(sqlite_engine, workshop, spans).run_once()
    job = JobService(sqlite_engine).get(str(record.job))
    assert (job.state, job.progress) == ("done", 1.0)
    assert job.result is not None
    assert job.result["model"] == "model:walks@1"
    (span,) = spans
    assert (span.kind, span.status) == ("job", "ok")
    assert span.attributes["tune.base"] == "model:tiny@1"
    assert span.attributes["tune.data"] == "dataset:walks@1"
    assert span.attributes["tune.model"] == "model:walks@1"


def test_a_run_that_fails_is_not_tried_again_by_its_job(workshop: Workshop, sqlite_engine: Engine) -> None:
    workshop.wish(kind="fault", fault="nan_loss", text="the loss is not a number", at=5, starts=99)
    record = workshop.service.start(workshop.recipe(), actor="ann")
    worker = make_worker(sqlite_engine, workshop)
    assert worker.run_once()
    job = JobService(sqlite_engine).get(str(record.job))
    assert (job.state, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert "the loss is not a number" in job.error["message"]
    assert workshop.service.get(record.id).fault == "nan_loss"
    workshop.wish()
    resumed = workshop.service.resume(record.id)
    assert resumed.job != record.job
    assert worker.run_once()
    assert workshop.service.get(record.id).state == "done"


def test_stopping_cancels_the_job_with_a_checkpoint(workshop: Workshop, sqlite_engine: Engine) -> None:
    workshop.wish(step_s=0.1)
    record = workshop.service.start(workshop.recipe(), actor="ann")
    stop = threading.Event()
    thread = threading.Thread(target=make_worker(sqlite_engine, workshop).run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: has_told(workshop, record.id, 4))
        workshop.service.stop(record.id)
        wait_until(lambda: workshop.service.get(record.id).state in FINAL_RUN_STATES)
        assert workshop.service.get(record.id).state == "stopped"
        resumed = workshop.service.resume(record.id)
        assert resumed.job != record.job, "at once, though the first job may not have ended yet"
        workshop.wish()
        wait_until(lambda: workshop.service.get(record.id).state == "done")
        assert JobService(sqlite_engine).get(str(record.job)).state == "cancelled"
    finally:
        stop.set()
        thread.join(240)


def test_a_control_that_stops_hands_the_run_to_its_next_start(
    workshop: Workshop, sqlite_engine: Engine
) -> None:
    workshop.wish(step_s=0.1)
    record = workshop.service.start(workshop.recipe(), actor="ann")
    stop = threading.Event()
    thread = threading.Thread(target=make_worker(sqlite_engine, workshop).run, args=(stop,))
    thread.start()
    wait_until(lambda: has_told(workshop, record.id, 4))
    stop.set()
    thread.join(240)
    assert JobService(sqlite_engine).get(str(record.job)).state == "queued"
    assert workshop.service.get(record.id).state == "queued"
    workshop.wish()
    assert make_worker(sqlite_engine, workshop).run_once()
    assert workshop.service.get(record.id).state == "done"


CONTROL = """
import sys, threading
from pathlib import Path
from penstock.store.control.engine import open_control
from tests.main.test_tune_jobs import make_worker
from tests.tuning.runs.workshop import open_workshop
root, url, base = sys.argv[1:]
engine = open_control(url)
make_worker(engine, open_workshop(Path(root), engine, Path(base))).run(threading.Event())
"""


def test_a_control_that_is_killed_loses_no_more_than_the_steps_since_the_last_checkpoint(
    workshop: Workshop, sqlite_engine: Engine, tmp_path: Path, tiny_base: Path
) -> None:
    straight = workshop.weights()
    workshop.wish(step_s=0.1)
    record = workshop.service.start(workshop.recipe(), actor="ann")
    arguments = [str(workshop.root), f"sqlite:///{tmp_path / 'control.db'}", str(tiny_base)]
    control = subprocess.Popen([sys.executable, "-c", CONTROL, *arguments], cwd=ROOT)
    try:
        wait_until(lambda: has_told(workshop, record.id, 5))
    finally:
        control.kill()
        control.wait()
    workshop.wish()
    worker = make_worker(sqlite_engine, workshop)
    wait_until(worker.run_once)
    done = workshop.service.get(record.id)
    assert (done.state, done.attempts) == ("done", 2)
    assert workshop.models.registered[-1]["weights"] == straight
    logs = [line.text for line in JobService(sqlite_engine).logs(str(record.job))]
    assert any("takes over" in line for line in logs)
