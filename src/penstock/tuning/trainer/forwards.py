"""From rows to losses of their tokens: one forward pass that computes only what a learned token needs.

With a large vocabulary the logits of all positions are what fills the memory. Here only the hidden states of learned
positions meet the head, in portions, and each portion's logits are computed again in the backward pass. On a processor
the rows of a batch lie behind each other without padding, attention looks at each row by itself, and the last layer's
feed-forward part is computed for learned positions alone: a third less work for rows of unlike length with short answers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .attention import ROW_LENGTHS
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
    targets = torch.from_numpy(batch.targets).to(network.device)
    learned = targets != IGNORED
    with network.autocast():
        states = _read_rows(network, batch) if network.reads_rows else _read_lines(network, batch, learned)
        losses, hits = _score_states(network, states, targets[learned])
    return TokenLosses(losses=losses, hits=hits, per_line=tuple(learned.sum(1).tolist()))


def _read_lines(network: Network, batch: Batch, learned: Tensor) -> Tensor:
    """Return the states of learned positions, all lines side by side: a GPU's way."""
    device = network.device
    attention: dict[str, Any] = {}
    if batch.is_packed:
        attention["attention_mask"] = torch.from_numpy(allow_attention(batch.segments)).to(device)
    states: Tensor = network.causal.model(
        input_ids=torch.from_numpy(batch.ids).to(device),
        position_ids=torch.from_numpy(batch.positions).to(device),
        use_cache=False,
        **attention,
    ).last_hidden_state
    return states[learned]


def _read_rows(network: Network, batch: Batch) -> Tensor:
    """Return the states of learned positions, rows behind each other. The layers are those of `ARCHITECTURES`, which are alike."""
    model, is_row = network.causal.model, batch.segments != 0
    positions = torch.from_numpy(batch.positions[is_row])[None]
    learned = torch.from_numpy(batch.targets[is_row] != IGNORED)[None]
    states = model.embed_tokens(torch.from_numpy(batch.ids[is_row])[None])
    given: dict[str, Any] = {
        "attention_mask": None,
        "position_embeddings": model.rotary_emb(states, position_ids=positions),
        "position_ids": positions,
        "past_key_values": None,
        ROW_LENGTHS: batch.lengths,
    }
    for layer in model.layers[:-1]:
        states = layer(states, use_cache=False, **given)
    last = model.layers[-1]
    seen, _ = last.self_attn(hidden_states=last.input_layernorm(states), **given)
    states = states[learned] + seen[learned]
    states = states + last.mlp(last.post_attention_layernorm(states))
    found: Tensor = model.norm(states)
    return found


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
