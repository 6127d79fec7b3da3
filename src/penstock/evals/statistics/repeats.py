"""Several tries at one case: the chance that one of k, or that all of k, succeed.

Sources: Chen et al., Evaluating Large Language Models Trained on Code, arXiv 2107.03374 (pass@k);
Yao et al., τ-bench, arXiv 2406.12045 (pass^k).
"""

import math


def pass_at_k(n: int, n_passed: int, k: int) -> float | None:
    """Return the unbiased estimate of the chance that at least one of `k` tries passes, from `n` tries.

    None when `k` is over `n`: it cannot be told from so few tries.
    """
    _check(n, n_passed, k)
    if k > n:
        return None
    return 1.0 - math.comb(n - n_passed, k) / math.comb(n, k)


def pass_hat_k(n: int, n_passed: int, k: int) -> float | None:
    """Return the unbiased estimate of the chance that all of `k` tries pass, from `n` tries; None when `k` > `n`."""
    _check(n, n_passed, k)
    if k > n:
        return None
    return math.comb(n_passed, k) / math.comb(n, k)


def _check(n: int, n_passed: int, k: int) -> None:
    if k < 1 or not 0 <= n_passed <= n:
        raise ValueError("k is at least 1, and no more tries pass than there are")
