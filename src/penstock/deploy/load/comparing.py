"""Two targets, asked in turn with the same moments and prompts: how many times slower one is. Pure.

Blocks alternate A B, B A, A B …, so that what changes with time (another process, heat, a cache that fills) falls on both.
The two blocks of a pair are the unit: the interval is Student's for the mean of the pairs' logarithms of the ratio. Resampling
so few pairs, or single calls, gives intervals that are too narrow.

A failed call is slower than any other, here too. Where so many failed that a statistic lies among them there is no ratio: that of
the calls that succeeded is told, as what it is.
"""

import math
from collections.abc import Sequence

import msgspec

from penstock.deploy.load.figures import values_of
from penstock.deploy.load.intervals import mean_estimate, plain_quantile
from penstock.deploy.load.types import Comparison, Ratio, Sample

_COMPARED = (
    ("ttft", "p50"),
    ("ttft", "p95"),
    ("e2e", "p50"),
    ("e2e", "p95"),
    ("tpot", "p50"),
)
_NAMES = {"ttft": "first token", "e2e": "whole reply", "tpot": "each further token"}
Pair = tuple[Sequence[Sample], Sequence[Sample]]


def compare_targets(
    first: str,
    second: str,
    pairs: Sequence[Pair],
    *,
    level: float = 0.95,
    more: Sequence[tuple[str, str]] = (),
) -> Comparison:
    """Return the first target's figures by the second's. `more` are further (measure, statistic)."""
    wanted = [*_COMPARED, *(each for each in more if each not in _COMPARED)]
    ratios = [
        ratio
        for measure, statistic in wanted
        if (ratio := _ratio(f"{measure}.{statistic}", first, second, pairs, level)) is not None
    ]
    return Comparison(
        first=first,
        second=second,
        ratios=tuple(ratios),
        sentence=_sum_up(first, second, ratios, pairs),
    )


def _ratio(named: str, first: str, second: str, pairs: Sequence[Pair], level: float) -> Ratio | None:
    measure, _, statistic = named.partition(".")
    blocks = [
        tuple(_statistic(measure, statistic, block, failed_as=math.inf) for block in pair) for pair in pairs
    ]
    joined = [[sample for pair in pairs for sample in pair[side]] for side in (0, 1)]
    whole = [_statistic(measure, statistic, each, failed_as=math.inf) for each in joined]
    n_endless = sum(math.inf in block for block in blocks)
    if n_endless or math.inf in whole:
        n_endless = n_endless or 1
        blocks = [tuple(_statistic(measure, statistic, block) for block in pair) for pair in pairs]
        whole = [_statistic(measure, statistic, each) for each in joined]
    logs = [math.log(mine / other) for mine, other in blocks if mine and other]
    mean = mean_estimate(logs, level=level)
    if mean is None or mean.value is None or not whole[0] or not whole[1]:
        return None
    ratio = Ratio(
        measure=named,
        value=math.exp(mean.value),
        low=None if mean.low is None else math.exp(mean.low),
        high=None if mean.high is None else math.exp(mean.high),
        first=whole[0],
        second=whole[1],
        n_pairs=len(logs),
        n_endless=n_endless,
    )
    return msgspec.structs.replace(ratio, sentence=_tell(ratio, first, second, level))


def _statistic(
    measure: str, statistic: str, samples: Sequence[Sample], *, failed_as: float | None = None
) -> float | None:
    values = values_of(measure, samples, {}, failed_as=failed_as)
    if not values:
        return None
    if statistic == "mean":
        return sum(values) / len(values)
    if statistic == "max":
        return max(values)
    return plain_quantile(values, float(statistic[1:]) / 100)


def _tell(ratio: Ratio, first: str, second: str, level: float) -> str:
    measure, _, statistic = ratio.measure.partition(".")
    name = _NAMES.get(measure, measure)
    pairs = f"{ratio.n_pairs} pair{'s' if ratio.n_pairs != 1 else ''} of blocks"
    if ratio.low is None or ratio.high is None:
        of_which = " (of the calls that succeeded)" if ratio.n_endless else ""
        return (
            f"{first} takes {ratio.value:.2f} times as long as {second} for {name} ({statistic}){of_which}; "
            "one pair has no interval"
        )
    interval = f"{100 * level:g} % interval {ratio.low:.2f} to {ratio.high:.2f}, {pairs}"
    if ratio.n_endless:
        return (
            f"{name} ({statistic}): so many calls failed that {first} and {second} cannot be compared; of those that "
            f"succeeded the ratio is {ratio.value:.2f} ({interval})"
        )
    if ratio.low <= 1 <= ratio.high:
        return f"{name} ({statistic}): no difference shown between {first} and {second} (ratio {ratio.value:.2f}, {interval})"
    change = abs(ratio.value - 1)
    word = "later" if ratio.value > 1 else "sooner"
    return f"{first} is {100 * change:.0f} % {word} than {second} with {name} ({statistic}; ratio {ratio.value:.2f}, {interval})"


def _sum_up(first: str, second: str, ratios: Sequence[Ratio], pairs: Sequence[Pair]) -> str:
    failed = [sum(bool(sample.error) for pair in pairs for sample in pair[side]) for side in (0, 1)]
    calls = [sum(len(pair[side]) for pair in pairs) for side in (0, 1)]
    leading = next((each for each in ratios if each.measure == "ttft.p50"), None) or next(
        (each for each in ratios if each.measure == "e2e.p50"), None
    )
    text = (
        f"{leading.sentence}."
        if leading is not None
        else f"{first} and {second} cannot be compared: no pair of blocks has answers of both."
    )
    if any(failed):
        text += f" Failed calls: {failed[0]} of {calls[0]} and {failed[1]} of {calls[1]}."
    return text[:1].upper() + text[1:] if leading is not None and not text.startswith(first) else text
