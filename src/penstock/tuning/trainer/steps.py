"""How many steps a run has and what the learning rate is in each: pure functions of the step, so a resumed run agrees."""

import math


def count_steps(
    n_rows: int, *, batch_size: int, accumulate: int = 1, epochs: float = 1.0, max_steps: int | None = None
) -> int:
    """Return how often the weights move. The last step of an epoch takes the rows that are left, however few.

    With packing, `n_rows` is the number of packed rows (`batches.pack_rows`).
    """
    if max_steps is not None:
        return max_steps
    return max(
        1, math.ceil(epochs * count_steps_per_epoch(n_rows, batch_size=batch_size, accumulate=accumulate))
    )


def count_steps_per_epoch(n_rows: int, *, batch_size: int, accumulate: int = 1) -> int:
    """Return the steps that one pass over the rows takes."""
    return max(1, math.ceil(n_rows / (batch_size * accumulate)))


def rate_at(step: int, *, lr: float, schedule: str, warmup_steps: int, n_steps: int) -> float:
    """Return the learning rate of step `step` (from 0): linear warm-up, then constant, linear or cosine to 0.

    A warm-up that is longer than the run is shortened to a tenth of it: a run that ends before its rate is reached
    teaches next to nothing.
    """
    warmup = warmup_steps if warmup_steps < n_steps else n_steps // 10
    if step < warmup:
        return lr * (step + 1) / warmup
    if schedule == "constant":
        return lr
    share = (step - warmup) / max(1, n_steps - warmup)
    if schedule == "linear":
        return lr * (1.0 - share)
    if schedule == "cosine":
        return lr * 0.5 * (1.0 + math.cos(math.pi * share))
    raise ValueError(f"no schedule {schedule!r}")
