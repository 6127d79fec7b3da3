"""What is made small: the loss of tokens (supervised), of pairs (DPO and its kin), of liked and disliked rows (KTO).

An objective turns rows into batches and batches into a sum that is divided by the whole step's weight, never by a
batch's own: batches of unlike size would otherwise count as if they were alike (the accumulation bug of many loops).
The losses for preferences are those of TRL under the same names; a test holds each to TRL's trainer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .batches import Batch, collate, collate_packed
from .forwards import score_tokens
from .networks import Network
from .row_files import Ids, LabelledRows, PreferenceRows, SupervisedRows
from .run_spec import PreferencePart


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one batch: a sum with gradients, and sums to be told."""

    total: Tensor
    weight: float
    """What `total` is to be divided by, summed over a step's batches."""
    n_tokens: int
    sums: dict[str, float]
    """Each divided by `weight` is a value of an event (`measuring.average`)."""


class Objective(Protocol):
    """One way to learn. Items are rows, or packed lines of rows."""

    n_items: int
    lengths: Ids

    def weigh(self, items: Ids) -> float:
        """Return the weight of a step with these items, known before anything is computed."""
        ...

    def score(self, network: Network, items: Ids) -> Outcome:
        """Run one batch."""
        ...


class TokenObjective:
    """Cross-entropy of the tokens that the mask names, each token alike wherever it stands."""

    def __init__(
        self, rows: SupervisedRows, *, pad_id: int, lines: Sequence[Sequence[int]] | None = None
    ) -> None:
        """`lines` groups rows that are packed together; None takes each row by itself."""
        self._rows = rows
        self._pad_id = pad_id
        self._lines = lines
        counts = np.add.reduceat(rows.mask, rows.ids.offsets[:-1], dtype=np.int64)
        counts -= rows.mask[rows.ids.offsets[:-1]]  # nothing comes before the first token
        if lines is None:
            self.lengths = rows.lengths
            self._n_targets = counts
        else:
            self.lengths = np.array([int(rows.lengths[list(line)].sum()) for line in lines])
            self._n_targets = np.array([int(counts[list(line)].sum()) for line in lines])
        self.n_items = len(self.lengths)

    def weigh(self, items: Ids) -> float:
        return float(self._n_targets[items].sum())

    def make_batch(self, items: Ids) -> Batch:
        """Return what the model sees of these items: the ids and masks of the files, and padding."""
        if self._lines is None:
            return collate([self._rows.get(int(row)) for row in items], pad_id=self._pad_id)
        lines = [[self._rows.get(row) for row in self._lines[int(item)]] for item in items]
        return collate_packed(lines, pad_id=self._pad_id)

    def score(self, network: Network, items: Ids) -> Outcome:
        batch = self.make_batch(items)
        scored = score_tokens(network, batch)
        total = scored.losses.sum()
        sums = {"loss": total.item(), "token_accuracy": float(scored.hits.sum().item())}
        return Outcome(total=total, weight=float(batch.n_targets), n_tokens=batch.n_tokens, sums=sums)


class PairObjective:
    """Direct preference optimisation (Rafailov et al. 2023) and its kin, against log-probabilities of the base."""

    def __init__(
        self, rows: PreferenceRows, reference: Ids, part: PreferencePart, *, loss: str, pad_id: int
    ) -> None:
        """`reference`: (n, 2), the base's log-probability of each row's chosen and rejected continuation."""
        self._rows, self._reference, self._part, self._loss, self._pad_id = (
            rows,
            reference,
            part,
            loss,
            pad_id,
        )
        self.lengths = rows.lengths
        self.n_items = len(rows)

    def weigh(self, items: Ids) -> float:
        return float(len(items))

    def score(self, network: Network, items: Ids) -> Outcome:
        rows = [self._rows.get_chosen(int(row)) for row in items]
        rows += [self._rows.get_rejected(int(row)) for row in items]
        batch = collate(rows, pad_id=self._pad_id)
        scored = score_tokens(network, batch)
        n = len(items)
        counts = torch.tensor(scored.per_line, dtype=torch.float32, device=network.device)
        base = torch.from_numpy(self._reference[items]).to(network.device)
        likelihoods = scored.sum_lines()
        ratios = likelihoods - base.T.reshape(-1)
        losses = pair_losses(
            self._loss,
            ratios[:n],
            ratios[n:],
            beta=self._part.beta,
            n_chosen=counts[:n],
            n_rejected=counts[n:],
        )
        if self._part.sft_weight:  # by token and each pair alike, as in Pang et al. 2024 (arXiv 2404.19733)
            losses = losses - self._part.sft_weight * likelihoods[:n] / counts[:n]
        total = losses.sum()
        rewards = (self._part.beta * ratios).detach()
        margins = rewards[:n] - rewards[n:]
        sums = {
            "loss": total.item(),
            "reward_accuracy": float((margins > 0).sum().item()),
            "reward_margin": float(margins.sum().item()),
            "reward_chosen": float(rewards[:n].sum().item()),
            "reward_rejected": float(rewards[n:].sum().item()),
        }
        return Outcome(total=total, weight=float(n), n_tokens=batch.n_tokens, sums=sums)


