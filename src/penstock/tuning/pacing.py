"""How fast a machine could train, from its arithmetic alone: for plans that nothing was measured for."""

import time

import numpy as np

from penstock.spec.tuning import Recipe
from penstock.tuning.costing import ModelShape

ARITHMETIC_SHARE = 0.25
"""Of a core's matrix products, which a training step reaches: 0.15 to 0.35 on CPUs with models of 1 to 100 M."""


def measure_arithmetic(size: int = 64, seconds: float = 0.2) -> float:
    """Return how many operations of matrix products a second one core can do, in 32 bits.

    Products so small that they stay on one core, and the best of many rounds: on a busy machine most rounds, and
    products that are spread over cores, say more about the others (4 instead of 150 GFLOP/s were seen).
    """
    left = np.ones((size, size), dtype=np.float32)
    right = np.ones((size, size), dtype=np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or not best:
        left @ right
        best = max(best, 2 * size**3 / max(1e-9, time.perf_counter() - start))
    return best


def estimate_pace(recipe: Recipe, shape: ModelShape, *, core_flops: float, n_cores: int) -> float:
    """Return tokens a second from arithmetic alone: 6 operations a parameter and token (Kaplan et al., 2020)."""
    cores = min(n_cores, recipe.train.threads or n_cores)
    return core_flops * cores * ARITHMETIC_SHARE / (6 * shape.n_parameters)
