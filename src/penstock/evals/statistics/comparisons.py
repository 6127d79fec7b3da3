"""Two evaluations beside each other, case by case: the entry point that picks test and interval.

| scale | test | interval of the difference |
|---|---|---|
| binary, every case alone, one repeat | McNemar, exact | Newcombe's for paired shares |
| binary or bounded otherwise, unbounded | sign flips of group sums (exact when few groups) | t clustered by group |
| a figure (BLEU, F1 …) | swaps of both sides by group | bootstrap over groups, BCa; ABC where there are many |

`better` and `worse` need both: the p-value (after correction) and an interval without zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from penstock.base.distributions import normal_quantile, t_quantile
from penstock.evals.statistics.estimates import (
    SEED,
    bounds_of,
    check_level,
    is_share,
    is_within,
)
from penstock.evals.statistics.families import Correction, adjust
from penstock.evals.statistics.means import mean_difference, no_interval, standard_error
from penstock.evals.statistics.resampling import Bootstrap, bootstrap, flip_signs, swap_sides
from penstock.evals.statistics.samples import Sample, tell_method
from penstock.evals.statistics.shares import mcnemar, paired_shares
from penstock.evals.statistics.sheets import Sheet, make_sheet, pair_sheets
from penstock.evals.statistics.types import (
    Figure,
    FloatArray,
    Interval,
    IntervalAt,
    Measure,
    ScoredCase,
    unit_of,
)
from penstock.spec.evaluations import Comparison, ComparisonWord

SMALLEST_P = 1e-4
"""10,000 resamples cannot tell smaller ones apart."""
SMALLEST_EXACT_P = 1e-9
"""Where nothing is resampled: small enough for as many looks as anybody takes."""
_NO_PAIR = "no case has a score on both sides"


def compare(
    baseline: Sequence[ScoredCase] | Sheet,
    candidate: Sequence[ScoredCase] | Sheet,
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    part: str | None = None,
    n_resamples: int = 10_000,
) -> Comparison:
    """Return the difference candidate − baseline over the cases that both have a score for.

    The word is `invalid` when there is no pair; `undecided` when the pairs cannot tell.
    """
    check_level(level)
    left, right = make_sheet(baseline).part(part), make_sheet(candidate).part(part)
    pairs = _pair(left, right, measure)
    rng = rng or np.random.default_rng(SEED)
    test = _make_test(pairs, measure, figure, rng, n_resamples)
    interval = test.at(level)
    differences = pairs.differences
    sign = -1.0 if measure.direction == "lower" else 1.0
    scale = max(1.0, float(np.abs(pairs.candidate.values).max())) if pairs.n else 1.0
    comparison = Comparison(
        name=name or measure.name,
        baseline=test.baseline,
        candidate=test.candidate,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        level=level,
        p_value=test.p_value,
        method=tell_method(
            " · ".join(text for text in (test.method, interval.method) if text),
            measure,
            has_groups=right.has_groups,
        ),
        n_pairs=pairs.n,
        n_groups=pairs.candidate.n_groups,
        n_only_baseline=pairs.n_only_baseline,
        n_only_candidate=pairs.n_only_candidate,
        n_wins=int(np.sum(sign * differences > 1e-12 * scale)),
        n_losses=int(np.sum(sign * differences < -1e-12 * scale)),
        n_ties=int(np.sum(np.abs(differences) <= 1e-12 * scale)),
        detectable=None if figure else detectable_of(pairs.candidate, differences, level=level),
        direction=measure.direction,
        scale=measure.scale,
        unit=unit_of(measure),
        slice=part,
    )
    return _with_word(comparison)


def compare_slices(
    baseline: Sequence[ScoredCase] | Sheet,
    candidate: Sequence[ScoredCase] | Sheet,
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    correction: Correction | None = "holm",
) -> list[Comparison]:
    """Return one comparison for each slice, by name, with p-values corrected over the slices."""
    left, right = make_sheet(baseline), make_sheet(candidate)
    made = [
        compare(left, right, measure, name=name, level=level, rng=rng, figure=figure, part=part)
        for part in sorted({*left.parts, *right.parts})
    ]
    return correct(made, correction=correction) if correction else made


def correct(comparisons: Sequence[Comparison], *, correction: Correction = "holm") -> list[Comparison]:
    """Return the comparisons as one family that was looked at: adjusted p-values, and words that hold with them."""
    adjusted = adjust([comparison.p_value for comparison in comparisons], correction)
    return [
        _with_word(msgspec.structs.replace(comparison, p_adjusted=p, correction=correction))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def difference_maker(
    baseline: Sequence[ScoredCase],
    candidate: Sequence[ScoredCase],
    measure: Measure,
    *,
    factor: float = 1.0,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    n_resamples: int = 10_000,
    times: float = 1.0,
) -> IntervalAt:
    """Return what gives the interval of `compare` at any level.

    With a `factor` it is that of candidate − factor × baseline: whether a cost grew by more than a tenth is
    whether the mean of candidate − 1.1 × baseline is above 0. `times`: see `interval_maker`.
    """
    pairs = _pair(make_sheet(baseline), make_sheet(candidate), measure)
    return _interval_maker(
        pairs, measure, figure, rng or np.random.default_rng(SEED), n_resamples, factor=factor, times=times
    )


def threshold_p(at: IntervalAt, threshold: float) -> float | None:
    """Return the smallest 1 − level at which an interval still excludes `threshold`; None where there is no interval.

    For a two-sided interval this is the two-sided p-value of the figure being `threshold`; with a margin as
    the threshold, half of it is that of a test of non-inferiority. Below `SMALLEST_P` (of resampled intervals) or
    `SMALLEST_EXACT_P` (of others) all are alike.
    """
    middle = at(0.95)
    if middle.low is None or middle.value is None:
        return None
    is_resampled = middle.method.startswith("bootstrap") and "ABC" not in middle.method
    smallest = SMALLEST_P if is_resampled else SMALLEST_EXACT_P
    if at(1.0 - smallest).excludes(threshold):
        return smallest
    tight, loose = math.log(smallest), 0.0
    for _ in range(30):
        between = 0.5 * (tight + loose)
        if at(max(1e-12, 1.0 - math.exp(between))).excludes(threshold):
            loose = between
        else:
            tight = between
    return math.exp(loose)


def detectable_of(
    sample: Sample, differences: FloatArray, *, level: float, power: float = 0.8
) -> float | None:
    """Return the smallest true difference that pairs as many and as different as these would show."""
    error = standard_error(differences, sample) if len(differences) else None
    if not error:
        return None
    return (t_quantile(0.5 + level / 2.0, sample.n_clusters - 1) + normal_quantile(power)) * error


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Both sides over the same cases in the same order; clusters are those of the candidate's sample."""

    baseline: Sample
    candidate: Sample
    n_only_baseline: int
    n_only_candidate: int

    @property
    def n(self) -> int:
        return self.candidate.n

    @property
    def differences(self) -> FloatArray:
        return self.candidate.values - self.baseline.values

    def are_shares(self, measure: Measure) -> bool:
        """Whether McNemar's test fits: yes or no, once each, every case alone."""
        return (
            is_share(self.baseline, measure)
            and is_share(self.candidate, measure)
            and self.baseline.is_single
            and self.candidate.is_single
            and not self.candidate.is_grouped
        )


