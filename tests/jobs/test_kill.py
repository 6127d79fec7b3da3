"""A real worker process is killed with signal 9 in the middle of a step; another one finishes its job."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from penstock.jobs.context import JobContext
from penstock.jobs.service import JobService
from penstock.jobs.worker import Worker
from penstock.store.control.engine import open_control

VICTIM = """
import sys, time
from penstock.jobs.worker import Worker
from penstock.store.control.engine import open_control

def handler(ctx, spec):
    for n in range(3):
        ctx.step("part", {"n": n}, lambda: print(f"ran {n}", flush=True) or n * 10)
        ctx.log(f"part {n} finished")
    print("ready", flush=True)
    ctx.step("part", {"n": 3}, lambda: time.sleep(600))

Worker(open_control(sys.argv[1]), {"ingest": handler}, "victim", lease_s=1.0).run_once()
"""


def test_after_kill_9_another_worker_finishes_without_repeating_finished_steps(
    control_db_url: str, tmp_path: Path
) -> None:
    engine = open_control(control_db_url)
    service = JobService(engine)
    job = service.submit("ingest", {})
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)
    with subprocess.Popen(
        [sys.executable, script, control_db_url], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        said = [victim.stdout.readline().strip() for _ in range(4)]
        assert said == ["ran 0", "ran 1", "ran 2", "ready"]
        assert service.get(job.id).worker_id == "victim"
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    ran: list[int] = []

    def handler(ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
        def part(n: int) -> int:
            ran.append(n)
            return n * 10

        return {"parts": [ctx.step("part", {"n": n}, lambda n=n: part(n)) for n in range(5)]}

    heir = Worker(engine, {"ingest": handler}, "heir")
    for _ in range(4000):
        if heir.run_once():
            break
        time.sleep(0.05)  # until the victim's lease of a second has run out
    done = service.get(job.id)
    assert (done.state, done.result) == ("done", {"parts": [0, 10, 20, 30, 40]})
    assert ran == [3, 4]
    assert [step.attempt for step in service.steps(job.id)] == [1, 1, 1, 2, 2]
    assert [line.text for line in service.logs(job.id)] == [
        "part 0 finished",
        "part 1 finished",
        "part 2 finished",
        "Worker victim stopped answering; heir takes over.",
    ]
    engine.dispose()
