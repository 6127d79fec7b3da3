"""What a plan says of memory, steps, time and money, and what it refuses with the cheapest change that fits."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from penstock.cli.tune_rows import print_plan
from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import Recipe, ScratchPart
from penstock.tuning import trainer
from penstock.tuning.costing import (
    LOGITS_AT_ONCE,
    cheapest_fit,
    count_trained,
    estimate_disk,
    estimate_memory,
    read_shape,
    shape_of_scratch,
    total_bytes,
)
from penstock.tuning.pacing import estimate_pace, measure_arithmetic
from penstock.tuning.planning import Planner, judge_budget, judge_machine, shorten, tokens_of_step
from penstock.tuning.preflight.types import Preflight, rows_text
from penstock.tuning.recipes.defaults import complete_recipe
from penstock.tuning.recipes.reading import read_recipe
from penstock.tuning.rows.types import RowsReport, Spread
from penstock.tuning.runs.driving import resident_bytes
from penstock.tuning.runs.errors import RunRefused
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.preparing import packing_width, read_frozen
from tests.tuning.runs.workshop import RUNTIME, Workshop, make_rows
from tests.tuning.trainer.run_folders import ENTRY, make_run, save_ragged

SHAPE = shape_of_scratch(
    ScratchPart(
        vocab_size=32_000, hidden_size=1024, n_layers=16, n_heads=16, ffn_size=4096, context_length=2048
    )
)


def recipe(method: str = "full", **parts: Any) -> Recipe:
    values: dict[str, Any] = {
        "name": "a",
        "method": method,
        "base": {"model": "model:x"},
        "data": {"train": "dataset:x"},
        "output": {"name": "a"},
        **parts,
    }
    return complete_recipe(read_recipe(values))


def looked(length: int = 512, n_tokens: int = 100_000) -> Preflight:
    spread = Spread(p50=length, p90=length, p99=length, largest=length)
    report = RowsReport(
        kind="supervised",
        n_read=200,
        n_kept=200,
        n_sequences=200,
        n_tokens=n_tokens,
        n_trained_tokens=50,
        lengths=spread,
    )
    return Preflight(findings=[], train=report)


def judge(wanted: Recipe, *, total: float = 64, free: float = 64, disk: float = 500) -> dict[str, Any]:
    found = judge_machine(
        wanted,
        SHAPE,
        looked(),
        memory_total=int(total * 1e9),
        memory_free=int(free * 1e9),
        disk_free=int(disk * 1e9),
    )
    return {each.code: each for each in found}


def test_parameters_are_counted_from_the_configuration(tmp_path: Path) -> None:
    config = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "intermediate_size": 512,
        "vocab_size": 4096,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = read_shape(tmp_path)
    assert shape.n_parameters == 4096 * 256 + 4 * (2 * 256 * 64 * 6 + 3 * 256 * 512) + 9 * 256
    assert (shape.head_size, shape.context_length) == (64, 1024)


def test_full_training_in_32_bits_takes_sixteen_bytes_a_parameter() -> None:
    parts = {part.name: part.size_bytes for part in estimate_memory(recipe(), SHAPE, length=512)}
    assert parts["weights"] + parts["optimizer"] == 16 * SHAPE.n_parameters
    assert "reference" not in parts
    halves = {
        part.name: part.size_bytes for part in estimate_memory(recipe(), SHAPE, length=512, is_gpu=True)
    }
    assert halves["weights"] + halves["optimizer"] == 18 * SHAPE.n_parameters


def test_an_adapter_moves_few_parameters() -> None:
    lora = recipe("lora", adapter={"r": 8, "targets": ["q_proj", "v_proj"]})
    assert count_trained(lora, SHAPE) == 16 * 8 * 2 * (1024 + 1024)
    assert count_trained(recipe("dora", adapter={"r": 8, "targets": ["q_proj"]}), SHAPE) == 16 * (
        8 * 2048 + 1024
    )
    assert total_bytes(estimate_memory(lora, SHAPE, length=512)) < total_bytes(
        estimate_memory(recipe(), SHAPE, length=512)
    )


def test_preferences_hold_no_second_model() -> None:
    """The trainer asks for the reference's log-probabilities before its first step, and drops nothing it would need."""
    names = {part.name for part in estimate_memory(recipe("dpo"), SHAPE, length=512)}
    assert names == {"weights", "optimizer", "activations", "logits", "libraries"}


