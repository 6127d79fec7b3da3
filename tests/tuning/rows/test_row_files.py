"""The files hold what was rendered, whatever the number of processes, and the report counts it."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from penstock.datasets.cases import row_to_case
from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import HeldOutPart
from penstock.tuning.preflight.flight import fly
from penstock.tuning.rows import pool
from penstock.tuning.rows.chunks import RowWork
from penstock.tuning.rows.files import GrowingArray
from penstock.tuning.rows.messages import read_messages
from penstock.tuning.rows.pool import RowWorkerDied, chunked, work_all
from penstock.tuning.rows.reading import RowReader
from penstock.tuning.rows.walk import number_rows, walk_rows
from tests.tuning.chat_templates import PLAIN, make_renderer
from tests.tuning.preflight.flights import RENDERER, chat, flight, good_rows, recipe, source


def load(folder: Path, name: str) -> list[np.ndarray[Any, Any]]:
    """Return the sequences of a ragged column."""
    values, offsets = (
        np.load(folder / f"{name}ids.npy", mmap_mode="r"),
        np.load(folder / f"{name}offsets.npy"),
    )
    assert values.dtype == np.int32
    assert offsets.dtype == np.int64
    return [values[a:b] for a, b in pairwise(offsets)]


def work(**changes: Any) -> RowWork:
    reader = RowReader(form="chat", kind="supervised", as_case=row_to_case)
    return RowWork(**{"renderer": RENDERER, "reader": reader, "max_length": 256, **changes})


def test_supervised_files_hold_each_row_as_the_renderer_writes_it(tmp_path: Path) -> None:
    rows = good_rows(30)
    found = fly(flight(rows, recipe=recipe(data={"eval_share": 0.2})), folder=tmp_path)
    numbers = np.load(tmp_path / "train/rows.npy")
    mask, offsets = np.load(tmp_path / "train/mask.npy"), np.load(tmp_path / "train/offsets.npy")
    for place, (number, ids) in enumerate(zip(numbers, load(tmp_path / "train", ""), strict=True)):
        rendered = RENDERER.render_training(read_messages(rows[number - 1].fields["messages"]))
        assert ids.tolist() == rendered.ids
        assert mask[offsets[place] : offsets[place + 1]].tobytes() == rendered.mask
    held = np.load(tmp_path / "heldout/rows.npy")
    assert not set(numbers) & set(held)
    assert found.train is not None
    assert found.train.n_tokens == offsets[-1]
    assert found.train.n_trained_tokens == mask.sum()


def test_samples_are_the_held_out_prompts_with_their_references(tmp_path: Path) -> None:
    rows = good_rows(30)
    measured = HeldOutPart(max_rows=4, n_samples=2)
    fly(flight(rows, recipe=recipe(data={"eval_share": 0.5}, evaluation=measured)), folder=tmp_path)
    samples = json.loads((tmp_path / "samples.json").read_text())
    held = np.load(tmp_path / "heldout/rows.npy").tolist()
    assert [each["row"] for each in samples] == held
    assert len(held) == 4
    for sample in samples:
        messages = rows[sample["row"] - 1].fields["messages"]
        assert sample["prompt"] == RENDERER.render_chat(read_messages(messages[:-1]))
        assert sample["reference"] == messages[-1]["content"]


def test_without_held_out_rows_a_few_of_the_training_rows_are_samples(tmp_path: Path) -> None:
    fly(flight(good_rows(30)), folder=tmp_path)
    assert [each["row"] for each in json.loads((tmp_path / "samples.json").read_text())] == [1, 2]
    assert not (tmp_path / "heldout").exists()


def test_preferences_share_one_prompt(tmp_path: Path) -> None:
    rows = [
        DatasetRow(
            id=f"p{n}", fields={"prompt": f"Why {n}?", "chosen": f"Because {n}.", "rejected": f"No {n}."}
        )
        for n in range(12)
    ]
    fly(flight(source(rows, "preference"), recipe=recipe("dpo")), folder=tmp_path)
    prompts, chosen, rejected = (
        load(tmp_path / "train", f"{name}_") for name in ("prompt", "chosen", "rejected")
    )
    assert len(prompts) == len(chosen) == len(rejected) == 12
    assert (
        RENDERER.decode(prompts[3].tolist()) == "<|im_start|>user\nWhy 3?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert RENDERER.decode(chosen[3].tolist()) == "Because 3.<|im_end|>"
    assert RENDERER.decode(rejected[3].tolist()) == "No 3.<|im_end|>"
    assert np.load(tmp_path / "train/rows.npy").tolist() == list(range(1, 13))


def test_kto_has_an_answer_and_a_label_each(tmp_path: Path) -> None:
    rows = [
        DatasetRow(id=f"p{n}", fields={"prompt": f"Why {n}?", "chosen": "Yes.", "rejected": "No."})
        for n in range(3)
    ]
    found = fly(flight(source(rows, "preference"), recipe=recipe("kto")), folder=tmp_path)
    assert np.load(tmp_path / "train/labels.npy").tolist() == [1, 0] * 3
    assert [RENDERER.decode(ids.tolist()) for ids in load(tmp_path / "train", "completion_")][:2] == [
        "Yes.<|im_end|>",
        "No.<|im_end|>",
    ]
    assert found.train is not None
    assert found.train.labels == {"good": 3, "bad": 3}


def test_texts_without_turns_are_split_at_the_length_and_nothing_is_lost(tmp_path: Path) -> None:
    text = "Walking every day keeps the heart strong. " * 30
    rows = [DatasetRow(id="t", fields={"messages": [{"role": "assistant", "content": text}]})]
    part = {"truncate": "split", "max_length": 64}
    found = fly(flight(rows, recipe=recipe("full", data=part)), folder=tmp_path)
    pieces = load(tmp_path / "train", "")
    assert {len(each) for each in pieces[:-1]} == {64}
    whole = RENDERER.decode([token for piece in pieces for token in piece.tolist()])
    assert whole.removeprefix("<|bos|>").removesuffix("<|im_end|>") == text
    assert not found.is_refused
    assert found.train is not None
    assert found.train.n_lost_tokens == 0


def test_keeping_the_end_keeps_the_first_token_and_every_learnt_one() -> None:
    long = DatasetRow(
        id="l",
        fields={
            "messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Yes."}]
        },
    )
    (chunk,) = work_all(work(max_length=40, truncate="keep_end"), [[(1, long)]], processes=1)
    assert chunk.sizes[0].tolist() == [40]
    assert chunk.n_truncated == 1
    whole = RENDERER.render_training(read_messages(long.fields["messages"]))
    assert chunk.columns[0].tolist() == whole.ids[-40:]
    assert chunk.mask.sum() == sum(whole.mask)


def test_a_first_token_that_is_kept_counts_towards_the_length() -> None:
    renderer = make_renderer(PLAIN)
    long = chat("word " * 300, "Yes.")
    (chunk,) = work_all(
        work(renderer=renderer, max_length=40, truncate="keep_end"), [[(1, long)]], processes=1
    )
    ids = chunk.columns[0].tolist()
    assert len(ids) == 40
    assert ids[0] == renderer.bos_id
    assert ids[1:] == renderer.render_training(read_messages(long.fields["messages"])).ids[-39:]


def test_several_processes_write_what_one_writes(tmp_path: Path) -> None:
    rows = good_rows(1200)
    reports = []
    for processes in (1, 2):
        _, report = walk_rows(
            work(n_samples=1),
            number_rows(rows),
            n_rows=1,
            folder=tmp_path / str(processes),
            processes=processes,
        )
        reports.append(msgspec.structs.replace(report, folder=None))
    assert reports[0] == reports[1]
    assert reports[0].n_read == 1200
    sequences = load(tmp_path / "1", "")
    assert len(sequences) == 1200  # of several chunks
    assert (
        sequences[1100].tolist() == RENDERER.render_training(read_messages(rows[1100].fields["messages"])).ids
    )
    assert (tmp_path / "1/ids.npy").read_bytes() == (tmp_path / "2/ids.npy").read_bytes()


def test_chunks_larger_than_a_pipe_do_not_make_both_sides_wait() -> None:
    chunk = list(number_rows(good_rows(1500)))
    found = list(work_all(work(), [chunk] * 5, processes=2))
    assert [each.n_kept for each in found] == [1500] * 5


def test_a_worker_that_is_ended_from_outside_is_told() -> None:
    def kill_after_one() -> Any:
        rows = good_rows(20)
        yield list(number_rows(rows))
        for process in pool.multiprocessing.active_children():
            process.kill()
            process.join()
        yield from ([*number_rows(rows)] for _ in range(8))

    with pytest.raises(RowWorkerDied):
        list(work_all(work(), kill_after_one(), processes=2))
    assert not pool.multiprocessing.active_children()


def test_an_array_grows_and_is_whole_after_its_end(tmp_path: Path) -> None:
    array = GrowingArray(tmp_path / "a.npy", "<i4")
    for start in range(0, 100_000, 30_000):
        array.append(np.arange(start, min(start + 30_000, 100_000)))
    array.close()
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.arange(100_000))
    empty = GrowingArray(tmp_path / "e.npy", "<i8")
    empty.close()
    assert np.load(tmp_path / "e.npy").shape == (0,)


def test_the_digest_follows_the_rows(tmp_path: Path) -> None:
    digests = []
    for name, rows in (("a", good_rows(5)), ("b", good_rows(5)), ("c", good_rows(5, first=1))):
        _, report = walk_rows(work(), number_rows(rows), n_rows=5, folder=tmp_path / name)
        digests.append(report.digest)
    assert digests[0] == digests[1] != digests[2]


def test_chunks_keep_every_row() -> None:
    rows = list(number_rows(good_rows(1001)))
    assert [row for chunk in chunked(rows) for row in chunk] == rows
