"""Measuring on held-out rows: sums are kept, never logits (transformers#12878: they filled the memory), in evaluation mode."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .agreement import is_exact_match, token_f1
from .batches import iterate_chunks
from .networks import Network
from .objectives import Objective, Outcome
from .replies import Prompt, generate_replies
from .run_spec import GENERATED_METRICS, RunSpec

LOWER_IS_BETTER = frozenset({"loss"})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A prompt, what the model says to it now, and what was said."""

    prompt: str
    reply: str
    reference: str
    row: int | None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One look at the held-out rows."""

    values: dict[str, float | int | None]
    samples: tuple[Sample, ...]


class Judge:
    """Measures a run's network on its held-out rows and prompts."""

    def __init__(
        self,
        run: RunSpec,
        network: Network,
        heldout: Objective | None,
        prompts: Sequence[Prompt],
        *,
        tokenizer: Path,
        interrupt: Callable[[], None],
    ) -> None:
        """`interrupt` is called between batches, and raises when the run is to stop."""
        self._run, self._network, self._heldout, self._prompts = run, network, heldout, prompts
        self._tokenizer_path = tokenizer
        self._tokenizer: Any = None
        self._interrupt = interrupt

    @property
    def can_measure(self) -> bool:
        return self._heldout is not None or bool(self._prompts)

    def measure(self) -> Measurement:
        """Return the values of the held-out rows and a few samples. The random state is not touched."""
        whole = self._network.whole
        whole.eval()  # no dropout while measuring
        try:
            values: dict[str, float | int | None] = {}
            if self._heldout is not None:
                values = self._measure_rows(self._heldout)
            replies = self._reply()
            if self._run.evaluation.metric in GENERATED_METRICS and replies:
                texts = list(zip(replies, (each.reference for each in self._prompts), strict=False))
                values["exact_match"] = float(np.mean([is_exact_match(*pair) for pair in texts]))
                values["token_f1"] = float(np.mean([token_f1(*pair) for pair in texts]))
                values["n_replies"] = len(texts)
            return Measurement(values=values, samples=self._show(replies))
        finally:
            whole.train()

    def _measure_rows(self, heldout: Objective) -> dict[str, float | int | None]:
        n_items = min(heldout.n_items, self._run.evaluation.max_rows)
        # rows of like length together: the sums are the same, the padding is less
        order = np.argsort(heldout.lengths[:n_items], kind="stable")
        outcomes = []
        with torch.no_grad():
            for chunk in iterate_chunks(n_items, self._run.train.batch_size):
                self._interrupt()
                outcomes.append(heldout.score(self._network, order[chunk.start : chunk.stop]))
        return {**average(outcomes), "n": n_items}

    def _reply(self) -> list[str]:
        evaluation = self._run.evaluation
        wanted = len(self._prompts) if evaluation.metric in GENERATED_METRICS else evaluation.n_samples
        if not self._prompts[:wanted] or not self._tokenizer_path.is_file():
            return []
        replies = generate_replies(
            self._network,
            [each.ids for each in self._prompts[:wanted]],
            max_new_tokens=evaluation.max_new_tokens,
            stop_ids=self._run.stop_ids,
            pad_id=self._run.pad_id,
            interrupt=self._interrupt,
        )
        return [self._decode(ids) for ids in replies]

    def _show(self, replies: Sequence[str]) -> tuple[Sample, ...]:
        shown = self._run.evaluation.n_samples
        return tuple(
            Sample(
                prompt=self._decode(prompt.ids, keep_special=True),
                reply=reply,
                reference=prompt.reference,
                row=prompt.row,
            )
            for prompt, reply in list(zip(self._prompts, replies, strict=False))[:shown]
        )

    def _decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(self._tokenizer_path))
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not keep_special))


def average(outcomes: Iterable[Outcome]) -> dict[str, float | int | None]:
    """Return each sum over the whole weight."""
    weight = 0.0
    sums: dict[str, float] = {}
    for outcome in outcomes:
        weight += outcome.weight
        for name, value in outcome.sums.items():
            sums[name] = sums.get(name, 0.0) + value
    return {name: value / weight if weight else None for name, value in sums.items()}


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Return whether a value of a metric is better than the best so far (None: there is none yet)."""
    if than is None:
        return True
    return value < than if metric in LOWER_IS_BETTER else value > than
