"""Measures how much of an exact search an approximate one finds, on vectors of the index itself.

A probe is a stored vector pushed a little aside, so that it is near the data, as questions are, and not a point of
it. Recall counts a found row as right when its cosine reaches the last exact one: equal vectors are
interchangeable.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from penstock.knowledge.index.types import Finding, Matrix

if TYPE_CHECKING:
    from penstock.knowledge.index.types import VectorIndex

DEPTH = 10
PUSH = 0.3
"""Length of the random step, against a vector of length one."""
EPSILON = 1e-4
"""Servers add up in another order, or from halves."""


def make_probes(index: "VectorIndex", n_rows: int, sample: int, *, seed: int = 0) -> Matrix:
    """Return up to `sample` unit vectors near ones of the index."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(n_rows, size=min(sample, n_rows), replace=False))
    vectors = index.vectors(rows)
    step = rng.normal(size=vectors.shape)
    step *= PUSH / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    probes = vectors + step
    probes /= np.maximum(np.linalg.norm(probes, axis=1, keepdims=True), 1e-9)
    chosen: Matrix = probes.astype(np.float32)
    return chosen


def probe_recall(
    index: "VectorIndex", n_rows: int, sample: int, *, threshold: float, seed: int = 0
) -> Finding:
    """Return mean recall at 10 over the sample, and whether it reaches the threshold."""
    if n_rows == 0:
        return Finding(check="recall", state="ok", message="there are no vectors")
    found, wanted = 0, 0
    probes = make_probes(index, n_rows, sample, seed=seed)
    for probe in probes:
        _, best = index.search(probe, DEPTH, exact=True)
        _, scores = index.search(probe, DEPTH)
        edge = float(best[-1]) - EPSILON
        found += min(int(np.count_nonzero(scores >= edge)), len(best))
        wanted += len(best)
    recall = found / wanted
    good = recall >= threshold
    return Finding(
        check="recall",
        state="ok" if good else "failed",
        message=f"{recall:.3f} of what an exact search finds, over {len(probes)} of its own vectors",
        measured=recall,
        threshold=threshold,
        advice=None
        if good
        else "Rebuild the index; if it stays low, raise index.expansion_search or index.oversample.",
    )


def check_server_rows(held: Sequence[int], n_rows: int) -> Finding:
    """Return whether a server holds every row number below `n_rows` once, and nothing else."""
    distinct = set(held)
    missing = n_rows - sum(row in distinct for row in range(n_rows))
    surplus = len(held) - (n_rows - missing)
    if not missing and not surplus:
        return Finding(check="server rows", state="ok", message=f"{n_rows:,} rows, each once")
    example = next((row for row in range(n_rows) if row not in distinct), None)
    parts = [f"{missing:,} of {n_rows:,} are missing, such as row {example}"] if missing else []
    parts += [f"{surplus:,} are there that should not be"] if surplus else []
    return Finding(
        check="server rows",
        state="failed",
        message="; ".join(parts),
        measured=float(len(held)),
        threshold=float(n_rows),
        advice="Rebuild the index.",
    )
