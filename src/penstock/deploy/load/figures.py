"""Figures of some calls: spreads, rates, goodput, errors. Pure.

Latencies are of calls that succeeded; failed ones count in goodput, in errors, and against limits (`judging.py`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from penstock.deploy.load.gap_buckets import to_matrix
from penstock.deploy.load.intervals import (
    clustered_quantile,
    quantile_estimate,
    rate_estimate,
    share_estimate,
)
from penstock.deploy.load.limits import Limit
from penstock.deploy.load.measures import MEASURES, alone_of, queueing
from penstock.deploy.load.types import ErrorKind, Estimate, Figures, Sample, Spread

LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_GAP_SEED = 7
Alone = Mapping[tuple[str, str], float]
Prices = tuple[float, float] | None


def compute_figures(
    label: str,
    samples: Sequence[Sample],
    *,
    limits: Sequence[Limit] = (),
    alone: Alone | None = None,
    prices: Prices = None,
    level: float = 0.95,
    max_in_flight: int = 0,
    spans: Sequence[Sequence[Sample]] | None = None,
) -> Figures:
    """Return the figures of calls in the order they were due.

    `limits` are those on single calls. `spans` are the stages that the calls are of, where there are several: time between
    stages is nobody's.
    """
    ok = [sample for sample in samples if not sample.error]
    parts = [part for part in (spans if spans is not None else [samples]) if part]
    duration_s = sum(_duration(part) for part in parts) or None
    due_s = sum(part[-1].due_s - part[0].due_s for part in parts if len(part) > 1)
    told = [sample for sample in ok if sample.completion_tokens is not None]
    good = [is_good(sample, limits) for sample in samples]
    cost = None
    if prices is not None:
        cost = sum(each.cost_usd or 0.0 for each in samples)
    prompt_tokens = sum(each.prompt_tokens or 0 for each in told)
    return Figures(
        label=label,
        n=len(samples),
        n_failed=len(samples) - len(ok),
        duration_s=duration_s,
        spreads=_spreads(samples, ok, alone or {}, level),
        offered_per_s=(len(samples) - len(parts)) / due_s if due_s > 0 else None,
        requests_per_s=_rate(parts, level, lambda sample: 0.0 if sample.error else 1.0),
        prompt_tokens_per_s=prompt_tokens / duration_s if told and duration_s else None,
        completion_tokens_per_s=(
            _rate(parts, level, lambda sample: 0.0 if sample.error else float(sample.completion_tokens or 0))
            if told
            else None
        ),
        mean_prompt_tokens=prompt_tokens / len(told) if told else None,
        mean_completion_tokens=(
            sum(each.completion_tokens or 0 for each in told) / len(told) if told else None
        ),
        n_without_usage=len(ok) - len(told),
        goodput=share_estimate(good, level=level) if limits else None,
        goodput_per_s=(
            _rate(parts, level, lambda sample: float(is_good(sample, limits))) if limits else None
        ),
        errors=count_errors(samples),
        max_in_flight=max_in_flight,
        n_retried=sum((sample.attempts or 1) > 1 for sample in samples),
        n_cached=sum(sample.cache in {"hit", "semantic", "shared"} for sample in samples),
        cost_usd=cost,
    )


def is_good(sample: Sample, limits: Sequence[Limit]) -> bool:
    """Return whether a call succeeded and kept each limit on single calls. What cannot be told was not kept."""
    if sample.error:
        return False
    for limit in limits:
        measure = MEASURES.get(limit.measure)
        value = None if measure is None else measure(sample)
        if value is None:
            # a reply of one token has no time between tokens that could be too long
            if limit.measure in {"tpot", "itl"} and sample.first_s is not None:
                continue
            return False
        if not limit.holds(value):
            return False
    return True


def values_of(
    measure: str, samples: Sequence[Sample], alone: Alone, *, failed_as: float | None = None
) -> list[float]:
    """Return the measure of each call that has it, in order; failed calls as `failed_as`, or left out."""
    found: list[float] = []
    for sample in samples:
        if sample.error:
            if failed_as is not None:
                found.append(failed_as)
            continue
        value = (
            queueing(sample, alone_of(sample, alone)) if measure == "queueing" else MEASURES[measure](sample)
        )
        if value is not None:
            found.append(value)
    return found


def gap_quantile(
    samples: Sequence[Sample], share: float, level: float, *, is_failed_endless: bool = False
) -> Estimate | None:
    """Return a quantile of all times between pieces of streams.

    With `is_failed_endless` a failed call counts as a stream of the usual length whose pieces never came.
    """
    rows = [sample.gaps for sample in samples if not sample.error and sample.gaps]
    if not rows:
        return None
    counts, middles = to_matrix(rows)
    n_failed = sum(bool(sample.error) for sample in samples)
    if is_failed_endless and n_failed:
        usual = max(1, round(float(counts.sum()) / len(rows)))
        counts = np.pad(counts, ((0, n_failed), (0, 1)))
        counts[len(rows) :, -1] = usual
        middles = np.append(middles, np.inf)
    return clustered_quantile(counts, middles, share, level=level, seed=_GAP_SEED)


def count_errors(samples: Sequence[Sample]) -> tuple[ErrorKind, ...]:
    """Return failures by kind, the most frequent first, with the first of each as example."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for sample in samples:
        if sample.error:
            counts[sample.error] = counts.get(sample.error, 0) + 1
            examples.setdefault(sample.error, sample.detail)
    listed = sorted(counts.items(), key=lambda item: -item[1])
    return tuple(ErrorKind(kind=kind, n=n, example=examples[kind]) for kind, n in listed)


