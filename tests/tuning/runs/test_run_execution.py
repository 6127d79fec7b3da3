"""A run from its record to a registered model, and everything that can end it on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.datasets.cases import row_to_case
from penstock.jobs.errors import JobCancelled, WorkerStopping
from penstock.tuning.preflight.flight import fly
from penstock.tuning.preflight.types import Flight
from penstock.tuning.recipes.reading import read_recipe
from penstock.tuning.runs.errors import RunActive, RunChanged, RunRefused, TrainerFailed
from penstock.tuning.runs.events import iter_events, kept_events
from penstock.tuning.runs.scratching import texts_of
from tests.tuning.chat_templates import CHATML, make_renderer
from tests.tuning.runs.workshop import PARITY, Context, Workshop, make_rows


def at_step(workshop: Workshop, run_id: str, step: int, error: BaseException) -> Callable[[], None]:
    """Raise `error` once the trainer has told of a step."""

    def check() -> None:
        events = iter_events(workshop.root / run_id / "events.jsonl")
        if any(event.kind == "step" and event.step >= step for event in events):
            raise error

    return check


def test_a_run_is_prepared_trained_and_registered(workshop: Workshop) -> None:
    record = workshop.begin()
    assert (record.state, record.base, record.recipe["data"]["train"]) == (
        "queued",
        "model:tiny@1",
        "dataset:walks@1",
    )
    context = Context()
    done = workshop.finish(record, context)
    assert (done.state, done.step, done.n_steps, done.attempts) == ("done", 12, 12, 1)
    assert done.best == {"step": 12, "metric": "loss", "value": 0.25, "n": 4}
    assert done.result is not None
    assert done.result["model"] == "model:walks@1"
    (registered,) = workshop.models.registered
    lineage = registered["lineage"]
    assert registered["base"] == "model:tiny@1"
    assert registered["alias"] == "candidate"
    assert (lineage.run, lineage.frozen_digest, lineage.method) == (record.id, done.frozen_digest, "full")
    assert [pinned.asset for pinned in lineage.data] == ["dataset:walks"]
    assert lineage.environment == {"digest": "sha256:fake", "packages": {"torch": "0.fake"}}
    assert {"tokenizer.json", "tokenizer_config.json", "config.json"} <= set(registered["files"])
    shares = [share for share, _ in context.told if share is not None]
    assert shares == sorted(shares)
    folder = workshop.folder(record)
    assert not folder.out.exists()
    assert not folder.data.exists()


def test_a_run_that_is_done_is_not_run_again(workshop: Workshop) -> None:
    record = workshop.begin()
    workshop.finish(record)
    assert workshop.finish(record).state == "done"
    assert len(workshop.models.registered) == 1


def test_a_killed_trainer_goes_on_and_makes_the_same_weights(workshop: Workshop) -> None:
    straight = workshop.weights()
    workshop.wish(kind="kill", at=8)
    record = workshop.begin()
    context = Context()
    done = workshop.finish(record, context)
    assert (done.state, done.attempts) == ("done", 2)
    assert workshop.models.registered[-1]["weights"] == straight
    assert any("trying again from the last checkpoint" in line for line in context.logs)
    steps = [
        event.step
        for event in kept_events(iter_events(workshop.folder(record).events))
        if event.kind == "step"
    ]
    assert steps == list(range(1, 13))


def test_an_event_that_a_kill_cut_in_half_is_left_out(workshop: Workshop) -> None:
    workshop.wish(kind="torn", at=5)
    done = workshop.finish(workshop.begin())
    assert done.state == "done"
    for line in workshop.folder(done).events.read_text().splitlines():
        json.loads(line)


def test_a_trainer_that_dies_at_the_same_step_again_and_again_has_failed(workshop: Workshop) -> None:
    workshop.wish(kind="crash", at=5, starts=99, text="Segmentation fault (core dumped)")
    record = workshop.begin()
    with pytest.raises(TrainerFailed, match="Segmentation fault"):
        workshop.finish(record)
    failed = workshop.service.get(record.id)
    assert (failed.state, failed.fault, failed.attempts) == ("failed", "trainer", 3)
    assert failed.error is not None
    assert failed.error["code"] == "PS-4580"
    assert (workshop.folder(record).checkpoints / "step-3").is_dir()


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ({"kind": "fault", "fault": "nan_loss", "text": "the loss is not a number"}, "nan_loss"),
        ({"kind": "fault", "fault": "disk_full", "text": "no room"}, "disk_full"),
        ({"kind": "crash", "text": "OSError: [Errno 28] No space left on device"}, "disk_full"),
        ({"kind": "crash", "text": "RuntimeError: CUDA out of memory. Tried to allocate"}, "out_of_memory"),
    ],
)
def test_a_fault_is_told_by_name_and_not_tried_again(
    workshop: Workshop, wish: dict[str, str], fault: str
) -> None:
    workshop.wish(at=5, starts=99, **wish)
    record = workshop.begin()
    with pytest.raises(TrainerFailed) as caught:
        workshop.finish(record)
    failed = workshop.service.get(record.id)
    assert (failed.state, failed.fault, failed.attempts) == ("failed", fault, 1)
    assert caught.value.hint
    assert (workshop.folder(record).checkpoints / "step-3").is_dir()


def test_a_run_that_failed_goes_on_from_its_last_checkpoint(workshop: Workshop) -> None:
    straight = workshop.weights()
    workshop.wish(kind="fault", fault="nan_loss", text="nan", at=8)
    record = workshop.begin()
    with pytest.raises(TrainerFailed):
        workshop.finish(record)
    done = workshop.finish(workshop.service.reopen(record.id))
    assert (done.state, done.fault, done.error) == ("done", None, None)
    assert workshop.models.registered[-1]["weights"] == straight


def test_cancelling_stops_with_a_checkpoint_and_resuming_goes_on(workshop: Workshop) -> None:
    straight = workshop.weights()
    workshop.wish(step_s=0.02)
    record = workshop.begin()
    context = Context()
    context.on_check = at_step(workshop, record.id, 4, JobCancelled())
    with pytest.raises(JobCancelled):
        workshop.finish(record, context)
    stopped = workshop.service.get(record.id)
    assert stopped.state == "stopped"
    names = {path.name for path in workshop.folder(record).checkpoints.iterdir()}
    assert names - {"step-3", ".part"}, "it wrote one more where it was stopped"
    workshop.wish()
    done = workshop.finish(workshop.service.reopen(record.id))
    assert done.state == "done"
    assert workshop.models.registered[-1]["weights"] == straight


def test_a_stopping_control_leaves_the_run_to_its_next_start(workshop: Workshop) -> None:
    workshop.wish(step_s=0.02)
    record = workshop.begin()
    context = Context()
    context.on_check = at_step(workshop, record.id, 4, WorkerStopping())
    with pytest.raises(WorkerStopping):
        workshop.finish(record, context)
    assert workshop.store.get(record.id).state == "queued"
    workshop.wish()
    assert workshop.finish(record).state == "done"


def test_rows_that_changed_since_the_checkpoint_refuse_to_go_on(workshop: Workshop) -> None:
    """LLaMA-Factory#7085: resuming over other data skipped rows in silence."""
    workshop.wish(kind="fault", fault="nan_loss", text="nan", at=5)
    record = workshop.begin()
    with pytest.raises(TrainerFailed):
        workshop.finish(record)
    ids = workshop.folder(record).data / "train" / "ids.npy"
    data = bytearray(ids.read_bytes())
    data[-1] ^= 1
    ids.write_bytes(bytes(data))
    with pytest.raises(RunChanged):
        workshop.finish(workshop.service.reopen(record.id))
    failed = workshop.service.get(record.id)
    assert (failed.state, failed.fault) == ("failed", "data_changed")
    assert len(workshop.models.registered) == 0


