"""Times between pieces of a stream, counted in buckets that are 2 % wide, so that a call of 10,000 tokens stays small."""

import math
from collections.abc import Iterable

import numpy as np

_STEP = math.log(1.02)
_FLOOR_MS = 0.001


def bucket_of(gap_ms: float) -> int:
    """Return the number of the bucket."""
    return max(0, round(math.log(max(gap_ms, _FLOOR_MS) / _FLOOR_MS) / _STEP))


def middle_of(bucket: int) -> float:
    """Return the time in milliseconds that stands for a bucket."""
    return _FLOOR_MS * math.exp(bucket * _STEP)


def count_gaps(gaps_ms: Iterable[float]) -> tuple[tuple[int, int], ...]:
    """Return `(bucket, count)` in order."""
    counts: dict[int, int] = {}
    for gap in gaps_ms:
        bucket = bucket_of(gap)
        counts[bucket] = counts.get(bucket, 0) + 1
    return tuple(sorted(counts.items()))


def to_matrix(rows: list[tuple[tuple[int, int], ...]]) -> tuple["np.ndarray", "np.ndarray"]:
    """Return counts by call and bucket, and the buckets' middles in milliseconds."""
    known = sorted({bucket for row in rows for bucket, _ in row})
    at = {bucket: number for number, bucket in enumerate(known)}
    counts = np.zeros((len(rows), len(known)), np.int64)
    for number, row in enumerate(rows):
        for bucket, n in row:
            counts[number, at[bucket]] = n
    return counts, np.array([middle_of(bucket) for bucket in known])
