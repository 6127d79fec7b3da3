"""Parts of the trainer that need no training library: defaults, steps, order, packing, events, checkpoints, agreement."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.spec import tuning
from penstock.tuning.trainer import agreement, batches, checkpoints, events, faults, run_spec, steps
from penstock.tuning.trainer.faults import TrainingFault
from penstock.tuning.trainer.row_files import Ragged, SupervisedRows, check_rows
from tests.evals.scorers.judging import judge


@pytest.mark.parametrize(
    "name", ["AdapterPart", "TrainPart", "PreferencePart", "HeldOutPart", "BudgetPart", "ScratchPart"]
)
def test_defaults_are_those_that_the_frozen_run_leaves_out(name: str) -> None:
    theirs = {field.name: field.default for field in msgspec.structs.fields(getattr(tuning, name))}
    ours = {field.name: field.default for field in dataclasses.fields(getattr(run_spec, name))}
    assert ours == {key: theirs[key] for key in ours}


def test_a_frozen_run_as_it_is_written_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    recipe = tuning.Recipe(
        name="r",
        method="distill",
        data=tuning.DataPart(train="dataset:a", max_length=64),
        output=tuning.OutputPart(name="m"),
        adapter=tuning.AdapterPart(r=8, targets=("q_proj",)),
        train=tuning.TrainPart(batch_size=2),
        distill=tuning.DistillPart(teacher="large", student="lora"),
    )
    base = tuning.PinnedAsset(asset="model:b", number=3, digest="sha256:1")
    frozen = tuning.FrozenRun(
        id="x",
        recipe=recipe,
        base=base,
        data=(),
        renderer_digest=None,
        stop_ids=(5,),
        pad_id=1,
        digest="sha256:2",
    )
    path = tmp_path / "run.json"
    path.write_bytes(msgspec.json.encode(frozen))
    run = run_spec.read_run(path)
    assert (run.method, run.seed, run.stop_ids, run.pad_id, run.max_length) == ("lora", 20, (5,), 1, 64)
    assert (run.model, run.train_rows, run.heldout_rows, run.samples) == (
        "base",
        "data/train",
        "data/heldout",
        "data/samples.json",
    )
    assert run.adapter == run_spec.AdapterPart(r=8, targets=("q_proj",))
    assert run.train == run_spec.TrainPart(batch_size=2)
    assert run.base == {"asset": "model:b", "number": 3, "digest": "sha256:1"}
    assert run.lr == run_spec.DEFAULT_LR["lora"]


def test_a_full_run_trains_no_adapter_though_its_recipe_has_one(tmp_path: Path) -> None:
    frozen = {"id": "x", "digest": "", "recipe": {"name": "r", "method": "full", "adapter": {"r": 4}}}
    (tmp_path / "run.json").write_text(json.dumps(frozen))
    assert run_spec.read_run(tmp_path / "run.json").adapter is None


@pytest.mark.parametrize(
    ("n_rows", "options", "wanted"),
    [
        (10, {"batch_size": 4}, 3),
        (10, {"batch_size": 4, "epochs": 2.0}, 6),
        (10, {"batch_size": 4, "epochs": 0.5}, 2),
        (10, {"batch_size": 4, "accumulate": 2}, 2),
        (10, {"batch_size": 4, "epochs": 0.01}, 1),
        (10, {"batch_size": 4, "epochs": 9.0, "max_steps": 5}, 5),
    ],
)
def test_steps_are_counted_with_the_last_short_one(n_rows: int, options: Any, wanted: int) -> None:
    assert steps.count_steps(n_rows, **options) == wanted


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_rises_falls_and_is_gone_at_the_end(schedule: str) -> None:
    rates = [steps.rate_at(step, lr=1.0, schedule=schedule, warmup_steps=4, n_steps=20) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == pytest.approx(0.0, abs=1e-9)
    assert rates[12] == pytest.approx(0.5)


def test_a_warm_up_longer_than_the_run_is_shortened() -> None:
    rates = [
        steps.rate_at(step, lr=1.0, schedule="constant", warmup_steps=100, n_steps=20) for step in range(20)
    ]
    assert rates == [0.5] + [1.0] * 19


@given(n_rows=st.integers(1, 60), size=st.integers(1, 9), seed=st.integers(0, 99), first=st.integers(0, 50))
def test_each_epoch_has_each_row_once_wherever_a_run_begins_to_look(
    n_rows: int, size: int, seed: int, first: int
) -> None:
    order = batches.StepOrder(n_rows, seed=seed, size=size)
    order.rows(first)
    for epoch in (0, 2):
        seen = [order.rows(epoch * order.per_epoch + at) for at in range(order.per_epoch)]
        assert sorted(np.concatenate(seen).tolist()) == list(range(n_rows))
        for at, rows in enumerate(seen):
            again = batches.rows_of_step(epoch * order.per_epoch + at, n_rows, seed=seed, size=size)
            assert rows.tolist() == again.tolist()


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), width=st.integers(40, 90))
def test_packing_keeps_every_row_whole_and_fills_well(lengths: list[int], width: int) -> None:
    lines = batches.pack_rows(np.array(lengths), width)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    fill = [sum(lengths[row] for row in line) for line in lines]
    assert max(fill) <= width
    assert sum(2 * total <= width for total in fill) <= 1


def test_a_row_over_the_width_is_alone_on_its_line() -> None:
    assert sorted(batches.pack_rows(np.array([50, 3, 4]), 10)) == [[0], [2, 1]]


def test_packed_rows_do_not_see_each_other_nor_what_comes_later() -> None:
    allowed = batches.allow_attention(np.array([[1, 1, 2, 2, 0]]))[0, 0].astype(int).tolist()
    assert allowed == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_half_a_line_that_a_kill_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "begun"}\n{"kind": "st')
    log = events.EventLog(path, clock_ns=lambda: 7)
    log.write("step", step=1, values={"loss": float("nan"), "n": 3, "lr": 0.5})
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[1] == {"kind": "step", "at_ns": 7, "step": 1, "values": {"loss": None, "n": 3, "lr": 0.5}}
    assert len(lines) == 2


def test_events_are_run_events(tmp_path: Path) -> None:
    log = events.EventLog(tmp_path / "events.jsonl")
    for kind in ("begun", "step", "eval", "sample", "checkpoint", "best", "note", "fault", "ended"):
        log.write(kind, step=2, epoch=0.5, values={"loss": 1.0}, text="t", detail={"path": "p"})
    log.close()
    for line in (tmp_path / "events.jsonl").read_bytes().splitlines():
        event = msgspec.json.decode(line, type=tuning.RunEvent)
        assert (event.step, event.text, event.values) == (2, "t", {"loss": 1.0})


def test_the_newest_whole_checkpoint_is_found_and_the_best_is_kept(tmp_path: Path) -> None:
    kept = checkpoints.Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4, 5):
        kept.write(step, {"w": lambda path: path.write_bytes(b"x")}, {"digest": "d", "inputs": {}})
        if step == 2:
            kept.mark_best(2)
        kept.prune()
    assert kept.steps() == [5, 4, 2]
    (tmp_path / "step-5" / "w").write_bytes(b"y")
    found = kept.find_newest()
    assert found is not None
    assert found[0].name == "step-4"
    best = kept.find_best()
    assert best is not None
    assert best.name == "step-2"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    kept = checkpoints.Checkpoints(tmp_path, keep=2)
    kept.write(1, {}, {})

    def refuse(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(faults.TrainingFault) as told:
        kept.write(2, {"w": refuse}, {})
    assert told.value.fault == "disk_full"
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


@pytest.mark.parametrize(
    ("error", "is_disk"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("I/O error: Permission denied (os error 13)"), False),
    ],
)
def test_a_full_disk_is_known_by_number_or_by_words(error: Exception, is_disk: bool) -> None:
    assert (faults.tell_disk_fault(error) is not None) is is_disk


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_refused_memory_is_known(error: Exception, is_memory: bool) -> None:
    assert (faults.tell_memory_fault(error) is not None) is is_memory


PAIRS = [
    ("Drink water.", "Drink water."),
    (" Drink\n water. ", "Drink water."),
    ("drink water", "Drink water."),
    ("Walk, and walk again!", "walk every day"),
    ("", "walk"),
    ("", ""),
    ("?!", "?!"),
    ("喝水每天", "每天喝水吧"),
    ("नमस्ते दुनिया", "नमस्ते"),
    ("Café ﬁne", "cafe\u0301 fine"),
    ("ไทยดี abc", "abc ไทย"),
]


@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_replies_are_judged_as_the_scorers_of_evaluations_judge_them(text: str, reference: str) -> None:
    assert float(agreement.is_exact_match(text, reference)) == judge("exact", text, reference).value
    assert agreement.token_f1(text, reference) == pytest.approx(judge("token_f1", text, reference).value)


def test_an_id_below_zero_is_told_as_a_row_that_is_wrong() -> None:
    ids = Ragged(np.array([1, -5, 3], np.int32), np.array([0, 3]))
    rows = SupervisedRows(ids, np.array([0, 1, 1], np.uint8))
    with pytest.raises(TrainingFault, match="token id -5"):
        check_rows(rows, vocab_size=10, context_length=10)
