"""Jobs as people meet them: submit, run, look, cancel, retry; the same on SQLite and PostgreSQL."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput, TooLarge, UpstreamUnavailable
from penstock.jobs.context import JobContext
from penstock.jobs.errors import JobFinished, JobNotRetriable, JobUnderWay, UnknownJob, UnknownJobKind
from penstock.jobs.service import JobService
from penstock.jobs.worker import Handler, Worker
from tests.jobs.crashing import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(control_engine: Engine, clock: HandClock) -> JobService:
    return JobService(control_engine, clock=clock)


def make_worker(engine: Engine, clock: HandClock, handlers: dict[str, Handler], name: str = "w1") -> Worker:
    return Worker(engine, handlers, name, lease_s=60, clock=clock)


def test_a_job_runs_to_its_result_with_progress_and_logs(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        ctx.log(f"ingesting {spec['folder']}")
        ctx.progress(0.5, "half way")
        total = ctx.step("sum", {"numbers": spec["numbers"]}, lambda: sum(spec["numbers"]))
        return {"total": total}

    job = service.submit("sum", {"folder": "a", "numbers": [1, 2, 3]})
    assert (job.state, job.progress, job.attempts) == ("queued", None, 0)
    assert make_worker(control_engine, clock, {"sum": handler}).run_once()
    done = service.get(job.id)
    assert (done.state, done.result, done.progress, done.message) == ("done", {"total": 6}, 1.0, "half way")
    assert done.worker_id is None
    assert done.finished_ns is not None
    assert [line.text for line in service.logs(job.id)] == ["ingesting a"]
    assert [(step.name, step.output, step.attempt) for step in service.steps(job.id)] == [("sum", 6, 1)]


def test_a_worker_without_jobs_of_its_kinds_does_nothing(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("other", {})
    assert not make_worker(control_engine, clock, {"sum": lambda ctx, spec: {}}).run_once()
    assert service.get(job.id).state == "queued"


def test_jobs_run_in_the_order_of_their_submission(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    seen: list[int] = []
    worker = make_worker(control_engine, clock, {"k": lambda ctx, spec: seen.append(spec["n"])})
    for n in range(4):
        service.submit("k", {"n": n})
    while worker.run_once():
        pass
    assert seen == [0, 1, 2, 3]
    assert [job.spec["n"] for job in service.list()] == [3, 2, 1, 0]
    assert [job.spec["n"] for job in service.list(limit=2)] == [3, 2]
    assert service.list(states=("queued", "running")) == []


def test_the_same_dedupe_key_gives_the_active_job_and_after_its_end_a_new_one(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    first = service.submit("k", {"n": 1}, dedupe_key="ingest:handbook")
    assert service.submit("k", {"n": 1}, dedupe_key="ingest:handbook") == first
    make_worker(control_engine, clock, {"k": lambda ctx, spec: {}}).run_once()
    second = service.submit("k", {"n": 2}, dedupe_key="ingest:handbook")
    assert second.id != first.id
    assert second.spec == {"n": 2}


def test_an_active_job_is_never_passed_off_as_a_different_one(service: JobService) -> None:
    first = service.submit("k", {"folder": "a"}, dedupe_key="ingest:handbook")
    for kind, spec in (("k", {"folder": "b"}), ("other", {"folder": "a"})):
        with pytest.raises(JobUnderWay, match=first.id):
            service.submit(kind, spec, dedupe_key="ingest:handbook")
    assert [job.id for job in service.list()] == [first.id]


def test_submits_racing_with_one_key_make_one_job(control_engine: Engine) -> None:
    service = JobService(control_engine)
    barrier, ids = threading.Barrier(4), []

    def submit() -> None:
        barrier.wait()
        ids.append(service.submit("k", {}, dedupe_key="one").id)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_a_passing_failure_is_tried_again_after_a_pause_and_keeps_finished_steps(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    calls: list[str] = []

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        value = ctx.step("download", {"url": "x"}, lambda: calls.append("download") or [1, 2])
        if ctx.attempt == 1:
            raise UpstreamUnavailable("The host is away.")
        return {"value": value}

    job = service.submit("k", {})
    worker = make_worker(control_engine, clock, {"k": handler})
    worker.run_once()
    waiting = service.get(job.id)
    assert (waiting.state, waiting.attempts) == ("queued", 1)
    assert waiting.error is not None
    assert waiting.error["code"] == "PS-4503"
    clock.pass_s(61)
    assert worker.run_once()
    done = service.get(job.id)
    assert (done.state, done.result, done.error) == ("done", {"value": [1, 2]}, None)
    assert calls == ["download"]
    assert "failed, next in" in service.logs(job.id)[0].text


def test_a_retry_is_not_due_before_its_time(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("flaky")

    worker = Worker(control_engine, {"k": handler}, "w", clock=clock, retry_first_s=50, rng=_AlwaysLongest())
    job = service.submit("k", {})
    worker.run_once()
    assert not worker.run_once()
    assert service.retry(job.id).not_before_ns <= clock.now_ns
    assert worker.run_once()
    assert service.get(job.id).attempts == 2


class _AlwaysLongest:
    def uniform(self, low: float, high: float) -> float:
        return high


def test_attempts_are_bounded_and_the_error_is_kept(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no route to sk-1234567890abcdef\x00")

    job = service.submit("k", {}, max_attempts=3)
    worker = make_worker(control_engine, clock, {"k": handler})
    runs = 0
    while worker.run_once():
        runs += 1
        clock.pass_s(61)
    failed = service.get(job.id)
    assert (runs, failed.state, failed.attempts) == (3, "failed", 3)
    assert failed.error is not None
    assert "no route to [redacted]" in failed.error["message"]


def test_a_callers_mistake_fails_at_once(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        raise InvalidInput("The folder does not exist.", hint="Give another.", path="x")

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run_once()
    failed = service.get(job.id)
    assert failed.state == "failed"
    assert failed.error == {
        "code": "PS-1001",
        "message": "The folder does not exist.",
        "hint": "Give another.",
        "fields": {"path": "x"},
    }


def test_retry_of_a_failed_job_skips_its_finished_steps(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    ran: list[int] = []
    broken = [True]

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        for n in range(3):
            ctx.step("part", {"n": n}, lambda n=n: ran.append(n))
        if broken[0]:
            raise InvalidInput("broken")
        return {}

    job = service.submit("k", {})
    worker = make_worker(control_engine, clock, {"k": handler})
    worker.run_once()
    broken[0] = False
    assert service.retry(job.id).attempts == 0
    worker.run_once()
    assert service.get(job.id).state == "done"
    assert ran == [0, 1, 2]
    with pytest.raises(JobNotRetriable):
        service.retry(job.id)


def test_a_queued_job_is_cancelled_at_once_and_never_runs(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {})
    assert service.cancel(job.id).state == "cancelled"
    assert service.cancel(job.id).state == "cancelled"
    assert not make_worker(control_engine, clock, {"k": lambda ctx, spec: {}}).run_once()


def test_a_running_job_is_cancelled_at_its_next_step_whatever_the_handler_catches(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    ran: list[str] = []

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            ctx.step("one", {}, lambda: ran.append("one"))
            assert service.cancel(ctx.job_id).state == "running"
            ctx.step("two", {}, lambda: ran.append("two"))
            clock.pass_s(1)
            ctx.step("three", {}, lambda: ran.append("three"))
        except Exception:
            ran.append("swallowed")
        return {}

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run_once()
    cancelled = service.get(job.id)
    assert (cancelled.state, cancelled.worker_id) == ("cancelled", None)
    assert "three" not in ran
    assert "swallowed" not in ran
    assert service.retry(job.id).is_cancel_requested is False


def test_a_finished_job_cannot_be_cancelled(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": lambda ctx, spec: {}}).run_once()
    with pytest.raises(JobFinished, match="already done"):
        service.cancel(job.id)


def test_a_stopping_worker_gives_its_job_back_without_costing_an_attempt(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    stop = threading.Event()

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        first = ctx.step("one", {}, lambda: 1)
        if not stop.is_set():
            stop.set()
        return {"sum": first + ctx.step("two", {}, lambda: 2)}

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run(stop)
    waiting = service.get(job.id)
    assert (waiting.state, waiting.attempts, waiting.worker_id) == ("queued", 0, None)
    assert make_worker(control_engine, clock, {"k": handler}, "w2").run_once()
    assert service.get(job.id).result == {"sum": 3}


def test_a_kind_that_nobody_does_is_refused_with_its_neighbour(control_engine: Engine) -> None:
    service = JobService(control_engine, kinds=("knowledge.ingest", "model.pull"))
    with pytest.raises(UnknownJobKind, match=r"Did you mean 'model\.pull'"):
        service.submit("model.pul", {})
    assert service.submit("model.pull", {}).state == "queued"


def test_unknown_jobs_are_named(service: JobService) -> None:
    for call in (service.get, service.cancel, service.retry, service.logs, service.steps):
        with pytest.raises(UnknownJob, match="job_nope"):
            call("job_nope")


def test_specs_and_outputs_that_are_no_json_are_refused(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    with pytest.raises(InvalidInput):
        service.submit("k", {"x": float("nan")})
    with pytest.raises(TooLarge):
        service.submit("k", {"x": "y" * 2_000_000})
    with pytest.raises(InvalidInput):
        service.submit("", {})

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        return {"value": ctx.step("bytes", {}, lambda: b"raw")}

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run_once()
    failed = service.get(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert "step 'bytes'" in failed.error["message"]


def test_what_a_step_returned_comes_back_exactly(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    value = {
        "big": 1e22,
        "whole": 1.0,
        "int": 2**70,
        "nul": "a\x00b",
        "text": "é😀",
        "none": None,
        "t": (1, 2),
    }
    seen: list[Any] = []

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        seen.append(ctx.step("v", {}, lambda: value))
        seen.append(ctx.step("v", {}, lambda: "never"))
        ctx.log("x" * 100_000)
        ctx.log("nul \x00 and half a pair \ud800")
        return {}

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run_once()
    assert seen[0] == seen[1] == {**value, "t": [1, 2]}
    assert [type(item) for item in seen[0].values()] == [type(item) for item in seen[1].values()]
    assert len(service.logs(job.id)[0].text) == 16_384
    assert service.logs(job.id)[-1].text == "nul \ufffd and half a pair \ufffd"


def test_logs_are_read_on_from_where_one_stopped(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    job = service.submit("k", {})
    worker = make_worker(
        control_engine, clock, {"k": lambda ctx, spec: [ctx.log(str(n)) for n in range(5)] and None}
    )
    worker.run_once()
    first = service.logs(job.id, limit=2)
    rest = service.logs(job.id, after=first[-1].id)
    assert [line.text for line in [*first, *rest]] == ["0", "1", "2", "3", "4"]
    assert [line.text for line in service.newest_logs(job.id, limit=2)] == ["3", "4"]


def test_progress_writes_are_thinned_and_the_last_word_is_kept(
    service: JobService, control_engine: Engine, clock: HandClock
) -> None:
    seen: list[float | None] = []

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        for n in range(100):
            ctx.progress(n / 100, f"{n}")
        seen.append(service.get(ctx.job_id).progress)
        clock.pass_s(1)
        ctx.progress(2.0, "nearly")
        seen.append(service.get(ctx.job_id).progress)
        ctx.progress(None, "last words")
        return {}

    job = service.submit("k", {})
    make_worker(control_engine, clock, {"k": handler}).run_once()
    assert seen == [0.0, 1.0]
    assert service.get(job.id).message == "last words"
