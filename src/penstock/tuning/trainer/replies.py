"""Greedy replies to held-out prompts, ended by the run's stop ids: the model heard while it learns.

Prompts are ids as the engine will get them; the library's own generation, with its defaults and its files, is not used.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .networks import Network

BATCH = 16
"""Prompts at a time; each keeps its keys and values."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A held-out prompt and what was said to it."""

    ids: tuple[int, ...]
    reference: str
    row: int | None


def read_prompts(path: Path | None, *, limit: int) -> tuple[Prompt, ...]:
    """Return the first `limit` prompts of `samples.json`; none if there is no such file."""
    if path is None or not path.is_file():
        return ()
    listed: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        Prompt(ids=tuple(each["prompt"]), reference=each.get("reference") or "", row=each.get("row"))
        for each in listed[:limit]
    )


def generate_replies(
    network: Network,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    pad_id: int,
    interrupt: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the most likely continuation of each prompt, without the stop id that ended it.

    `interrupt` is called before each batch, and raises when the run is to stop.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    # prompts of one length need no padding, which keeps a reply the same whatever it is computed beside
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(number)
    for numbers in by_length.values():
        for start in range(0, len(numbers), BATCH):
            interrupt()
            some = numbers[start : start + BATCH]
            found = _continue(
                network,
                [list(prompts[number]) for number in some],
                max_new_tokens,
                frozenset(stop_ids),
                pad_id,
            )
            for number, reply in zip(some, found, strict=True):
                replies[number] = reply
    return replies


def _continue(
    network: Network, prompts: list[list[int]], max_new_tokens: int, stop_ids: frozenset[int], pad_id: int
) -> list[list[int]]:
    from transformers import DynamicCache

    limit = network.context_length
    room = max_new_tokens if limit is None else min(max_new_tokens, limit - len(prompts[0]))
    replies: list[list[int]] = [[] for _ in prompts]
    is_open = [True] * len(prompts)
    cache = DynamicCache(config=network.causal.config)
    ids = torch.tensor(prompts, device=network.device)
    with torch.no_grad(), network.autocast():
        for place in range(room):
            at = 0 if place == 0 else len(prompts[0]) + place - 1
            positions = torch.arange(at, at + ids.shape[1], device=network.device)[None].expand(
                len(prompts), -1
            )
            states = network.causal.model(
                input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            chosen: list[int] = network.head(states[:, -1]).argmax(-1).tolist()
            for number, token in enumerate(chosen):
                if not is_open[number]:
                    chosen[number] = pad_id
                elif token in stop_ids:
                    is_open[number] = False
                else:
                    replies[number].append(token)
            if not any(is_open):
                break
            ids = torch.tensor(chosen, device=network.device)[:, None]
    return replies