def test_a_new_version_of_the_data_does_not_touch_a_run_that_waits(workshop: Workshop) -> None:
    record = workshop.begin()
    workshop.assets.rows["dataset:walks"].append(make_rows(5))
    done = workshop.finish(record)
    assert done.recipe["data"]["train"] == "dataset:walks@1"


def test_rows_that_were_lost_are_written_again_and_must_be_the_same(workshop: Workshop) -> None:
    straight = workshop.weights()
    workshop.wish(kind="fault", fault="nan_loss", text="nan", at=5)
    record = workshop.begin()
    with pytest.raises(TrainerFailed):
        workshop.finish(record)
    for path in workshop.folder(record).data.rglob("*"):
        if path.is_file():
            path.unlink()

    shutil.rmtree(workshop.folder(record).data)
    done = workshop.finish(workshop.service.reopen(record.id))
    assert done.state == "done"
    assert workshop.models.registered[-1]["weights"] == straight


def test_what_the_preflight_refuses_is_never_trained(workshop: Workshop) -> None:
    record = workshop.begin(data={"max_length": 12})
    with pytest.raises(RunRefused) as caught:
        workshop.finish(record)
    failed = workshop.service.get(record.id)
    assert (failed.state, failed.fault) == ("failed", "preflight")
    assert failed.preflight is not None
    assert {finding["code"] for finding in failed.preflight["findings"]} >= {"truncated"}
    assert caught.value.fields["findings"]
    assert not workshop.folder(record).events.exists()


def test_memory_over_the_budget_is_refused_before_training(workshop: Workshop) -> None:
    record = workshop.begin(budget={"max_memory_gb": 0.1})
    with pytest.raises(RunRefused, match="too-little-memory"):
        workshop.finish(record)


def test_a_model_that_fails_its_proof_is_not_registered_and_packaged_anew_without_training(
    workshop: Workshop,
) -> None:
    record = workshop.begin()
    workshop.models.raises = [PARITY]
    with pytest.raises(type(PARITY)):
        workshop.finish(record)
    failed = workshop.service.get(record.id)
    assert (failed.state, failed.fault) == ("failed", "parity")
    done = workshop.finish(workshop.service.reopen(record.id))
    assert (done.state, done.attempts) == ("done", 1)


