"""Training: phases of growing contexts, checkpoints that survive `kill -9`, and a decay that can be asked for early.

It knows nothing about the corpus or about who keeps its checkpoints. A state holds weights, averaged weights, optimizer and
step; because a batch is a function of the step, resuming gives the run that an unbroken one would have given.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from corpus import HERE, load_articles, load_reading
from data import Mix, RowMaker, make_batch
from model import Decoder, ModelShape
from rows import Batch
from tokens import BOS, Coder

Recipe = dict[str, Any]
State = dict[str, Any]
Wish = Literal["save", "stop"]


@dataclass(frozen=True, kw_only=True)
class Losses:
    total: Tensor
    mark_accuracy: float
    copy_accuracy: float
    hint_loss: float
    n_replies: int


def load_recipe(path: Path = HERE / "recipe.toml") -> Recipe:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def make_model(recipe: Recipe, vocab_size: int) -> Decoder:
    torch.manual_seed(recipe["seed"])
    return Decoder(ModelShape(vocab_size=vocab_size, **recipe["model"]))


def measure_batch(model: Decoder, batch: Batch, coder: Coder, recipe: Recipe) -> Losses:
    """The loss of one batch: replies, with the mark weighing more, plus the two hints on middle layers.

    The hints use the tied embedding of the marks as their only head, so they add no weights and what they teach lies
    in the very directions that the reply needs.
    """
    settings = recipe["train"]
    states = model(batch.tree)
    wanted = batch.target >= 0
    target = batch.target[wanted]
    is_first = batch.is_first[wanted]
    logits = model.score_tokens(states.branch[wanted])
    each = functional.cross_entropy(logits, target, reduction="none")
    weight = torch.where(is_first, float(settings["mark_weight"]), 1.0)
    total = (each * weight).sum() / weight.sum()
    hint_loss = torch.zeros(())
    if settings["aux_weight"]:
        n_context = batch.tree.context.shape[1]
        names = model.embed_tokens.weight[torch.tensor([*coder.marks, coder.control[BOS]])]
        under = batch.mark_of >= 0
        early = model.norm(states.layers[0][:, :n_context][under])
        hint_loss = functional.cross_entropy(functional.linear(early, names[:-1]), batch.mark_of[under])
        hinted = batch.hint.sum(-1) > 0
        if hinted.any():
            late = model.norm(states.layers[-2][:, n_context:][hinted])
            hint_loss = hint_loss + functional.cross_entropy(
                functional.linear(late, names), batch.hint[hinted]
            )
        total = total + settings["aux_weight"] * hint_loss
    right = logits.argmax(-1) == target
    return Losses(
        total=total,
        mark_accuracy=right[is_first].float().mean().item(),
        copy_accuracy=right[~is_first].float().mean().item(),
        hint_loss=hint_loss.item(),
        n_replies=int(is_first.sum()),
    )


def plan_step(recipe: Recipe, step: int, decay_from: int, decay_steps: int) -> tuple[Mix, float]:
    """The mix and learning rate of a step: warm-up, plateau by phase, linear decay from `decay_from`."""
    left = step
    for phase in recipe["phase"]:
        if left < phase["steps"]:
            break
        left -= phase["steps"]
    warm = min(1.0, (step + 1) / recipe["train"]["warmup_steps"])
    fade = 1.0 if step < decay_from else max(0.02, 1 - (step - decay_from) / decay_steps)
    keys = ("max_sentences", "shares", "short_share", "small_share")
    return Mix(**{key: phase[key] for key in keys}), phase["lr"] * warm * fade


def make_optimizer(model: Decoder, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    groups = [
        {"params": matrices, "weight_decay": recipe["train"]["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def validate(model: Decoder, maker: RowMaker, recipe: Recipe, n_batches: int = 4) -> dict[str, float]:
    """Accuracy on held-out reading passages with fixed batches; marks with and without an answer apart."""
    mix = Mix(max_sentences=12, shares={"natural": 1.0})
    known = [0, 0]
    unknown = [0, 0]
    copied = [0, 0]
    marks = torch.tensor(maker.coder.marks)
    for index in range(n_batches):
        batch = make_batch(maker, mix, recipe["seed"] + 7, index, 6000)
        logits = model.score_tokens(model(batch.tree).branch[batch.target >= 0])
        target = batch.target[batch.target >= 0]
        first = batch.is_first[batch.target >= 0]
        right = logits.argmax(-1) == target
        has_answer = torch.isin(target, marks) & first
        for counter, chosen in ((known, has_answer), (unknown, first & ~has_answer), (copied, ~first)):
            counter[0] += int(right[chosen].sum())
            counter[1] += int(chosen.sum())
    names = ("mark", "unknown", "copy")
    return {n: round(a / max(b, 1), 4) for n, (a, b) in zip(names, (known, unknown, copied), strict=True)}


class Keeper(Protocol):
    """Where a run's state lies and who is told of it; `StateFile` for a run alone, the run contract's otherwise."""

    def load(self) -> State | None:
        """Return the newest state, None at the start."""

    def save(self, state: State, step: int) -> None:
        """Keep a state so that a kill at any moment leaves this one or the one before."""

    def tell_step(self, step: int, values: dict[str, float]) -> None:
        """Hear of a step."""

    def tell_validation(self, step: int, figures: dict[str, float]) -> None:
        """Hear what validation found; the state of this step is saved right after."""

    def wants(self, step: int) -> Wish | None:
        """Return what is to be done after this step, if anything: `save`, or `stop` (which saves too)."""


class StateFile:
    """One `state.pt`, saved every so many seconds, and a log beside it."""

    def __init__(self, out: Path, every_s: float) -> None:
        self.path = out / "state.pt"
        self._out, self._every_s = out, every_s
        self._started = self._last_save = time.monotonic()
        self._tally: dict[str, float] = {}
        self._n_tokens = 0.0

    def load(self) -> State | None:
        return torch.load(self.path, weights_only=True) if self.path.exists() else None

    def save(self, state: State, step: int) -> None:  # noqa: ARG002 - the form of a Keeper
        save_atomically(state, self.path)
        self._last_save = time.monotonic()

    def tell_step(self, step: int, values: dict[str, float]) -> None:
        self._n_tokens += values["n_tokens"]
        for name in ("loss", "mark", "copy", "hint"):
            self._tally[name] = self._tally.get(name, 0.0) + values[name] / 50
        if step % 50 == 0:
            spent_s = time.monotonic() - self._started
            seen = {name: round(value, 3) for name, value in self._tally.items()}
            told = {"step": step, "s": round(spent_s), "lr": round(values["lr"], 6), **seen}
            report(
                self._out,
                told | {"tok_s": round(self._n_tokens / spent_s), "threads": torch.get_num_threads()},
            )
            self._tally = {}

    def tell_validation(self, step: int, figures: dict[str, float]) -> None:
        report(self._out, {"step": step, "validation": figures})

    def wants(self, step: int) -> Wish | None:  # noqa: ARG002 - the form of a Keeper
        return "save" if time.monotonic() - self._last_save > self._every_s else None


def save_atomically(state: State, path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How training ended."""

    step: int
    n_steps: int
    was_stopped: bool


