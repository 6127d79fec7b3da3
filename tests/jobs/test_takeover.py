"""Who owns a job, and what happens to the work of one who no longer does; on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.jobs.context import JobContext
from penstock.jobs.errors import LeaseLost
from penstock.jobs.lease import Heartbeat, Lease
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from tests.jobs.crashing import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(control_engine: Engine, clock: HandClock) -> JobService:
    return JobService(control_engine, clock=clock)


def claim(engine: Engine, clock: HandClock, name: str) -> Lease | None:
    """Claim as a worker that then dies without a word."""
    return Worker(engine, {"k": lambda ctx, spec: {}}, name, lease_s=60, clock=clock)._claim()


def test_a_held_job_is_nobody_elses_until_its_lease_runs_out(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {})
    first = claim(control_engine, clock, "w1")
    assert first is not None
    assert claim(control_engine, clock, "w2") is None
    clock.pass_s(59)
    assert claim(control_engine, clock, "w2") is None
    first.renew()
    clock.pass_s(59)
    assert claim(control_engine, clock, "w2") is None
    clock.pass_s(2)
    second = claim(control_engine, clock, "w2")
    assert second is not None
    assert second.fence == first.fence + 1
    taken = service.get(job.id)
    assert (taken.worker_id, taken.attempts) == ("w2", 2)
    assert [line.text for line in service.logs(job.id)] == ["Worker w1 stopped answering; w2 takes over."]


def test_every_write_of_a_stale_worker_is_refused(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {})
    stale = claim(control_engine, clock, "w1")
    assert stale is not None
    clock.pass_s(61)
    fresh = claim(control_engine, clock, "w2")
    assert fresh is not None
    before, n_logs = service.get(job.id), len(service.logs(job.id))

    def run(call: Any) -> None:
        context = JobContext(stale, clock=clock, stopping=threading.Event())
        stale.is_lost = False  # it does not know yet
        with pytest.raises(LeaseLost):
            call(context)
        assert stale.is_lost

    run(lambda ctx: ctx.step("one", {}, lambda: 1))
    run(lambda ctx: ctx.log("from the grave"))
    run(lambda ctx: ctx.progress(0.9, "nearly done"))
    run(lambda ctx: ctx.check_cancelled() or (clock.pass_s(1), ctx.check_cancelled()))
    with pytest.raises(LeaseLost):
        stale.renew()
    worker = Worker(control_engine, {}, "w1", clock=clock)
    context = JobContext(stale, clock=clock, stopping=threading.Event())
    for finish in (
        worker._write_cancelled,
        worker._write_released,
        lambda lease, ctx: worker._write_done(lease, ctx, "{}"),
        lambda lease, ctx: worker._write_failed(lease, ctx, RuntimeError("x")),
    ):
        with pytest.raises(LeaseLost):
            finish(stale, context)
    assert service.get(job.id) == before
    assert len(service.logs(job.id)) == n_logs
    assert service.steps(job.id) == []
    fresh.renew()


def test_a_worker_that_slept_through_its_lease_leaves_the_job_to_the_other(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    ran: list[str] = []
    other = Worker(control_engine, {"k": lambda ctx, spec: {"by": "w2"}}, "w2", lease_s=60, clock=clock)

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        ctx.step("one", {}, lambda: ran.append("one"))
        clock.pass_s(61)  # a laptop lid, a long pause
        assert other.run_once()
        try:
            ctx.step("two", {}, lambda: ran.append("two"))
        except Exception:
            ran.append("swallowed")
        return {"by": "w1"}

    job = service.submit("k", {})
    assert Worker(control_engine, {"k": handler}, "w1", lease_s=60, clock=clock).run_once()
    assert service.get(job.id).result == {"by": "w2"}
    assert ran == ["one"]


def test_a_stale_worker_that_only_returns_does_not_overwrite_the_result(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    other = Worker(control_engine, {"k": lambda ctx, spec: {"by": "w2"}}, "w2", lease_s=60, clock=clock)

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        clock.pass_s(61)
        other.run_once()
        return {"by": "w1"}

    job = service.submit("k", {})
    Worker(control_engine, {"k": handler}, "w1", lease_s=60, clock=clock).run_once()
    assert service.get(job.id).result == {"by": "w2"}


def test_a_job_that_kills_its_workers_is_buried_after_its_attempts(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {}, max_attempts=3)
    for n in range(3):
        assert claim(control_engine, clock, f"w{n}") is not None
        clock.pass_s(61)
    assert claim(control_engine, clock, "w9") is None
    buried = service.get(job.id)
    assert (buried.state, buried.worker_id) == ("failed", None)
    assert buried.error is not None
    assert buried.error["code"] == "PS-4201"
    assert service.retry(job.id).attempts == 0
    assert claim(control_engine, clock, "w9") is not None


def test_a_cancelled_job_of_a_dead_worker_ends_without_running_again(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    first, second = service.submit("k", {"n": 1}), service.submit("k", {"n": 2})
    claim(control_engine, clock, "w1")
    assert service.cancel(first.id).state == "running"
    clock.pass_s(61)
    found = claim(control_engine, clock, "w2")
    assert found is not None
    assert found.job.id == second.id
    assert service.get(first.id).state == "cancelled"
    clock.pass_s(61)
    assert service.cancel(second.id).state == "cancelled"


def test_workers_side_by_side_share_the_jobs_and_no_job_is_run_twice(control_engine: Engine) -> None:
    service = JobService(control_engine)
    ids = [service.submit("k", {"n": n}).id for n in range(24)]
    ran: list[int] = []

    def drain(name: str) -> None:
        worker = Worker(control_engine, {"k": lambda ctx, spec: ran.append(spec["n"])}, name)
        while worker.run_once():
            pass

    threads = [threading.Thread(target=drain, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker_left_over in range(24 - len(ran)):  # SKIP LOCKED may let a worker see nothing and leave early
        drain(f"last{worker_left_over}")
    assert sorted(ran) == list(range(24))
    assert {service.get(job_id).state for job_id in ids} == {"done"}
    assert {service.get(job_id).attempts for job_id in ids} == {1}


def test_a_heartbeat_holds_the_job_while_the_handler_is_busy(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    service.submit("k", {})
    lease = claim(control_engine, clock, "w1")
    assert lease is not None
    beats = threading.Semaphore(0)
    renew = lease.renew

    def counted() -> None:
        renew()
        beats.release()

    lease.renew = counted  # type: ignore[method-assign]
    with Heartbeat(lease, interval_s=0.005):
        for _ in range(4):
            clock.pass_s(40)  # four times two thirds of a lease
            beats.acquire()
            beats.acquire()
            assert claim(control_engine, clock, "w2") is None


def test_a_heartbeat_survives_an_absent_database_and_hears_of_a_loss(
    service: JobService, control_engine: Engine, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    service.submit("k", {})
    lease = claim(control_engine, clock, "w1")
    assert lease is not None
    renew, failed, lost = lease.renew, threading.Event(), threading.Event()
    answers = [RuntimeError("database is away"), None]

    def flaky() -> None:
        if answers:
            answer = answers.pop(0)
            failed.set()
            if answer:
                raise answer
        try:
            renew()
        except LeaseLost:
            lost.set()
            raise

    lease.renew = flaky  # type: ignore[method-assign]
    with Heartbeat(lease, interval_s=0.005) as heartbeat:
        assert failed.wait(120)
        clock.pass_s(61)
        taken = False
        while not taken and not lost.is_set():
            taken = claim(control_engine, clock, "w2") is not None
            clock.pass_s(61)
        assert lost.wait(120)
        heartbeat._thread.join(120)
        assert not heartbeat._thread.is_alive()
    assert lease.is_lost
    assert "heartbeat failed" in caplog.text
