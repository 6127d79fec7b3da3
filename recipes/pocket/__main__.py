"""The program that a recipe of method `scratch` names: trains Pocket as one run of `penstock tune`.

    python -I recipes/pocket/__main__.py RUN_FOLDER/run.json

It reads seed, number of steps, threads, rate of checkpoints and time from `run.json` and everything else from `recipe.toml`,
and keeps the run contract (`contract.py`). The data is this folder's own corpus, which run.json's `data` names only for lineage.
Exit codes: 0 finished or stopped, 3 a fault that the events tell.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # `-I` leaves it out

from safetensors.torch import load_file

from contract import ORIGIN, WEIGHTS, ChangedRun, Events, LostRun, RunKeeper, digest_file
from export import write_model
from train import Recipe, load_recipe, train
from vocabulary import build_tokenizer

FAULT = 3


def adapt_recipe(recipe: Recipe, asked: dict[str, Any]) -> Recipe:
    """Pocket's recipe with what the run asks for: another seed, fewer steps (the phases shrink alike)."""
    adapted = {**recipe, "seed": asked.get("seed", recipe["seed"])}
    given = asked.get("train", {})
    most = given.get("max_steps")
    whole = sum(phase["steps"] for phase in recipe["phase"])
    if most is not None and most != whole:
        share = most / whole
        phases = [{**phase, "steps": round(phase["steps"] * share)} for phase in recipe["phase"]]
        phases[-1]["steps"] += most - sum(phase["steps"] for phase in phases)
        settings = {**recipe["train"]}
        for name in ("warmup_steps", "decay_steps"):
            settings[name] = max(1, round(settings[name] * share))
        adapted |= {"phase": phases, "train": settings}
    return adapted


def main(path: Path) -> int:
    """Train the run of `run.json` and return the exit code."""
    frozen = json.loads(path.read_text(encoding="utf-8"))
    folder, asked = path.resolve().parent, frozen["recipe"]
    events = Events(folder / "events.jsonl")
    out = folder / "out"
    if (out / ORIGIN).is_file():
        origin = json.loads((out / ORIGIN).read_text(encoding="utf-8"))
        if origin["digest"] == frozen["digest"]:
            events.write("ended", origin["steps"], detail={k: origin[k] for k in ("reason", "best", "steps")})
            return 0
    try:
        return run(frozen, asked, folder, events)
    except ChangedRun as error:
        return fail(events, "data_changed", str(error))
    except LostRun as error:
        return fail(events, "nan_loss", str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return fail(events, "disk_full", f"There is no room for the run's files: {error}.")


def run(frozen: dict[str, Any], asked: dict[str, Any], folder: Path, events: Events) -> int:
    """Train, and write `out` unless the run was stopped."""
    recipe = adapt_recipe(load_recipe(), asked)
    given, budget = asked.get("train", {}), asked.get("budget", {})
    minutes = budget.get("max_minutes")
    program = digest_program(Path(__file__).resolve().parent)
    ignored = sorted(set(given) - {"max_steps", "threads", "checkpoint_every_steps", "keep_checkpoints"})
    if ignored:
        text = f"Pocket's own recipe decides these, not run.json: train.{', train.'.join(ignored)}."
        events.write("note", 0, text=text)
    keeper = RunKeeper(
        folder,
        f"{frozen['digest']} {program}",
        events,
        every_steps=given.get("checkpoint_every_steps", 100),
        keep=given.get("keep_checkpoints", 2),
        n_steps=sum(phase["steps"] for phase in recipe["phase"]),
        max_s=None if minutes is None else 60 * minutes,
    )
    work = folder / "work"
    build_tokenizer(work, recipe)
    ended = train(work, recipe, keeper=keeper, threads=given.get("threads") or os.cpu_count() or 1)
    best = keeper.find_best()
    assert best is not None
    reason = (keeper.ended_by or "stopped") if ended.was_stopped else "done"
    told = {"reason": reason, "best": f"checkpoints/{best.name}", "steps": ended.step}
    if reason != "stopped":
        write_out(
            best,
            recipe,
            work / "tokenizer.json",
            folder,
            {**told, "digest": frozen["digest"], "program": program},
        )
    if reason == "budget":
        text = f"budget.max_minutes is used up after {ended.step} of {ended.n_steps} steps."
        events.write("fault", ended.step, text=text, detail={"fault": "budget"})
    events.write("ended", ended.step, detail=told)
    return FAULT if reason == "budget" else 0


def digest_program(folder: Path) -> str:
    """Return the digest over everything that decides the weights: this program, its recipe and its corpus."""
    whole = hashlib.sha256()
    kept = [*folder.glob("*.py"), *folder.glob("*.toml"), *folder.glob("reading/*.jsonl")]
    kept += [*folder.parent.glob("handbook/articles/*.md"), *folder.parent.glob("handbook/questions/*.jsonl")]
    for path in sorted(kept):
        whole.update(f"{path.relative_to(folder.parent)} {digest_file(path)}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def write_out(best: Path, recipe: Recipe, tokenizer: Path, folder: Path, told: dict[str, Any]) -> None:
    """Write the averaged weights of a checkpoint to `out`, whole or not at all."""
    partial = folder / "out.partial"
    shutil.rmtree(partial, ignore_errors=True)
    write_model(load_file(best / WEIGHTS["average"]), recipe["model"], tokenizer, partial)
    (partial / ORIGIN).write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(folder / "out", ignore_errors=True)
    partial.rename(folder / "out")


def fail(events: Events, fault: str, text: str) -> int:
    """Tell a fault at the step that was reached, and return the exit code."""
    try:
        events.write("fault", events.step, text=text, detail={"fault": fault})
    except OSError:  # the disk is full for this line, too: the log may lie on another
        print(f"{fault}: {text}", file=sys.stderr)
    return FAULT


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
