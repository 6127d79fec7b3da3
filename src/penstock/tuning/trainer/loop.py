"""The loop: steps, measurements, checkpoints, and how a run ends. A plain loop over models of transformers and PEFT.

The trainers of transformers and TRL prepare rows themselves (templates, cutting, dropped rows), weight a batch's loss
by their own rules and resume by counting batches; measured against this loop they are no faster (decision 0016).
Each step is a function of the weights, the optimizer, the random state and its number, so a run that was killed
makes, from its last checkpoint, the very weights that it would have made.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .batches import StepOrder, split_step
from .events import EventLog, Number
from .faults import StopWanted, TrainingFault
from .machine import memory_mb, peak_gpu_mb
from .measuring import average, is_better
from .setup import Setup
from .snapshots import put_random_state, save_snapshot, take_random_state
from .steps import rate_at


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended: `done`, `early`, `budget` or `stopped`."""

    reason: str


class Loop:
    """Runs a setup to its end."""

    def __init__(
        self,
        setup: Setup,
        events: EventLog,
        *,
        interrupt: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interrupt` raises `StopWanted` when the run is to stop; it is called often."""
        self._setup, self._events, self._interrupt, self._clock = setup, events, interrupt, clock
        self._run, self._progress = setup.run, setup.progress
        self._order = StepOrder(
            setup.objective.n_items,
            seed=setup.run.seed,
            size=setup.run.train.batch_size * setup.run.train.accumulate,
        )
        self._trained = list(setup.network.trained().values())
        self._random = take_random_state(setup.network)
        self._saved_step = setup.resumed_from
        self._started = clock()
        self._spent_before = self._progress.elapsed_s

    def run_to_end(self) -> Ending:
        """Train. Raises `TrainingFault`; a wish to stop leaves a checkpoint and returns `stopped`."""
        try:
            return self._go()
        except StopWanted:
            # the step that was begun is dropped; the random state goes back to where it began
            put_random_state(self._random)
            self._save()
            return Ending(reason="stopped")

    def _go(self) -> Ending:
        every = self._run.train.checkpoint_every_steps
        if self._progress.step == 0 and self._progress.evaluated_step < 0:
            self._measure_start()
        self._tell_best_again()
        while True:
            step, n_steps = self._progress.step, self._setup.n_steps
            if self._is_measured(step) and self._progress.evaluated_step < step:
                self._measure()
            if self._saved_step != step and step > 0 and (step % every == 0 or step >= n_steps):
                self._save()
            if step >= n_steps:
                return Ending(reason="done")
            patience = self._run.evaluation.patience
            if patience is not None and self._progress.n_without_better >= patience:
                return Ending(reason="early")
            if self._is_over_time():
                self._save()
                return Ending(reason="budget")
            self._interrupt()
            self._take_step()

    def _take_step(self) -> None:
        begun = self._clock()
        setup, train, progress = self._setup, self._run.train, self._progress
        self._random = take_random_state(setup.network)
        rows = self._order.rows(progress.step)
        weight = setup.objective.weigh(rows)
        outcomes = []
        for some in split_step(rows, setup.objective.lengths, train.batch_size):
            self._interrupt()
            outcome = setup.objective.score(setup.network, some)
            if not math.isfinite(outcome.sums["loss"]):
                raise self._tell_nan("The loss", outcome.sums["loss"])
            (outcome.total / weight).backward()
            outcomes.append(outcome)
        norm = float(torch.nn.utils.clip_grad_norm_(self._trained, train.clip_norm or math.inf))
        if not math.isfinite(norm):
            raise self._tell_nan("The gradient", norm)
        rate = rate_at(
            progress.step,
            lr=self._run.lr,
            schedule=train.schedule,
            warmup_steps=train.warmup_steps,
            n_steps=setup.n_steps,
        )
        for group in setup.optimizer.param_groups:
            group["lr"] = rate
        setup.optimizer.step()
        setup.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        self._random = take_random_state(setup.network)
        n_tokens = sum(outcome.n_tokens for outcome in outcomes)
        progress.n_tokens += n_tokens
        self._tell_step(average(outcomes), rate, norm, n_tokens, self._clock() - begun)
        self._watch_memory()

    def _tell_step(
        self, values: dict[str, Number], rate: float, norm: float, n_tokens: int, took_s: float
    ) -> None:
        told: dict[str, Number] = {
            **values,
            "lr": rate,
            "grad_norm": norm,
            "tokens": self._progress.n_tokens,
            "tokens_per_s": round(n_tokens / took_s, 1) if took_s > 0 else None,
            "memory_mb": memory_mb(),
        }
        if (gpu := peak_gpu_mb(self._setup.network.device)) is not None:
            told["gpu_memory_mb"] = gpu
        self._events.write("step", step=self._progress.step, epoch=self._epoch(), values=told)

    def _measure_start(self) -> None:
        """Measure before the first step: what training is to be compared with. It is no candidate for the best."""
        if self._setup.judge.can_measure:
            found = self._setup.judge.measure()
            self._tell_measurement(found)
        self._progress.evaluated_step = 0

    def _measure(self) -> None:
        progress = self._progress
        found = self._setup.judge.measure()
        self._tell_measurement(found)
        progress.evaluated_step = progress.step
        metric = self._run.evaluation.metric
        value = found.values.get(metric)
        if value is None:
            return
        if is_better(metric, float(value), progress.best_value):
            progress.best_step, progress.best_value = progress.step, float(value)
            progress.n_without_better = 0
            self._save()
            self._setup.checkpoints.mark_best(progress.step)
            self._setup.checkpoints.prune()
            self._tell_best()
        else:
            progress.n_without_better += 1

    def _tell_best(self) -> None:
        step, metric = self._progress.best_step or 0, self._run.evaluation.metric
        self._events.write(
            "best",
            step=step,
            values={metric: self._progress.best_value},
            detail={"path": f"checkpoints/step-{step}", "metric": metric},
        )

    def _tell_best_again(self) -> None:
        """Tell of a best checkpoint that a kill kept from being told: it was written, and would not be measured again."""
        best = self._progress.best_step
        if best is not None and self._events.last_best_step != best:
            self._tell_best()

    def _tell_measurement(self, found: Any) -> None:
        step, epoch = self._progress.step, self._epoch()
        if found.values:
            self._events.write("eval", step=step, epoch=epoch, values=found.values)
        for sample in found.samples:
            detail = {"prompt": sample.prompt, "reference": sample.reference, "row": sample.row}
            self._events.write("sample", step=step, epoch=epoch, text=sample.reply, detail=detail)

    def _save(self) -> None:
        """Write a checkpoint of this step, once."""
        progress = self._progress
        if self._saved_step == progress.step:
            return
        progress.elapsed_s = self._elapsed_s()
        folder = save_snapshot(
            self._setup.checkpoints,
            self._setup.network,
            self._setup.optimizer,
            progress,
            random_state=self._random,
            origin={"run": self._run.id, "digest": self._run.digest, "inputs": self._setup.inputs},
            detail={"n_steps": self._setup.n_steps, "method": self._run.method},
        )
        self._saved_step = progress.step
        self._setup.checkpoints.prune()
        size = sum(path.stat().st_size for path in folder.iterdir())
        self._events.write(
            "checkpoint",
            step=progress.step,
            values={"size_bytes": size},
            detail={"path": f"checkpoints/{folder.name}"},
        )
        limit = self._run.budget.max_disk_gb
        if limit is not None and (used := self._setup.checkpoints.size_bytes()) > limit * 1e9:
            raise TrainingFault(
                "disk_full",
                f"Checkpoints take {used / 1e9:.2f} GB; budget.max_disk_gb is {limit}.",
                hint="Raise the bound as the run is resumed, or lower train.keep_checkpoints in another one.",
            )

    def _watch_memory(self) -> None:
        limit = self._run.budget.max_memory_gb
        if limit is None or self._setup.network.device.type == "cuda":
            return
        if (used := memory_mb()) is not None and used > limit * 1000:
            self._save()
            raise TrainingFault(
                "out_of_memory",
                f"The trainer takes {used / 1000:.2f} GB; budget.max_memory_gb is {limit}.",
                hint="Lower train.batch_size and raise train.accumulate by as much: the steps stay the same.",
            )

    def _tell_nan(self, what: str, value: float) -> TrainingFault:
        step = self._progress.step + 1
        return TrainingFault(
            "nan_loss",
            f"{what} of step {step} is {value}. The weights were not moved by it.",
            hint="Lower train.lr or raise train.warmup_steps; the last checkpoint is whole.",
            step=step,
        )

    def _is_measured(self, step: int) -> bool:
        is_due = step % self._run.evaluation.every_steps == 0 or step >= self._setup.n_steps
        return step > 0 and is_due and self._setup.judge.can_measure

    def _is_over_time(self) -> bool:
        limit = self._run.budget.max_minutes
        return limit is not None and self._elapsed_s() > limit * 60

    def _elapsed_s(self) -> float:
        return self._spent_before + self._clock() - self._started

    def _epoch(self) -> float:
        return self._progress.step / self._order.per_epoch
