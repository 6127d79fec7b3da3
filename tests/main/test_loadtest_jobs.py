"""Jobs of load tests: a process of its own sends the calls; whoever ends it, the record says what is so."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from penstock.deploy.load.errors import GeneratorFailed
from penstock.deploy.load.mixes import Material
from penstock.deploy.load.ports import TargetFacts
from penstock.deploy.load.service import LoadPorts, LoadTestService
from penstock.deploy.load.types import LoadSpec, MixClass, Shape
from penstock.jobs.errors import JobCancelled
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.main.job_kinds import LOAD_TEST
from penstock.main.load_engine import EngineCounts
from penstock.main.load_ports import QueuedLoadTests
from penstock.main.load_process import LoadOrder
from penstock.main.loadtesting import LoadRuns, run_sender
from penstock.store.blobs import BlobStore
from tests.main.fleet import wait_until
from tests.main.scripted_provider import ScriptedProvider

SPEC = LoadSpec(
    route="a",
    shape=Shape(kind="constant", rate=10),
    requests=10,
    warmup=2,
    max_late_ms=10_000,
    mix=(MixClass(prompt_tokens=20, completion_tokens=5),),
)
LONG = msgspec.structs.replace(SPEC, requests=None, seconds=50.0)


class Known:
    """Targets and materials of the tests."""

    def describe(self, _name: str) -> TargetFacts:
        return TargetFacts(is_known=True, is_hosted=False, prices=(0.0, 0.0))

    def suggest(self, _name: str) -> None:
        return None

    def read(self, _spec: LoadSpec) -> Mapping[str, Material]:
        return {}


class House:
    def __init__(self, engine: Engine, folder: Path, provider: ScriptedProvider) -> None:
        self.provider = provider
        self.jobs = JobService(engine)
        ports = LoadPorts(
            targets=Known(), materials=Known(), jobs=QueuedLoadTests(self.jobs), blobs=BlobStore(str(folder))
        )
        self.tests = LoadTestService(engine, ports)
        self.runs = LoadRuns(self.tests, gateway_url=provider.url, key="the-internal-key")
        self.worker = Worker(engine, {LOAD_TEST: self.runs.run}, "w1")

    def begin(self, spec: LoadSpec) -> tuple[str, threading.Thread]:
        record = self.tests.start(spec, actor="ada")
        thread = threading.Thread(target=self.worker.run_once, daemon=True)
        thread.start()
        wait_until(lambda: len(self.provider.bodies) > 4, what="calls")
        return record.id, thread


@pytest.fixture
def house(sqlite_engine: Engine, tmp_path: Path) -> Iterator[House]:
    provider = ScriptedProvider()
    yield House(sqlite_engine, tmp_path / "blobs", provider)
    provider.close()


def senders() -> list[int]:
    """Process ids of children of this process that send calls."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "load_process" in line]


def test_a_job_sends_the_calls_and_keeps_what_they_came_to(house: House) -> None:
    record = house.tests.start(msgspec.structs.replace(SPEC, limits=("ttft.p50 <= 60s",)), actor="ada")
    assert house.worker.run_once()
    done = house.tests.get(record.id)
    assert (done.state, done.verdict) == ("done", "pass")
    assert done.result is not None
    assert done.result.targets[0].n == 10
    assert done.result.targets[0].n_failed == 0
    assert len(house.provider.bodies) == 12
    assert len(b"".join(house.tests.read_samples(record.id)).splitlines()) == 12
    ttft = done.result.targets[0].spreads["ttft"]
    assert ttft.min is not None
    assert ttft.min >= 20
    assert house.jobs.get(done.job_id or "").state == "done"


def test_a_stopped_test_keeps_what_it_measured(house: House) -> None:
    test_id, thread = house.begin(LONG)
    house.tests.stop(test_id)
    thread.join(240)
    record = house.tests.get(test_id)
    assert record.state == "stopped"
    assert record.result is not None
    assert 1 <= record.result.n_calls < 500
    assert record.result.stopped == "stopped by hand"
    assert record.samples is not None
    assert senders() == []