def test_minutes_that_are_used_up_end_training_and_the_best_is_registered(workshop: Workshop) -> None:
    workshop.wish(reason="budget", code=3)
    context = Context()
    done = workshop.finish(workshop.begin(), context)
    assert done.state == "done"
    assert done.result is not None
    assert done.result["ended"] == "budget"
    assert any("minutes are used up" in line for line in context.logs)


def test_a_trainer_that_holds_too_much_memory_is_ended_and_told(workshop: Workshop) -> None:
    workshop.wish(kind="grow", at=4, bytes=900_000_000)
    record = workshop.begin(budget={"max_memory_gb": 0.75})
    with pytest.raises(TrainerFailed, match=r"0\.75 GB are allowed"):
        workshop.finish(record)
    assert workshop.service.get(record.id).fault == "out_of_memory"


def test_a_trainer_that_fills_the_disk_is_ended_and_told(workshop: Workshop) -> None:
    workshop.wish(kind="fill", at=4, bytes=30_000_000)
    record = workshop.begin(budget={"max_disk_gb": 0.02})
    with pytest.raises(TrainerFailed, match="are allowed"):
        workshop.finish(record)
    assert workshop.service.get(record.id).fault == "disk_full"


def test_two_never_work_on_one_run(workshop: Workshop) -> None:
    record = workshop.begin()
    folder = workshop.folder(record)
    clock = iter(range(0, 10_000, 5))
    with (
        folder.hold(record.id),
        pytest.raises(RunActive),
        folder.hold(record.id, sleep=lambda _s: None, monotonic=lambda: float(next(clock))),
    ):
        pass
    assert not folder.is_held()


def test_an_orphaned_trainer_is_waited_for_then_killed_before_the_next_one_starts(workshop: Workshop) -> None:
    record = workshop.begin()
    folder = workshop.folder(record)
    with folder.hold(record.id) as lock:
        orphan = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock,), start_new_session=True
        )
        folder.note_trainer(orphan.pid)
    assert folder.is_held()
    killed: list[int] = []

    def kill(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)
        orphan.wait(120)

    clock = iter(range(0, 10_000, 5))
    with folder.hold(record.id, sleep=lambda _s: None, monotonic=lambda: float(next(clock)), kill=kill):
        pass
    assert killed == [orphan.pid]


DRIVER = """
import sys
from pathlib import Path
from penstock.store.control.engine import open_control
from tests.tuning.runs.workshop import Context, open_workshop
root, url, base, run_id = sys.argv[1:]
workshop = open_workshop(Path(root), open_control(url), Path(base))
workshop.finish(workshop.store.get(run_id), Context())
"""


def test_whoever_drives_a_run_may_be_killed_at_any_moment(
    workshop: Workshop, tmp_path: Path, tiny_base: Path
) -> None:
    straight = workshop.weights()
    workshop.wish(step_s=0.05)
    record = workshop.begin()
    url = f"sqlite:///{tmp_path / 'control.db'}"
    arguments = [str(workshop.root), url, str(tiny_base), record.id]
    for wanted in (2, 7):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], cwd=Path(__file__).parents[3])
        events = workshop.folder(record).events
        end = time.monotonic() + 240
        while time.monotonic() < end and driver.poll() is None:
            if any(event.kind == "step" and event.step >= wanted for event in iter_events(events)):
                break
            time.sleep(0.02)
        driver.kill()
        driver.wait()
    workshop.wish()
    done = workshop.finish(record)
    assert done.state == "done"
    assert workshop.models.registered[-1]["weights"] == straight
    starts = int((workshop.folder(record).path / "starts").read_text())
    assert starts >= 2


def test_what_an_earlier_attempt_said_is_not_why_this_one_died(workshop: Workshop) -> None:
    """A fault that is not tried again must be this death's own, else a run that was killed would not resume."""
    workshop.wish(kind="kill", at=5)
    record = workshop.begin()
    folder = workshop.folder(record)
    folder.path.mkdir(parents=True)
    folder.log.write_text("Traceback\nMemoryError: of yesterday\n")
    context = Context()
    assert workshop.finish(record, context).state == "done"
    assert any("it was killed (SIGKILL)" in line for line in context.logs)


def test_a_tokenizer_is_trained_on_what_is_trained_on_alone(workshop: Workshop) -> None:
    """Held-out rows would be known to it, and rows beyond those that the recipe takes."""
    parts = {
        "name": "small",
        "method": "scratch",
        "data": {"train": "dataset:walks", "eval_share": 0.5, "max_rows": 3},
        "scratch": {"vocab_size": 512, "hidden_size": 32, "n_layers": 1, "n_heads": 2, "context_length": 128},
        "output": {"name": "small"},
    }
    pinned = workshop.execution._parts.preparation.pin(read_recipe(parts))
    texts = list(texts_of(pinned, row_to_case))
    flight = Flight(
        recipe=pinned.recipe, renderer=make_renderer(CHATML), train=pinned.train, as_case=row_to_case
    )
    looked = fly(flight)
    assert looked.train is not None
    assert looked.train.n_kept == 3
    assert len(texts) == 2 * 3