class LabelObjective:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024): rows that were liked or not, one by one.

    The KL term is estimated on mismatched pairs. Row i is paired with `partner[i]`'s continuation, fixed for the run, so
    that the base's side can be computed once and a resumed run pairs alike.
    """

    def __init__(
        self,
        rows: LabelledRows,
        reference: Ids,
        partners: Ids,
        part: PreferencePart,
        *,
        loss: str,
        pad_id: int,
    ) -> None:
        """`reference`: (n, 2), the base's log-probability of each row and of its mismatched pair."""
        self._rows, self._reference, self._partners = rows, reference, partners
        self._part, self._loss, self._pad_id = part, loss, pad_id
        self.lengths = rows.lengths
        self.n_items = len(rows)

    def weigh(self, items: Ids) -> float:
        return float(len(items))

    def score(self, network: Network, items: Ids) -> Outcome:
        batch = collate([self._rows.get(int(row)) for row in items], pad_id=self._pad_id)
        base = torch.from_numpy(self._reference[items]).to(network.device)
        kl = torch.zeros((), device=network.device)
        if self._loss == "kto":
            pairs = [self._rows.get_mismatched(int(row), int(self._partners[row])) for row in items]
            with torch.no_grad():
                mismatched = score_tokens(network, collate(pairs, pad_id=self._pad_id)).sum_lines()
            kl = (mismatched - base[:, 1]).mean().clamp(min=0)
        ratios = score_tokens(network, batch).sum_lines() - base[:, 0]
        liked = torch.from_numpy(np.asarray(self._rows.labels)[items] != 0).to(network.device)
        losses = label_losses(self._loss, ratios, liked, kl=kl, part=self._part)
        total = losses.sum()
        rewards = (self._part.beta * ratios).detach()
        n = float(len(items))
        sums = {
            "loss": total.item(),
            "reward_accuracy": float(((rewards > 0) == liked).sum().item()),
            "kl": float(kl.item()) * n,
        }
        return Outcome(total=total, weight=n, n_tokens=batch.n_tokens, sums=sums)


def pair_losses(
    name: str, chosen: Tensor, rejected: Tensor, *, beta: float, n_chosen: Tensor, n_rejected: Tensor
) -> Tensor:
    """Return the loss of each pair. `chosen` and `rejected` are log-ratios against the base.

    sigmoid: DPO; hinge: SLiC; ipo: Azar et al. 2023 (by token, as its authors confirmed to TRL); sigmoid_norm: DPO by
    token; apo_zero, apo_down: D'Oosterlinck et al. 2024.
    """
    if name == "sigmoid":
        return -functional.logsigmoid(beta * (chosen - rejected))
    if name == "hinge":
        return torch.relu(1 - beta * (chosen - rejected))
    if name == "ipo":
        return (chosen / n_chosen - rejected / n_rejected - 1 / (2 * beta)) ** 2
    if name == "sigmoid_norm":
        return -functional.logsigmoid(beta * (chosen / n_chosen - rejected / n_rejected))
    if name == "apo_zero":
        return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)
    if name == "apo_down":
        return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * (chosen - rejected))
    raise ValueError(f"no loss {name!r}")


def label_losses(name: str, ratios: Tensor, liked: Tensor, *, kl: Tensor, part: PreferencePart) -> Tensor:
    """Return the loss of each row; `kl` is left out by apo_zero_unpaired."""
    away = ratios - kl if name == "kto" else ratios
    signed = torch.where(liked, away, -away)
    weights = torch.where(liked, part.desirable_weight, part.undesirable_weight)
    return weights * (1 - torch.sigmoid(part.beta * signed))
