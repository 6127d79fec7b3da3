"""Folders of runs as freezing writes them, with a tiny base and random rows, and the trainer started on them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tuning import trainer
from tests.tuning.tiny_models import make_decoder

ENTRY = Path(trainer.__file__).with_name("__main__.py")
STOP, PAD, FIRST_WORD = 2, 0, 10
N_WORDS = 60


def make_run(folder: Path, *, method: str = "full", architecture: Any = "llama", **parts: Any) -> Path:
    """Write base, rows, prompts and `run.json`; return the folder. `parts` are parts of the recipe or of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    make_decoder(folder / "base", architecture, tied=parts.pop("tied", True), scale=0.08)
    n_rows = parts.pop("n_rows", 24)
    for number, (name, count) in enumerate((("train", n_rows), ("heldout", 6))):
        write_rows(folder / "data" / name, method, count, seed=number)
    samples = [
        {"prompt": ids, "reference": "walk every day", "row": row} for row, ids in enumerate(make_prompts(4))
    ]
    (folder / "data" / "samples.json").write_text(json.dumps(samples))
    train = {
        "lr": 3e-3,
        "warmup_steps": 2,
        "epochs": 2.0,
        "batch_size": 4,
        "threads": 1,
        "checkpoint_every_steps": 3,
    }
    recipe = {
        "name": "tiny",
        "method": method,
        "data": {"train": "dataset:tiny"},
        "output": {"name": "tiny"},
        "train": train | parts.pop("train", {}),
        "evaluation": {"every_steps": 4, "max_new_tokens": 4, "n_samples": 2} | parts.pop("evaluation", {}),
    }
    for name in ("adapter", "preference", "budget", "scratch", "distill", "seed"):
        if name in parts:
            recipe[name] = parts.pop(name)
    frozen = {
        "format": "penstock-run-1",
        "id": "run-tiny",
        "recipe": recipe,
        "base": {"asset": "model:tiny", "number": 1, "digest": "sha256:" + "b" * 64},
        "data": [],
        "renderer_digest": None,
        "stop_ids": [STOP],
        "pad_id": PAD,
        "digest": "sha256:" + "d" * 64,
        **parts,
    }
    (folder / "run.json").write_text(json.dumps(frozen))
    return folder


def make_prompts(count: int, *, seed: int = 5) -> list[list[int]]:
    """Prompts of random words, of unlike lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(FIRST_WORD, FIRST_WORD + N_WORDS, rng.integers(3, 8)).tolist() for _ in range(count)]


def answer(prompt: list[int]) -> list[int]:
    """What the rows teach: say the first two words again, then stop."""
    return [*prompt[:2], STOP]


def write_rows(folder: Path, method: str, count: int, *, seed: int) -> None:
    """Rows as `tuning/rows` writes them: the prompt is not learned, the answer and its stop token are."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = make_prompts(count, seed=seed)
    answers = [answer(each) for each in prompts]
    wrong = [[each[-1], each[-1], each[-1], STOP] for each in prompts]
    if method == "dpo":
        parts = {"prompt": prompts, "chosen": answers, "rejected": wrong}
    elif method == "kto":
        liked = [row % 2 == 0 for row in range(count)]
        said = [good if is_liked else bad for good, bad, is_liked in zip(answers, wrong, liked, strict=True)]
        parts = {"prompt": prompts, "completion": said}
        np.save(folder / "labels.npy", np.array(liked, dtype=np.uint8))
    else:
        rows = [p + a for p, a in zip(prompts, answers, strict=True)]
        mask = [[0] * len(p) + [1] * len(a) for p, a in zip(prompts, answers, strict=True)]
        save_ragged(folder, "", rows)
        np.save(folder / "mask.npy", np.concatenate(mask).astype(np.uint8))
        np.save(folder / "rows.npy", np.arange(count, dtype=np.int64))
        return
    for name, values in parts.items():
        save_ragged(folder, f"{name}_", values)


def save_ragged(folder: Path, prefix: str, rows: list[list[int]]) -> None:
    """`ids.npy` with all rows joined, `offsets.npy` with where each begins."""
    np.save(folder / f"{prefix}ids.npy", np.concatenate(rows).astype(np.int32))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    np.save(folder / f"{prefix}offsets.npy", offsets)


def train(python: Path, folder: Path, *, expect: int = 0, entry: Path = ENTRY) -> list[dict[str, Any]]:
    """Start the trainer as a run does and return its events."""
    done = subprocess.run(
        [python, "-I", entry, folder / "run.json"], capture_output=True, text=True, timeout=240, check=False
    )
    events = read_events(folder)
    assert done.returncode == expect, (done.stderr[-2000:], events[-1:])
    return events


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events written so far; a line that is being written is left out."""
    path = folder / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