def train(
    out: Path,
    recipe: Recipe,
    *,
    keeper: Keeper | None = None,
    decay_from: int | None = None,
    threads: int = 0,
) -> Ended:
    """Train to the end of the phases (or of the decay), going on from the newest state; `out` holds the tokenizer.

    The weights are a function of recipe, corpus and step: a run that was killed makes those of an unbroken one, to the bit
    where the number of threads is the same throughout.
    """
    torch.set_num_threads(max(threads, 1))
    settings = recipe["train"]
    keeper = StateFile(out, settings["checkpoint_every_s"]) if keeper is None else keeper
    coder = Coder.load(out / "tokenizer.json", recipe["tokenizer"]["n_marks"])
    reading, kept = load_reading(recipe["data"]["validation_share"])
    maker = RowMaker(coder, [*reading, *load_articles("train")], recipe["data"]["n_branches"])
    judge = RowMaker(coder, kept, recipe["data"]["n_branches"])
    model = make_model(recipe, coder.size)
    optimizer = make_optimizer(model, recipe)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step, busy, saved_step = 0, 0.0, -1
    if (saved := keeper.load()) is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]
        saved_step = step
    n_steps = sum(phase["steps"] for phase in recipe["phase"])
    decay_from = max(0, n_steps - settings["decay_steps"]) if decay_from is None else decay_from
    n_steps = min(n_steps, decay_from + settings["decay_steps"])
    wish: Wish | None = None
    while step < n_steps and wish != "stop":
        if threads == 0:
            busy += 0.2 * (count_other_runners() - busy)
            torch.set_num_threads(1 if busy > 0.6 else os.cpu_count() or 1)
        values = take_step(model, optimizer, average, maker, recipe, step, decay_from)
        step += 1
        keeper.tell_step(step, values)
        is_validated = step % settings["validate_every"] == 0 or step == n_steps
        if is_validated:
            keeper.tell_validation(step, validate(model, judge, recipe))
        wish = keeper.wants(step)
        if wish is not None or is_validated:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            keeper.save({**state, "step": step}, step)
            saved_step = step
    assert saved_step == step
    return Ended(step=step, n_steps=n_steps, was_stopped=step < n_steps)


def take_step(
    model: Decoder,
    optimizer: torch.optim.AdamW,
    average: dict[str, Tensor],
    maker: RowMaker,
    recipe: Recipe,
    step: int,
    decay_from: int,
) -> dict[str, float]:
    """Make the batch of this step, move the weights and their average, and return what there is to tell."""
    settings = recipe["train"]
    mix, lr = plan_step(recipe, step, decay_from, settings["decay_steps"])
    batch = make_batch(maker, mix, recipe["seed"], step, settings["batch_tokens"])
    losses = measure_batch(model, batch, maker.coder, recipe)
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - min(settings["ema_decay"], (step + 1) / (step + 21)))
    return {
        "loss": losses.total.item(),
        "mark": losses.mark_accuracy,
        "copy": losses.copy_accuracy,
        "hint": losses.hint_loss,
        "lr": lr,
        "grad_norm": float(norm),
        "n_tokens": batch.n_tokens,
    }


def count_other_runners() -> int:
    """Runnable tasks on this machine besides this thread; 0 where the system does not say.

    On a machine that others use, two threads that wait for each other at every operation can be far slower than one
    (measured: 1,200 against 2,900 tokens a second), so `--threads 0` steps aside.
    """
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0


def report(out: Path, fields: dict[str, Any]) -> None:
    line = json.dumps(fields)
    print(line, flush=True)
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer, checkpoints and log")
    parser.add_argument("--decay-from", type=int, help="step at which the learning rate starts to fall")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has idle")
    args = parser.parse_args()
    train(args.out, load_recipe(), decay_from=args.decay_from, threads=args.threads)


if __name__ == "__main__":
    main()
