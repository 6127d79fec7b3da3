"""What the model is given and what it is charged for: the ids and masks of the files, and nothing else."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.trainer.run_folders import PAD, STOP, make_run, save_ragged
from tests.tuning.trainer.runtime import Runtime


def read_rows(folder: Path) -> list[tuple[list[int], list[int]]]:
    at = folder / "data" / "train"
    ids, mask, offsets = (np.load(at / f"{name}.npy") for name in ("ids", "mask", "offsets"))
    return [(ids[start:end].tolist(), mask[start:end].tolist()) for start, end in itertools.pairwise(offsets)]


def wanted_line(ids: list[int], mask: list[int]) -> tuple[list[int], list[int]]:
    return ids, [token if learned else -100 for token, learned in zip(ids[1:], mask[1:], strict=True)] + [
        -100
    ]


def strip(ids: list[int], targets: list[int], length: int) -> tuple[list[int], list[int]]:
    assert set(ids[length:]) <= {PAD}
    assert set(targets[length:]) <= {-100}
    return ids[:length], targets[:length]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_an_epoch_shows_the_model_each_row_of_the_files_once_as_it_is(
    runtime: Runtime, tmp_path: Path, accumulate: int
) -> None:
    """trl#3449: rows were cut at 1024 tokens without a word. LlamaFactory#10336, llama.cpp#15086: tokens were put in
    that nobody had written. Here each row is there once, whole, in ids and in targets."""
    folder = make_run(tmp_path / "run", n_rows=25, train={"accumulate": accumulate, "epochs": 1.0})
    steps = runtime.call("list_batches", folder=str(folder), n_steps=-(-25 // (4 * accumulate)))
    rows = read_rows(folder)
    seen = []
    for step in steps:
        for given, targets in zip(step["passes"], step["targets"], strict=True):
            assert not given["has_mask"]
            for ids, positions, line in zip(given["ids"], given["positions"], targets, strict=True):
                assert positions == list(range(len(ids)))
                match = [
                    row for row in rows if ids[: len(row[0])] == row[0] and set(ids[len(row[0]) :]) <= {PAD}
                ]
                assert match, ids
                seen.append(strip(ids, line, len(match[0][0])))
    assert sorted(seen) == sorted(wanted_line(*row) for row in rows)


def test_the_stop_token_is_a_target_of_every_row(runtime: Runtime, tmp_path: Path) -> None:
    """trl#4879, Qwen3#1522: the model never learned to stop, since its turn's end was outside the mask."""
    folder = make_run(tmp_path / "run", n_rows=8)
    steps = runtime.call("list_batches", folder=str(folder), n_steps=2)
    lines = [line for step in steps for targets in step["targets"] for line in targets]
    assert len(lines) == 8
    assert all(line.count(STOP) == 1 for line in lines)


