"""What a page draws of a load test: histograms, one value a second, calls as points. Pure."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

from penstock.deploy.load.figures import values_of
from penstock.deploy.load.measures import e2e, ttft
from penstock.deploy.load.types import Charts, Sample

MAX_POINTS = 2000
MAX_SECONDS = 1800
N_BUCKETS = 30


def draw_charts(samples: Sequence[Sample], *, seed: int = 20) -> Charts:
    """Return the charts of all measured calls."""
    return Charts(histograms=_histograms(samples), series=_series(samples), scatter=_scatter(samples, seed))


def _histograms(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """Counts between edges that grow evenly on a logarithmic scale, alike for all targets."""
    found: dict[str, dict[str, Any]] = {}
    targets = sorted({sample.target for sample in samples})
    for measure in ("ttft", "e2e", "tpot"):
        by_target = {
            target: values_of(measure, [one for one in samples if one.target == target], {})
            for target in targets
        }
        known = [max(value, 0.001) for values in by_target.values() for value in values]
        if not known:
            continue
        low, high = min(known) * 0.999, max(known) * 1.001
        edges = np.geomspace(low, max(high, low * 1.01), N_BUCKETS + 1)
        found[measure] = {
            "edges_ms": [round(float(edge), 4) for edge in edges],
            "counts": {
                target: np.histogram(np.maximum(values, 0.001), bins=edges)[0].tolist()
                for target, values in by_target.items()
            },
        }
    return found


def _series(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    if not samples:
        return {}
    end = min(MAX_SECONDS, int(max(sample.ended_s for sample in samples)) + 1)
    begin = min(end - 1, int(min(sample.due_s for sample in samples)))
    seconds = list(range(begin, end))
    started, ended, failed = ([0] * len(seconds) for _ in range(3))
    tokens = [0] * len(seconds)
    edges = np.zeros(len(seconds) + 1, np.int64)
    firsts: dict[int, list[float]] = {}
    ends: dict[int, list[float]] = {}
    for sample in samples:
        at, over = int(sample.due_s) - begin, int(sample.ended_s) - begin
        if at >= len(seconds):
            continue
        started[at] += 1
        edges[at] += 1
        if over >= len(seconds):
            continue
        edges[over + 1] -= 1
        if sample.error:
            failed[over] += 1
            continue
        ended[over] += 1
        tokens[over] += sample.completion_tokens or 0
        first, whole = ttft(sample), e2e(sample)
        if first is not None:
            firsts.setdefault(at, []).append(first)
        if whole is not None:
            ends.setdefault(at, []).append(whole)
    return {
        "second": seconds,
        "started": started,
        "ended": ended,
        "failed": failed,
        "in_flight": np.cumsum(edges)[: len(seconds)].tolist(),
        "completion_tokens": tokens,
        "ttft_p50": _medians(firsts, len(seconds)),
        "e2e_p50": _medians(ends, len(seconds)),
    }


def _medians(by_second: Mapping[int, list[float]], n: int) -> list[float | None]:
    """Of calls by the second they were due in; None where there was none."""
    return [
        round(float(np.median(by_second[second])), 3) if second in by_second else None for second in range(n)
    ]


def _scatter(samples: Sequence[Sample], seed: int) -> tuple[tuple[int, float, str], ...]:
    points = [
        (each.completion_tokens, round((each.ended_s - each.due_s) * 1000, 2), each.target)
        for each in samples
        if not each.error and each.completion_tokens is not None
    ]
    if len(points) > MAX_POINTS:
        points = Random(seed).sample(points, MAX_POINTS)
    return tuple(points)
