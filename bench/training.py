"""Measures the trainer against a bare training loop and against TRL: the same model, rows, order, optimizer and threads.

    python bench/training.py [--rounds 3] [--steps 40] [--threads 1] [--methods full lora] [--record]

The training runtime is found as Penstock finds it (`penstock tune install`, or PENSTOCK_TUNE_PYTHON). Each measurement is
a process of its own; the kinds take turns, so that what else the machine does meets all of them. A kind's figure is the
median over the rounds, of tokens (without padding) a second and of processor seconds a million tokens, both over the
same steps after a warm-up. Nothing is measured on held-out rows, and no checkpoint falls into the window.

`bare` is what one writes by hand: padded batches with a mask, the library's own loss. `lean` uses the trainer's way to
compute it (no mask for right padding, logits only where something is learned), and so shows what the trainer itself costs.
`trl` is SFTTrainer with the same rows, already in ids.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tuning import trainer
from penstock.tuning.runtimes import find_runtime, probe_runtime
from record import record_result

WORKER = Path(__file__).with_name("training_worker.py")
ENTRY = Path(trainer.__file__).with_name("__main__.py")
KINDS = ("ours", "bare", "lean", "trl")
SHAPE = {
    "hidden_size": 192,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "ffn_size": 512,
    "context_length": 512,
}
VOCAB = 4096
BATCH = 8
WARMUP = 5


def write_run(folder: Path, method: str, *, n_steps: int, threads: int) -> None:
    """Write a run as freezing does: random rows of 32 to 128 tokens of which the last third is learned."""
    rng = np.random.default_rng(20)
    lengths = rng.integers(32, 128, n_steps * BATCH)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    mask = np.concatenate([np.arange(length) >= length * 2 // 3 for length in lengths]).astype(np.uint8)
    rows = folder / "data" / "train"
    rows.mkdir(parents=True)
    np.save(rows / "ids.npy", rng.integers(3, VOCAB, offsets[-1]).astype(np.int32))
    np.save(rows / "mask.npy", mask)
    np.save(rows / "offsets.npy", offsets)
    train = {
        "lr": 1e-3,
        "batch_size": BATCH,
        "max_steps": n_steps,
        "threads": threads,
        "warmup_steps": 5,
        "checkpoint_every_steps": 10**9,
    }
    recipe = {
        "name": "bench",
        "method": method,
        "data": {"train": "dataset:bench"},
        "output": {"name": "bench"},
    }
    recipe |= {"train": train, "adapter": {"r": 16, "alpha": 32}}
    frozen = {
        "format": "penstock-run-1",
        "id": "bench",
        "recipe": recipe,
        "base": None,
        "data": [],
        "digest": "bench",
    }
    (folder / "run.json").write_text(json.dumps(frozen | {"heldout": None, "samples": None}))


def measure(python: Path, kind: str, run: Path, *, threads: int) -> dict[str, float]:
    """Return tokens a second and processor seconds a million tokens of one kind, in a process of its own."""
    environ = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    with tempfile.TemporaryDirectory() as scratch:
        command = [python, "-I", WORKER, kind, run, scratch, ENTRY, str(WARMUP)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise SystemExit(f"{kind} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(python: Path, method: str, *, rounds: int, n_steps: int, threads: int) -> dict[str, Any]:
    """Let the kinds take turns and return their medians and the ratios to ours."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as root:
        run = Path(root) / "run"
        write_run(run, method, n_steps=n_steps, threads=threads)
        made = [python, "-I", WORKER, "make-base", run, json.dumps(SHAPE | {"vocab_size": VOCAB}), ENTRY, "0"]
        subprocess.run(made, check=True, capture_output=True)
        for number in range(rounds):
            for kind in KINDS[number % 4 :] + KINDS[: number % 4]:
                found[kind].append(measure(python, kind, run, threads=threads))
                print(method, number, kind, found[kind][-1], flush=True)
    table = {
        kind: {name: round(statistics.median(each[name] for each in runs), 4) for name in runs[0]}
        for kind, runs in found.items()
    }
    ratios: dict[str, Any] = {}
    for kind in KINDS[1:]:
        pairs = list(zip(found["ours"], found[kind], strict=True))
        ratios[f"tokens_per_s_to_{kind}"] = round(
            statistics.median(ours["tokens_per_s"] / other["tokens_per_s"] for ours, other in pairs), 3
        )
        ratios[f"processor_speed_to_{kind}"] = round(
            statistics.median(
                other["processor_s_per_mtoken"] / ours["processor_s_per_mtoken"] for ours, other in pairs
            ),
            3,
        )
    return {"kinds": table, "ratios": ratios}


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    place = find_runtime()
    told = probe_runtime(place)
    results: dict[str, Any] = {
        "device": told.device,
        "runtime": {name: told.packages.get(name) for name in ("torch", "transformers", "peft", "trl")},
        "settings": {
            "threads": asked.threads,
            "steps": asked.steps,
            "rounds": asked.rounds,
            "batch": BATCH,
            **SHAPE,
        },
    }
    for method in asked.methods:
        results[method] = compare(
            place.python, method, rounds=asked.rounds, n_steps=asked.steps, threads=asked.threads
        )
    if asked.record:
        record_result("training", results)
    else:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
