"""From rows to losses of their tokens: one forward pass that computes logits only where something is learned.

With a large vocabulary the logits of all positions are what fills the memory. Here only the hidden states of learned
positions meet the head, in portions, and each portion's logits are computed again in the backward pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .batches import IGNORED, Batch, allow_attention
from .networks import Network

PORTION = 1 << 26
"""Logits at a time: 256 MB in float32."""


@dataclass(frozen=True, kw_only=True)
class TokenLosses:
    """What a batch's learned tokens cost, in the order of lines and places."""

    losses: Tensor
    """(n_targets,) in nats."""
    hits: Tensor
    """(n_targets,) whether the model's first choice was the target."""
    per_line: tuple[int, ...]
    """How many of them each line has."""

    def sum_lines(self) -> Tensor:
        """Return the log-probability of each line's targets."""
        return -torch.stack([part.sum() for part in self.losses.split(self.per_line)])


def score_tokens(network: Network, batch: Batch) -> TokenLosses:
    """Run the network over a batch. Gradients flow if they are switched on."""
    device = network.device
    targets = torch.from_numpy(batch.targets).to(device)
    attention: dict[str, Any] = {}
    if batch.segments is not None:
        attention["attention_mask"] = torch.from_numpy(allow_attention(batch.segments)).to(device)
    with network.autocast():
        states = network.causal.model(
            input_ids=torch.from_numpy(batch.ids).to(device),
            position_ids=torch.from_numpy(batch.positions).to(device),
            use_cache=False,
            **attention,
        ).last_hidden_state
        learned = targets != IGNORED
        losses, hits = _score_states(network, states[learned], targets[learned])
    return TokenLosses(losses=losses, hits=hits, per_line=tuple(learned.sum(1).tolist()))


def _score_states(network: Network, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    portion = max(1, PORTION // network.vocab_size)
    if len(states) <= portion:
        return _score_portion(network.head, states, targets)
    parts = [
        checkpoint(_score_portion, network.head, some, wanted, use_reentrant=False)
        for some, wanted in zip(states.split(portion), targets.split(portion), strict=True)
    ]
    return torch.cat([losses for losses, _ in parts]), torch.cat([hits for _, hits in parts])


def _score_portion(head: Any, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = head(states).float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    with torch.no_grad():
        hits = logits.argmax(-1) == targets
    return losses, hits
