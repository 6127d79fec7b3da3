"""Log-probabilities of the base for preference data, computed once before the first step.

With an adapter the base is the model with the adapter off; without one it is the model before its first step. Computed
again on resuming only if the file is gone: then the base is read anew, never the weights that were trained.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .batches import collate, iterate_chunks
from .forwards import score_tokens
from .networks import Network
from .row_files import Ids, LabelledRows, PreferenceRows, Sequence


def pair_partners(n_rows: int, *, seed: int) -> Ids:
    """Return for each row another one: neighbours in a shuffled ring, so each continuation is used once."""
    ring = np.random.default_rng([seed, 0x4B4C]).permutation(n_rows)
    partners = np.empty(n_rows, dtype=np.int64)
    partners[ring] = np.roll(ring, 1)
    return partners


def compute_reference(
    network: Network,
    rows: PreferenceRows | LabelledRows,
    partners: Ids | None,
    *,
    batch_size: int,
    pad_id: int,
) -> Ids:
    """Return (n, 2): chosen and rejected of each pair, or each row and its mismatched pair (0 without partners)."""
    found = np.zeros((len(rows), 2), dtype=np.float32)
    whole = network.whole
    was_training = whole.training
    whole.eval()
    with torch.no_grad(), _without_adapter(network):
        for chunk in iterate_chunks(len(rows), batch_size):
            for side in range(2):
                sequences = [_pick(rows, row, side, partners) for row in chunk]
                if any(sequence is None for sequence in sequences):
                    continue
                batch = collate([each for each in sequences if each is not None], pad_id=pad_id)
                found[chunk.start : chunk.stop, side] = score_tokens(network, batch).sum_lines().cpu().numpy()
    whole.train(was_training)
    return found


def load_reference(path: Path, n_rows: int) -> Ids | None:
    """Return what was computed before, or None if it is not there or not for as many rows."""
    if not path.is_file():
        return None
    found: Ids = np.load(path, allow_pickle=False)
    return found if found.shape == (n_rows, 2) else None


def save_reference(path: Path, reference: Ids) -> None:
    """Write it in one move."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, reference, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _pick(rows: PreferenceRows | LabelledRows, row: int, side: int, partners: Ids | None) -> Sequence | None:
    if isinstance(rows, PreferenceRows):
        return rows.get_rejected(row) if side else rows.get_chosen(row)
    if not side:
        return rows.get(row)
    return None if partners is None else rows.get_mismatched(row, int(partners[row]))


def _without_adapter(network: Network) -> AbstractContextManager[Any]:
    return network.whole.disable_adapter() if network.is_adapter else nullcontext()
