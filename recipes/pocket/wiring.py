"""Wiring: the weights a model starts from, set so that finding and copying are possible from the first step.

From a random start the heads had not begun to find equal words after 450 steps of drill. Three well-known circuits are laid in as *starting values*, all further free to change:

- previous-token head (layer 0, head 0): attends one position back and writes that token into a side channel;
- induction heads (head 0 of later layers): find the place whose *previous* token is the current one, copy what is there;
- matching heads (other heads of later layers): query and key maps start equal, so like finds like; value and output
  maps start as each other's transpose, so what is found is passed on (the word and the mark of its sentence).

Each works on the slowly turning half of the rotary pairs, so that distance hardly matters. Embedding dimension 0
starts as the same constant for every token: the previous-token head reads it, everything else ignores it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EMBED_STD = 0.05
CONSTANT = 0.25  # about 4.8 after the first norm
N_FAST_PAIRS = 12
MATCH_GAIN = 2.5


def lay_wires(decoder: nn.Module) -> None:
    """Set all weights of a fresh `Decoder` in place; uses torch's global random state."""
    shape = decoder.shape
    width, head = shape.hidden_size, shape.head_size
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if weight.dim() < 2:
                continue
            quiet = 0.1 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(
                weight, std=EMBED_STD if "embed" in name else quiet * 0.5 / math.sqrt(weight.shape[1])
            )
        decoder.embed_tokens.weight[:, 0] = CONSTANT
        read = _random_map(head, width)
        side = _random_map(head, width)
        _wire_previous_token(decoder.layers[0].self_attn, decoder.frequency, read, side, head)
        slow = (torch.arange(head) % (head // 2)) >= head // 4
        gain = torch.where(slow, MATCH_GAIN, 0.25)[:, None]
        for layer in list(decoder.layers)[1:]:
            attention = layer.self_attn
            attention.q_proj.weight.mul_(gain.repeat(shape.n_heads, 1))
            attention.q_proj.weight[:, 0] = 0.0
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
            attention.q_proj.weight[:head] = read * gain * 0.5
            attention.k_proj.weight[:head] = side * gain * 0.5


def _random_map(rows: int, columns: int) -> Tensor:
    """A random projection that keeps length on average and is blind to the constant dimension."""
    made = torch.randn(rows, columns) / math.sqrt(columns)
    made[:, 0] = 0.0
    return made


def _wire_previous_token(
    attention: nn.Module, frequency: Tensor, read: Tensor, side: Tensor, head: int
) -> None:
    """Let head 0 look exactly one position back and write what it `read`s along `side`."""
    strength = 1.2
    query = torch.zeros(head)
    key = torch.zeros(head)
    fast = frequency[:N_FAST_PAIRS]
    key[:N_FAST_PAIRS] = strength
    query[:N_FAST_PAIRS] = strength * fast.cos()
    query[head // 2 : head // 2 + N_FAST_PAIRS] = -strength * fast.sin()
    for weight, column in ((attention.q_proj.weight, query), (attention.k_proj.weight, key)):
        weight[:head] = 0.0
        weight[:head, 0] = column
    attention.v_proj.weight[:head] = read
    attention.o_proj.weight[:, :head] = side.T * 0.08