def test_a_sender_that_is_killed_fails_the_test_with_a_reason(house: House) -> None:
    test_id, thread = house.begin(LONG)
    (sender,) = senders()
    os.kill(sender, signal.SIGKILL)
    thread.join(240)
    record = house.tests.get(test_id)
    assert record.state == "failed"
    assert "process that sends calls ended" in record.sentence
    assert record.error is not None
    assert record.error["code"] == GeneratorFailed.code


def test_what_control_left_behind_is_not_sent_again_by_itself(house: House) -> None:
    record = house.tests.start(SPEC, actor="ada")
    house.tests.change(record.id, state="running")  # and control was killed here
    house.worker.run_once()
    assert house.tests.get(record.id).state == "failed"
    assert house.provider.bodies == []


def test_a_test_deleted_before_its_job_is_no_error(house: House) -> None:
    record = house.tests.start(SPEC, actor="ada")
    house.tests.change(record.id, state="stopped")
    house.tests.delete(record.id)
    house.worker.run_once()
    assert house.jobs.get(record.job_id or "").state == "done"


def test_the_key_is_in_no_command_line_and_no_file_at_any_time(house: House, tmp_path: Path) -> None:
    order = LoadOrder(
        test_id="load_1",
        spec=LONG,
        material={},
        prices=None,
        gateway_url=house.provider.url,
        key="secret-key",
    )

    class Looking:
        """A context that looks around, and cancels in the middle."""

        def check_cancelled(self) -> None:
            if len(house.provider.bodies) > 4:
                raise JobCancelled("job_1")

        def progress(self, *_told: Any) -> None:
            for path in tmp_path.iterdir():
                assert b"secret-key" not in path.read_bytes()
            for pid in senders():
                assert b"secret-key" not in Path(f"/proc/{pid}/cmdline").read_bytes()

    context: Any = Looking()
    assert isinstance(run_sender(tmp_path, order, context), JobCancelled)
    assert (tmp_path / "result.json").exists()


def test_a_sender_whose_parent_is_gone_ends_by_itself(house: House, tmp_path: Path) -> None:
    """Its standard input ends when control is killed; nobody is left to send SIGTERM."""
    order = LoadOrder(
        test_id="load_1", spec=LONG, material={}, prices=None, gateway_url=house.provider.url, key="k"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.main.load_process", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    process.stdin.flush()
    wait_until(lambda: len(house.provider.bodies) > 4, what="calls")
    process.stdin.close()
    assert process.wait(timeout=240) == 0
    assert b"whoever started it is gone" in (tmp_path / "result.json").read_bytes()


def test_engine_counts_are_of_the_time_in_between() -> None:
    counts = EngineCounts(list, "key")
    before = {"u pocket": {"name": "pocket", "requests": 5, "prompt_tokens": 100}}
    after = {
        "u pocket": {"name": "pocket", "slots": 2, "requests": 9, "prompt_tokens": 180, "busy_s": 1.5},
        "u idle": {"name": "idle", "requests": 0},
    }
    told = counts.subtract(before, after)
    assert told is not None
    (model,) = told["models"]
    assert (model["requests"], model["prompt_tokens"], model["slots"]) == (4, 80, 2)
    assert counts.subtract(before, before) is None


def test_an_engine_that_began_anew_counts_from_nothing() -> None:
    told = EngineCounts(list, "key").subtract(
        {"u p": {"name": "p", "requests": 50}}, {"u p": {"name": "p", "requests": 3}}
    )
    assert told is not None
    assert told["models"][0]["requests"] == 3


def test_engines_that_ended_meanwhile_are_named() -> None:
    """A hot swap ends the old engine, and its counts with it: the sum is less than what the sender was given."""
    told = EngineCounts(list, "key").subtract(
        {"old p": {"name": "p", "version": "model:p@1", "requests": 50}},
        {"new p": {"name": "p", "version": "model:p@2", "requests": 3}},
    )
    assert told is not None
    assert told["gone"] == [{"name": "p", "version": "model:p@1"}]
    assert [one["version"] for one in told["models"]] == ["model:p@2"]


def test_an_engine_that_does_not_answer_is_left_out() -> None:
    assert EngineCounts(lambda: ["http://127.0.0.1:9"], "key").read() == {}
