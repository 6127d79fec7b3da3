"""A small Llama-type decoder in plain torch, laid out like Hugging Face's `LlamaForCausalLM`.

It knows nothing about data or training. Its one surprise: a batch is a *tree*. One context (the numbered sentences)
is computed once and several questions branch off from it; no branch sees another. With one branch this is exactly
ordinary causal decoding, so the weights run unchanged in any Llama runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wiring import lay_wires


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of the decoder; every field ends up in config.json."""

    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    ffn_size: int
    context_size: int
    rope_theta: float
    norm_eps: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.n_heads


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One batch: contexts `[B, C]` and their branches, flattened to `[B, N]`.

    `position` is `[B, C + N]` and counts each branch on from the end of its own context. `mask` is an additive float
    `[B, 1, N, C + N]` that says what a branch token may see. Context padding sits at the end of the context, where
    causality hides it from the context itself; only branches need `mask`.
    """

    context: Tensor
    branches: Tensor
    position: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class States:
    """What the decoder hands back: final normed branch states and the raw states after each layer."""

    branch: Tensor
    layers: tuple[Tensor, ...]


class Norm(nn.Module):
    """Root-mean-square norm, named as in the Hugging Face layout."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions in the half-rotation form that Hugging Face weights use."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.n_heads = shape.n_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, n_context: int, last: bool
    ) -> Tensor:
        batch, _, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, y.shape[1], self.n_heads, -1).transpose(1, 2)

        key = rotate(split(self.k_proj(x)), cos, sin)
        value = split(self.v_proj(x))
        if last:
            query = rotate(split(self.q_proj(x[:, n_context:])), cos[:, :, n_context:], sin[:, :, n_context:])
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            query = rotate(split(self.q_proj(x)), cos, sin)
            root = functional.scaled_dot_product_attention(
                query[:, :, :n_context], key[:, :, :n_context], value[:, :, :n_context], is_causal=True
            )
            leaf = functional.scaled_dot_product_attention(
                query[:, :, n_context:], key, value, attn_mask=mask
            )
            mixed = torch.cat((root, leaf), dim=2)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, -1, width))


class FeedForward(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.ffn_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.ffn_size, bias=False)
        self.down_proj = nn.Linear(shape.ffn_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, n_context: int, last: bool
    ) -> Tensor:
        mixed = self.self_attn(self.input_layernorm(x), cos, sin, mask, n_context, last)
        x = (x[:, n_context:] if last else x) + mixed
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The language model without its head; the head is the embedding itself (`tie_word_embeddings`)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layers))
        self.norm = Norm(shape.hidden_size, shape.norm_eps)
        half = torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size
        self.register_buffer("frequency", shape.rope_theta**-half, persistent=False)
        self.frequency: Tensor
        lay_wires(self)

    def forward(self, tree: Tree) -> States:
        """Run a batch; branch states are `[B, N, hidden]`."""
        n_context = tree.context.shape[1]
        x = self.embed_tokens(torch.cat((tree.context, tree.branches), dim=1))
        angle = tree.position[:, None, :, None].float() * self.frequency
        cos, sin = angle.cos(), angle.sin()
        seen: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, tree.mask, n_context, index == len(self.layers) - 1)
            seen.append(x)
        return States(branch=self.norm(x), layers=tuple(seen))

    def score_tokens(self, states: Tensor) -> Tensor:
        """Logits over the vocabulary for states `[..., hidden]`."""
        return functional.linear(states, self.embed_tokens.weight)