@dataclass(frozen=True, kw_only=True)
class _Test:
    baseline: float | None
    candidate: float | None
    p_value: float | None
    method: str
    at: IntervalAt


def _pair(baseline: Sheet, candidate: Sheet, measure: Measure) -> _Pairs:
    left, right, n_only_baseline, n_only_candidate = pair_sheets(
        baseline.units(measure), candidate.units(measure)
    )
    return _Pairs(
        baseline=left.sample(),
        candidate=right.sample(),
        n_only_baseline=n_only_baseline,
        n_only_candidate=n_only_candidate,
    )


def _make_test(
    pairs: _Pairs, measure: Measure, figure: Figure | None, rng: np.random.Generator, n_resamples: int
) -> _Test:
    at = _interval_maker(pairs, measure, figure, rng, n_resamples)
    if not pairs.n:
        return _Test(baseline=None, candidate=None, p_value=None, method="", at=at)
    if figure is not None:
        return _figure_test(pairs, figure, rng, n_resamples, at)
    means = (float(pairs.baseline.values.mean()), float(pairs.candidate.values.mean()))
    p_value: float | None
    if pairs.candidate.n_clusters < 2:
        p_value, method = None, ""
    elif pairs.are_shares(measure):
        gained, lost = int(np.sum(pairs.differences > 0)), int(np.sum(pairs.differences < 0))
        p_value, method = mcnemar(gained, lost), "McNemar, exact"
    else:
        sums = pairs.candidate.by_cluster(_without_noise(pairs.differences, pairs.candidate.values))
        p_value, method = flip_signs(sums, rng, n_resamples)
    return _Test(baseline=means[0], candidate=means[1], p_value=p_value, method=method, at=at)


def _without_noise(differences: FloatArray, values: FloatArray) -> FloatArray:
    """Differences that are only rounding (0.1 + 0.2 beside 0.3) are ties."""
    noise = 1e-12 * max(1.0, float(np.abs(values).max()))
    return np.where(np.abs(differences) <= noise, 0.0, differences)


def _figure_test(
    pairs: _Pairs, figure: Figure, rng: np.random.Generator, n_resamples: int, at: IntervalAt
) -> _Test:
    sides = _sums_of(pairs)
    if sides is None:
        return _Test(baseline=None, candidate=None, p_value=None, method="", at=at)
    totals = [figure.reduce(side.sum(axis=0)[None, :])[0] for side in sides]
    values = [float(total) if math.isfinite(total) else None for total in totals]
    can_swap = None not in values and pairs.candidate.n_clusters > 1
    found = swap_sides(*sides, figure.reduce, rng, n_resamples) if can_swap else None
    p_value, method = (None, "") if found is None else found
    return _Test(baseline=values[0], candidate=values[1], p_value=p_value, method=method, at=at)