def test_packed_rows_lie_whole_behind_each_other_with_positions_of_their_own(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", n_rows=9, train={"packing": True, "batch_size": 9})
    run = json.loads((folder / "run.json").read_text())
    run["recipe"]["data"] = {"train": "dataset:tiny", "max_length": 24}
    (folder / "run.json").write_text(json.dumps(run))
    steps = runtime.call("list_batches", folder=str(folder), n_steps=1)
    rows = read_rows(folder)
    seen = []
    for step in steps:
        for given, targets in zip(step["passes"], step["targets"], strict=True):
            assert given["has_mask"]
            for ids, positions, line in zip(given["ids"], given["positions"], targets, strict=True):
                assert len(ids) <= 24
                starts = [at for at, place in enumerate(positions) if place == 0 and ids[at] != PAD]
                ends = [*starts[1:], len(ids)]
                for start, end in zip(starts, ends, strict=True):
                    length = end - start
                    while ids[start + length - 1] == PAD:
                        length -= 1
                    seen.append((ids[start : start + length], line[start : start + length]))
    assert sorted(seen) == sorted(wanted_line(*row) for row in rows)


def test_on_a_processor_the_model_reads_rows_without_padding_each_seen_by_itself(
    runtime: Runtime, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", n_rows=9)
    rows, items = read_rows(folder), [7, 0, 4]
    seen = runtime.call("list_read_rows", folder=str(folder), items=items)
    assert seen["ids"] == [[[token for item in items for token in rows[item][0]]]]
    assert seen["positions"] == [[[place for item in items for place in range(len(rows[item][0]))]]]
    assert seen["lengths"] == [[len(rows[item][0]) for item in items]] * len(seen["lengths"])
    assert seen["n_last"] == [sum(sum(rows[item][1][1:]) for item in items)], "learned positions alone"


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_rows_behind_each_other_teach_what_lines_side_by_side_do(
    runtime: Runtime, tmp_path: Path, architecture: str, is_packed: bool
) -> None:
    folder = make_run(tmp_path / "run", architecture=architecture, n_rows=12)
    found = runtime.call("compare_ways", folder=str(folder), is_packed=is_packed)
    assert found["n"] == 36
    assert found["loss"] < 1e-4
    assert found["gradient"] < 1e-4 * max(1.0, found["size"])


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_packed_row_is_judged_as_if_it_were_alone(
    runtime: Runtime, tmp_path: Path, architecture: str
) -> None:
    folder = make_run(tmp_path / "run", architecture=architecture, n_rows=12)
    found = runtime.call("compare_packing", folder=str(folder))
    assert found["n"] == found["n_alone"] == 36
    assert found["largest"] < 1e-4


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_the_loss_is_the_one_that_the_library_computes_with_a_mask_for_padding(
    runtime: Runtime, tmp_path: Path, architecture: str
) -> None:
    folder = make_run(tmp_path / "run", architecture=architecture)
    found = runtime.call("compare_with_library", folder=str(folder))
    assert found["ours"] == pytest.approx(found["theirs"], rel=1e-5)
    assert found["portions"] == pytest.approx(found["ours"], rel=1e-6)


def test_gradients_do_not_depend_on_how_a_step_is_cut_into_batches(runtime: Runtime, tmp_path: Path) -> None:
    """transformers#34191: each batch of an accumulated step was averaged by itself, so rows with few tokens counted more."""
    folder = make_run(tmp_path / "run")
    rows = [[20, 21, 22, *range(30, 30 + n), STOP] for n in (1, 14, 2, 9, 3, 20)]
    save_ragged(folder / "data" / "train", "", rows)
    mask = [[0, 0, 0, *[1] * (len(row) - 3)] for row in rows]
    np.save(folder / "data" / "train" / "mask.npy", np.concatenate(mask).astype(np.uint8))
    found = [
        runtime.call("measure_gradients", folder=str(folder), items=list(range(6)), batch_size=size)
        for size in (6, 4, 1)
    ]
    for other in found[1:]:
        assert other["loss"] == pytest.approx(found[0]["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(found[0]["norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("empty mask", "nothing to learn"),
        ("foreign id", "token id 9999"),
        ("too long", "never cut"),
        ("short mask", "not of one length"),
        ("no rows", "no rows"),
        ("missing", "missing"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused_by_name(
    runtime: Runtime, tmp_path: Path, spoil: str, words: str
) -> None:
    """trl#6025: a mask that truncation had emptied gave loss 0 and gradients that are no numbers."""
    folder = make_run(tmp_path / "run", n_rows=6)
    at = folder / "data" / "train"
    ids, mask, offsets = (np.load(at / f"{name}.npy") for name in ("ids", "mask", "offsets"))
    if spoil == "empty mask":
        mask[offsets[2] : offsets[3]] = 0
    elif spoil == "foreign id":
        ids[3] = 9999
    elif spoil == "short mask":
        mask = mask[:-1]
    elif spoil == "too long":
        ids, mask = np.full(300, 20, dtype=np.int32), np.ones(300, dtype=np.uint8)
        offsets = np.array([0, 300])
    elif spoil == "no rows":
        ids, mask, offsets = ids[:0], mask[:0], np.array([0])
    for name, values in (("ids", ids), ("mask", mask), ("offsets", offsets)):
        np.save(at / f"{name}.npy", values)
    if spoil == "missing":
        (at / "mask.npy").unlink()
    events: list[dict[str, Any]] = runtime.train(folder, expect=3)
    assert [each["kind"] for each in events] == ["fault"]
    assert words in events[0]["text"]