def test_logits_are_counted_as_the_trainer_holds_them(tune_python: Path, tmp_path: Path) -> None:
    """A portion at a time, however many tokens a batch has: counting all of them refused runs that fit five times."""
    forwards = (Path(trainer.__file__).parent / "forwards.py").read_text()
    assert re.search(r"^PORTION = 1 << (\d+)$", forwards, re.MULTILINE)[1] == str(  # type: ignore[index]
        LOGITS_AT_ONCE.bit_length() - 1
    )
    scratch = {"vocab_size": 40_000, "hidden_size": 16, "n_layers": 1, "n_heads": 2, "ffn_size": 16}
    wanted = recipe(
        "scratch",
        base={},
        scratch=scratch | {"context_length": 1024},
        train={"batch_size": 6, "max_steps": 1},
    )
    assert wanted.scratch is not None
    folder = make_run(
        tmp_path / "run",
        method="scratch",
        scratch=scratch | {"context_length": 1024},
        train={"batch_size": 6, "max_steps": 1, "threads": 1},
        base=None,
        heldout=None,
        samples=None,
    )
    shutil.rmtree(folder / "base")
    (folder / "base").mkdir()
    rows = [[number % 39_000 for number in range(1024)]] * 6
    save_ragged(folder / "data" / "train", "", rows)
    np.save(folder / "data" / "train" / "mask.npy", np.ones(6 * 1024, np.uint8))
    np.save(folder / "data" / "train" / "rows.npy", np.arange(6, dtype=np.int64))
    # Of its own address space: `ru_maxrss` of a child begins with what its parent held when it was started.
    program = "import runpy, sys; del sys.argv[0]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    program += "finally: print(open('/proc/self/status').read(), flush=True)"
    done = subprocess.run(
        [tune_python, "-I", "-c", program, ENTRY, folder / "run.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", done.stdout, re.MULTILINE)
    held = int(peak) * 1024
    estimated = total_bytes(estimate_memory(wanted, shape_of_scratch(wanted.scratch), length=1024))
    assert held * 0.8 < estimated < held * 2


def test_too_little_memory_is_refused_with_the_cheapest_change_that_fits() -> None:
    found = judge(recipe(train={"batch_size": 16}), total=8)
    assert found["too-little-memory"].severity == "refuse"
    assert "train.batch_size = " in found["too-little-memory"].hint
    assert "the same rows a step" in found["too-little-memory"].hint
    assert judge(recipe(train={"batch_size": 16}), total=64) == {}


def test_changes_are_tried_in_the_order_of_what_they_cost() -> None:
    wanted = recipe(train={"batch_size": 16})

    def fit(gigabytes: float) -> str | None:
        return cheapest_fit(wanted, SHAPE, length=512, limit_bytes=int(gigabytes * 1e9))

    whole = total_bytes(estimate_memory(wanted, SHAPE, length=512)) / 1e9
    assert "batch_size = 8" in str(fit(whole - 0.1))
    one = estimate_memory(recipe(train={"batch_size": 1, "accumulate": 16}), SHAPE, length=512)
    assert "gradient_checkpointing" in str(fit(total_bytes(one) / 1e9 - 0.05))
    assert 'method = "lora"' in str(fit(2.9))
    assert fit(0.5) is None


def test_packing_is_the_first_to_go() -> None:
    """Lines of packed rows are as long as the context, and attention's mask grows with the square (A base of 131,072)."""
    packed = recipe(train={"packing": True}, data={"train": "dataset:x", "max_length": 2048})
    needed = total_bytes(estimate_memory(packed, SHAPE, length=2048))
    assert (
        cheapest_fit(packed, SHAPE, length=2048, limit_bytes=needed - 1, longest=100)
        == "train.packing = false"
    )
    assert packing_width(131_072, 300) == 2048
    assert packing_width(131_072, 5000) == 5000
    assert packing_width(1024, 300) == 1024


def test_a_step_reads_whole_lines_where_rows_are_packed_and_never_more_than_there_is() -> None:
    report = looked(n_tokens=1595).train
    assert report is not None
    report = msgspec.structs.replace(report, n_sequences=53)
    packed = recipe(train={"packing": True, "batch_size": 2, "accumulate": 2})
    assert tokens_of_step(packed, report, width=1024) == 1595
    assert tokens_of_step(recipe(train={"batch_size": 100}), report, width=1024) == 1595
    assert tokens_of_step(recipe(train={"batch_size": 2}), report, width=None) == pytest.approx(1595 / 53 * 2)


def on_gpu(workshop: Workshop, gigabytes: float) -> Planner:
    runtime = msgspec.structs.replace(
        RUNTIME, device="cuda:0", hardware={"gpu": "x", "gpu_memory_gb": gigabytes}
    )
    return Planner(dataclasses.replace(workshop.service._planner._parts, find_runtime=lambda: runtime))


def test_a_run_is_judged_by_the_gpu_that_its_plan_was_judged_by(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's memory says nothing about a GPU's: neither refuses the run, nor lets one through that cannot fit."""
    monkeypatch.setattr("penstock.tuning.planning.memory_bytes", lambda: 1000)
    preparation = workshop.execution._parts.preparation
    pinned = preparation.pin(workshop.recipe())
    base = preparation.open_base(pinned, RunFolder(workshop.root, "plan_1"))
    preflight = preparation.look(pinned, base)
    large, small = on_gpu(workshop, 24.0), on_gpu(workshop, 0.1)
    assert large.judge(pinned, base, preflight) == []
    assert not large.plan(workshop.recipe(), measure=False).is_refused
    (found,) = small.judge(pinned, base, preflight)
    assert (found.code, found.severity) == ("too-little-memory", "refuse")
    assert "the GPU has 0.10 GB" in found.message
    assert small.plan(workshop.recipe(), measure=False).is_refused


def test_tokens_that_the_base_has_no_weights_for_are_told_by_the_plan(workshop: Workshop) -> None:
    """Else the trainer finds them, once everything is prepared."""
    preparation = workshop.execution._parts.preparation
    pinned = preparation.pin(workshop.recipe())
    base = preparation.open_base(pinned, RunFolder(workshop.root, "plan_1"))
    assert base is not None
    path = base.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 5}))
    found = {(each.code, each.severity) for each in preparation.look(pinned, base).findings}
    assert ("vocabulary-mismatch", "refuse") in found


def test_memory_that_others_hold_only_warns() -> None:
    assert judge(recipe(), free=1)["too-little-memory"].severity == "warn"


def test_the_budget_is_smaller_than_the_machine() -> None:
    assert (
        "the budget allows 2.00 GB" in judge(recipe(budget={"max_memory_gb": 2}))["too-little-memory"].message
    )


def test_too_little_disk_is_refused() -> None:
    assert judge(recipe(), disk=1)["too-little-disk"].severity == "refuse"
    assert estimate_disk(recipe(), None, n_tokens=1) is None
    less = estimate_disk(recipe(train={"keep_checkpoints": 1}), SHAPE, n_tokens=1)
    more = estimate_disk(recipe(train={"keep_checkpoints": 5}), SHAPE, n_tokens=1)
    assert less is not None
    assert more is not None
    assert less < more


def test_a_measured_time_over_the_budget_refuses_and_an_estimated_one_warns() -> None:
    wanted = recipe(budget={"max_minutes": 10})
    (measured,) = judge_budget(wanted, 1200, "measured", None)
    assert (measured.code, measured.severity) == ("over-budget", "refuse")
    assert measured.hint == "train.epochs = 0.5 would fit, or raise budget.max_minutes."
    (estimated,) = judge_budget(wanted, 1200, "estimated", None)
    assert estimated.severity == "warn"
    assert judge_budget(wanted, 500, "measured", None) == []
    assert judge_budget(wanted, None, None, None) == []


def test_a_teacher_that_costs_too_much_is_refused() -> None:
    wanted = recipe("distill", distill={"teacher": "big"}, budget={"max_cost_usd": 1})
    (found,) = judge_budget(wanted, None, None, 4.0)
    assert found.severity == "refuse"
    assert "25%" in str(found.hint)


def test_an_estimated_pace_counts_the_cores_that_are_used() -> None:
    one = estimate_pace(recipe(train={"threads": 1}), SHAPE, core_flops=1e11, n_cores=8)
    eight = estimate_pace(recipe(), SHAPE, core_flops=1e11, n_cores=8)
    assert eight == pytest.approx(8 * one)
    assert measure_arithmetic(seconds=0.01) > 0


def test_a_plan_measures_the_pace_of_the_very_run(workshop: Workshop) -> None:
    plan = workshop.service.plan(workshop.recipe())
    assert (plan.n_steps, plan.time_basis, plan.tokens_per_s) == (12, "measured", 500.0)
    assert plan.n_rows is not None
    assert plan.n_heldout is not None
    assert plan.n_rows + plan.n_heldout == 20
    assert plan.memory_bytes == total_bytes(plan.memory)
    assert plan.seconds is not None
    assert plan.seconds > 0
    assert not plan.is_refused
    assert [path.name for path in workshop.root.iterdir()] == ["bases"], "nothing of the plan is left behind"


def test_a_plan_without_measuring_goes_by_an_earlier_run_else_estimates(workshop: Workshop) -> None:
    assert workshop.service.plan(workshop.recipe(), measure=False).time_basis == "estimated"
    workshop.finish(workshop.begin())
    again = workshop.service.plan(workshop.recipe(), measure=False)
    assert (again.time_basis, again.tokens_per_s) == ("earlier", 500.0)


def test_a_plan_tells_what_the_preflight_refuses(workshop: Workshop) -> None:
    plan = workshop.service.plan(workshop.recipe(data={"max_length": 12}))
    assert plan.is_refused
    assert plan.findings[0].severity == "refuse"
    assert {finding.code for finding in plan.findings} >= {"truncated"}


def test_a_shortened_run_writes_no_checkpoints_and_generates_nothing(workshop: Workshop) -> None:
    workshop.wish(kind="fault", fault="nan_loss", text="nan", at=5)
    record = workshop.begin()
    with pytest.raises(Exception, match="nan"):
        workshop.finish(record)
    frozen = read_frozen(workshop.folder(record))
    assert frozen is not None
    short = shorten(frozen)
    assert (short.heldout, short.samples, short.recipe.train.max_steps) == (None, None, short.n_steps)
    assert short.recipe.train.checkpoint_every_steps > short.n_steps


def test_what_is_refused_is_told_with_its_rows(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(12)
    rows[4] = DatasetRow(id="odd", fields={"messages": [{"role": "user", "content": "Nobody answers."}]})
    workshop.assets.rows["dataset:walks"] = [rows]
    plan = workshop.service.plan(workshop.recipe(data={"eval_share": 0.0}), measure=False)
    print_plan(plan, as_json=False)
    assert "  row 5 of dataset:walks@1\n" in capsys.readouterr().out
    with pytest.raises(RunRefused, match="row 5 of dataset:walks@1"):
        workshop.finish(workshop.begin(data={"eval_share": 0.0}))


def test_rows_are_named_as_far_as_a_line_holds_them() -> None:
    assert rows_text([17], 1, "dataset:faq@3") == "row 17 of dataset:faq@3"
    assert rows_text(list(range(1, 21)), 400, None) == "rows 1, 2, 3, 4, 5, 6, 7, 8 …"
    assert rows_text([], 0, "dataset:faq@3") == ""


def test_a_row_over_what_the_base_reads_is_not_helped_by_a_longer_length(workshop: Workshop) -> None:
    long = {"role": "assistant", "content": "walk " * 400}
    row = DatasetRow(id="l", fields={"messages": [{"role": "user", "content": "How?"}, long]})
    workshop.assets.rows["dataset:walks"] = [[*make_rows(12), row]]
    for length in ({}, {"max_length": 9000}):
        plan = workshop.service.plan(workshop.recipe(data={"eval_share": 0.0} | length), measure=False)
        (found,) = [each for each in plan.findings if each.code == "truncated"]
        assert str(found.hint).startswith("The model reads at most 128 tokens. Shorten them")


def test_mapped_rows_are_not_what_a_trainer_takes(tmp_path: Path) -> None:
    """A budget of memory would end runs for the size of their data, which the kernel drops as it likes."""
    path = tmp_path / "rows"
    path.write_bytes(b"x" * 64_000_000)
    before = resident_bytes(os.getpid())
    rows = np.memmap(path, dtype=np.uint8, mode="r")
    assert int(rows[::4096].sum())
    after = resident_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before < 32_000_000