def _sums_of(pairs: _Pairs) -> tuple[FloatArray, FloatArray] | None:
    """Summed statistics of each cluster of both sides, of one width; None where any are missing."""
    if pairs.baseline.sums is None or pairs.candidate.sums is None:
        return None
    width = max(pairs.baseline.sums.shape[1], pairs.candidate.sums.shape[1])
    sides = [
        pairs.candidate.by_cluster(np.pad(sums, ((0, 0), (0, width - sums.shape[1]))))
        for sums in (pairs.baseline.sums, pairs.candidate.sums)
    ]
    return sides[0], sides[1]


def _interval_maker(
    pairs: _Pairs,
    measure: Measure,
    figure: Figure | None,
    rng: np.random.Generator,
    n_resamples: int,
    *,
    factor: float = 1.0,
    times: float = 1.0,
) -> IntervalAt:
    sample = pairs.candidate
    if not pairs.n:
        return lambda level: Interval(value=None, low=None, high=None, level=level, method=_NO_PAIR)
    if figure is not None:
        return _figure_interval(pairs, figure, rng, n_resamples, factor)
    differences = pairs.candidate.values - factor * pairs.baseline.values
    bounds = bounds_of(measure)
    if bounds is not None and not (
        is_within(sample.values, bounds) and is_within(pairs.baseline.values, bounds)
    ):
        bounds = None
    reach = _reach(bounds, factor) if bounds else None
    if factor == 1.0 and pairs.are_shares(measure):
        return lambda level: _share_interval(pairs, level, times)
    return lambda level: mean_difference(differences, sample, level, reach=reach, times=times)


def _reach(bounds: tuple[float, float], factor: float) -> tuple[float, float]:
    """Between what candidate − factor × baseline lies: for scores from 1 to 5 and 0.9, between −3.5 and 4.1."""
    ends = (factor * bounds[0], factor * bounds[1])
    return bounds[0] - max(ends), bounds[1] - min(ends)


def _share_interval(pairs: _Pairs, level: float, times: float) -> Interval:
    none = no_interval(pairs.candidate, float(pairs.differences.mean()), level)
    if none is not None:
        return none
    left, right = pairs.baseline.values > 0.5, pairs.candidate.values > 0.5
    counts = (
        int(np.sum(left & right)),
        int(np.sum(right & ~left)),
        int(np.sum(left & ~right)),
        int(np.sum(~left & ~right)),
    )
    both, gained, lost, neither = (times * count for count in counts)
    low, high = paired_shares(both, gained, lost, neither, level)
    return Interval(
        value=(counts[1] - counts[2]) / pairs.n,
        low=low,
        high=high,
        level=level,
        method="Newcombe's interval for paired shares",
        n=pairs.n,
        n_groups=pairs.candidate.n_groups,
    )


def _figure_interval(
    pairs: _Pairs, figure: Figure, rng: np.random.Generator, n_resamples: int, factor: float
) -> IntervalAt:
    sides = _sums_of(pairs)
    resampled: Bootstrap | None = None
    if sides is not None:
        width = sides[0].shape[1]

        def reduce(both: FloatArray) -> FloatArray:
            return figure.reduce(both[..., width:]) - factor * figure.reduce(both[..., :width])

        resampled = bootstrap(np.concatenate(sides, axis=1), reduce, rng, n_resamples)

    def at(level: float) -> Interval:
        value = None if resampled is None else resampled.value
        bounds = None if resampled is None else resampled.interval(level)
        method = "" if resampled is None else resampled.method(is_grouped=pairs.candidate.is_grouped)
        if resampled is None:
            method = "the figure is undefined for these cases"
        elif pairs.candidate.n_clusters < 2:
            bounds, method = None, "none: all cases are in one group"
        elif bounds is None:
            method = "none: the figure is undefined in too many resamples"
        elif bounds[0] == bounds[1]:
            bounds, method = None, "none: all resamples are the same"
        return Interval(
            value=value,
            low=None if bounds is None else bounds[0],
            high=None if bounds is None else bounds[1],
            level=level,
            method=method,
            n=pairs.n,
            n_groups=pairs.candidate.n_groups,
        )

    return at


def _with_word(comparison: Comparison) -> Comparison:
    word, reason = _judge(comparison)
    return msgspec.structs.replace(comparison, word=word, reason=reason)


def _judge(comparison: Comparison) -> tuple[ComparisonWord, str]:
    if not comparison.n_pairs:
        return "invalid", _NO_PAIR
    if comparison.difference is None:
        return "invalid", comparison.method
    p = comparison.p_value if comparison.p_adjusted is None else comparison.p_adjusted
    if comparison.low is None or comparison.high is None or p is None:
        return "undecided", f"no interval: {comparison.method}"
    if comparison.low <= 0.0 <= comparison.high:
        return "undecided", "the interval holds 0"
    if p > 1.0 - comparison.level + 1e-12:
        looks = f" after correction ({comparison.correction})" if comparison.correction else ""
        return "undecided", f"p = {p:.2g}{looks}"
    if comparison.direction == "none":
        return "undecided", "it differs, but neither way is the better one"
    is_higher = comparison.low > 0.0
    return ("better" if is_higher == (comparison.direction == "higher") else "worse"), f"p = {p:.2g}"
