"""Attention over rows that lie behind each other on one line: each row looks at itself alone, without a mask.

A mask of so many tokens square would cost more than what it hides, and padding is work for nothing: on a processor both count.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROWS = "penstock_rows"
"""Under which the models of transformers know it."""
ROW_LENGTHS = "row_lengths"
"""What a forward pass is given beside its ids: how many tokens each row has, in order."""


def register_rows() -> None:
    """Tell transformers of it; again does nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(ROWS, attend_rows)


def attend_rows(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_lengths: Sequence[int] | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """Return what each row's tokens see, (1, tokens, heads, size); without `row_lengths` as transformers does it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if row_lengths is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
        )
        return found
    lengths = list(row_lengths)
    parts = [
        functional.scaled_dot_product_attention(
            *row,
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=module.num_key_value_groups > 1,
        )
        for row in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None
