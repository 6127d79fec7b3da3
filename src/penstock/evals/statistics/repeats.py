"""Several tries at one case: chance that one of k, or all of k, succeed, and how much tries of one case differ."""


def pass_at_k(n: int, n_passed: int, k: int) -> float | None:
    """Return the unbiased estimate of the chance that at least one of `k` tries passes, from `n` tries.

    None when `k` is over `n`: it cannot be told from so few tries.
    """
    raise NotImplementedError


def pass_hat_k(n: int, n_passed: int, k: int) -> float | None:
    """Return the unbiased estimate of the chance that all of `k` tries pass, from `n` tries; None when `k` > `n`."""
    raise NotImplementedError