def _spreads(
    samples: Sequence[Sample], ok: Sequence[Sample], alone: Alone, level: float
) -> dict[str, Spread]:
    found: dict[str, Spread] = {}
    for measure in (*MEASURES, "queueing"):
        if measure == "itl":
            spread = _gap_spread(ok, level)
        elif measure == "lateness":
            spread = _spread([sample.late_s * 1000 for sample in samples], level)
        else:
            spread = _spread(values_of(measure, ok, alone), level)
        if spread is not None:
            found[measure] = spread
    return found


def _spread(values: Sequence[float], level: float) -> Spread | None:
    if not values:
        return None
    return Spread(
        n=len(values),
        mean=float(np.mean(values)),
        min=min(values),
        max=max(values),
        **{name: quantile_estimate(values, share, level=level) for name, share in LEVELS.items()},
    )


def _gap_spread(ok: Sequence[Sample], level: float) -> Spread | None:
    rows = [sample.gaps for sample in ok if sample.gaps]
    if not rows:
        return None
    counts, middles = to_matrix(rows)
    total = counts.sum(axis=0)
    return Spread(
        n=int(total.sum()),
        mean=float((total * middles).sum() / total.sum()),
        min=float(middles[total > 0][0]),
        max=max(sample.longest_gap_ms or 0.0 for sample in ok),
        **{
            name: clustered_quantile(counts, middles, share, level=level, seed=_GAP_SEED)
            for name, share in LEVELS.items()
        },
    )


def _duration(part: Sequence[Sample]) -> float:
    return max(sample.ended_s for sample in part) - part[0].due_s


def _rate(
    parts: Sequence[Sequence[Sample]], level: float, amount: Callable[[Sample], float]
) -> Estimate | None:
    """What came a second, over stages one after another as if nothing was between them."""
    at: list[float] = []
    amounts: list[float] = []
    passed = 0.0
    for part in parts:
        begin = part[0].due_s
        for sample in part:
            at.append(passed + sample.ended_s - begin)
            amounts.append(amount(sample))
        passed += _duration(part)
    return rate_estimate(at, amounts, 0.0, passed, level=level)
