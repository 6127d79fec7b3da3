"""One figure over many scores: the entry point that picks value, interval and method for a kind of score.

| scale | interval |
|---|---|
| binary, every case alone, one repeat | Wilson |
| binary or bounded otherwise | score interval whose variance is that of the groups, t with groups − 1 |
| unbounded | t interval clustered by group |
| a figure (BLEU, F1 …) | bootstrap over groups of the summed statistics, BCa; ABC where there are many |

What describes the service (errors, latency, cost, tokens: `counted_by` "case") has every case alone, whatever its group.
The surprise: a case with several repeats counts once, by its mean; more repeats make no more cases.
"""

from collections.abc import Sequence

import numpy as np

from penstock.evals.statistics.means import bounded_mean, no_interval, unbounded_mean
from penstock.evals.statistics.resampling import bootstrap
from penstock.evals.statistics.samples import Sample, make_sample, tell_method, units_of
from penstock.evals.statistics.sheets import Sheet, make_sheet
from penstock.evals.statistics.types import Figure, Interval, IntervalAt, Measure, ScoredCase, unit_of
from penstock.spec.evaluations import Estimate

SEED = 20_260_401
"""Of resampling where no generator is given: the same scores then give the same interval."""


def estimate(
    cases: Sequence[ScoredCase] | Sheet,
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    part: str | None = None,
    n_resamples: int = 10_000,
) -> Estimate:
    """Return the figure of all cases, or of those in `part` (a slice, `KEY=VALUE`), with its interval and coverage.

    `name` is what the score is called (the measure's own when None). `rng` is used by figures alone; None takes
    a fixed seed, so that the same scores give the same interval. `value` is None when nothing was scored.
    """
    check_level(level)
    given = make_sheet(cases).part(part)
    chosen = given.units(measure)
    sample = chosen.sample()
    interval = _maker(sample, measure, rng, figure, n_resamples)(level)
    n_undefined, n_errors, n_skipped = chosen.count_missing()
    shares = chosen.scored_shares()
    n_partial = int(np.sum((shares > 0.0) & (shares < 1.0)))
    worst, best = (None, None) if figure else _extremes(chosen, measure)
    return Estimate(
        name=name or measure.name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        level=level,
        method=tell_method(interval.method, measure, has_groups=given.has_groups),
        n=sample.n,
        n_cases=len(chosen.ids),
        n_groups=sample.n_groups,
        n_undefined=n_undefined,
        n_errors=n_errors,
        n_skipped=n_skipped,
        n_partial=n_partial,
        scored_share=float(shares.mean()) if n_partial else None,
        deviation=float(np.std(sample.values, ddof=1)) if sample.n > 1 else None,
        deviation_within=chosen.deviation_within(),
        worst=worst,
        best=best,
        direction=measure.direction,
        scale=measure.scale,
        unit=unit_of(measure),
        slice=part,
    )


def estimate_slices(
    cases: Sequence[ScoredCase] | Sheet,
    measure: Measure,
    *,
    name: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
) -> list[Estimate]:
    """Return one estimate for each slice that any case belongs to, by the slice's name."""
    sheet = make_sheet(cases)
    return [
        estimate(sheet, measure, name=name, level=level, rng=rng, figure=figure, part=part)
        for part in sorted(sheet.parts)
    ]


def interval_maker(
    cases: Sequence[ScoredCase],
    measure: Measure,
    *,
    rng: np.random.Generator | None = None,
    figure: Figure | None = None,
    n_resamples: int = 10_000,
    times: float = 1.0,
) -> IntervalAt:
    """Return what gives the interval of `estimate` at any level.

    With `times` it is that of so many times the cases and groups, for scores that do not vary: all further ones alike.
    """
    return _maker(make_sample(units_of(cases, measure)), measure, rng, figure, n_resamples, times=times)


def deviation_within(cases: Sequence[ScoredCase]) -> float | None:
    """Return the standard deviation between repeats of one case, pooled; None where no case has two scores."""
    return make_sheet(cases).deviation_within()


def check_level(level: float) -> None:
    """Raise `ValueError` for a level that is none, such as 95 for 0.95."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, such as 0.95; not {level}")


def bounds_of(measure: Measure) -> tuple[float, float] | None:
    """Return the bounds of a score, or None where it lacks one."""
    if measure.scale == "binary":
        return 0.0, 1.0
    if measure.scale == "bounded" and measure.low is not None and measure.high is not None:
        return (measure.low, measure.high) if measure.high > measure.low else None
    return None


def is_within(values: np.ndarray, bounds: tuple[float, float]) -> bool:
    """Return whether all values keep to the bounds, but for rounding."""
    slack = 1e-9 * (bounds[1] - bounds[0])
    return not len(values) or bool(values.min() >= bounds[0] - slack and values.max() <= bounds[1] + slack)


def is_share(sample: Sample, measure: Measure) -> bool:
    """Return whether the values are yes or no, as the measure says they are."""
    return measure.scale == "binary" and bool(np.all((sample.values == 0.0) | (sample.values == 1.0)))


def _maker(
    sample: Sample,
    measure: Measure,
    rng: np.random.Generator | None,
    figure: Figure | None,
    n_resamples: int,
    *,
    times: float = 1.0,
) -> IntervalAt:
    if figure is not None:
        return _figure_maker(sample, figure, rng, n_resamples)
    bounds = bounds_of(measure)
    # a score that leaves its own bounds has none: an interval cut at them would be wrong
    if bounds is None or not is_within(sample.values, bounds):
        return lambda level: unbounded_mean(sample.values, sample, level)
    return lambda level: bounded_mean(
        sample.values,
        sample,
        level,
        low=bounds[0],
        high=bounds[1],
        is_binary=is_share(sample, measure),
        times=times,
    )


def _figure_maker(
    sample: Sample, figure: Figure, rng: np.random.Generator | None, n_resamples: int
) -> IntervalAt:
    def fixed(value: float | None, method: str) -> IntervalAt:
        return lambda level: Interval(
            value=value,
            low=None,
            high=None,
            level=level,
            method=method,
            n=sample.n,
            n_groups=sample.n_groups,
        )

    if not sample.n:
        return fixed(None, "no case has a score")
    if sample.sums is None:
        return fixed(None, "none: some scores lack the statistics that the figure is made from")
    resampled = bootstrap(
        sample.by_cluster(sample.sums), figure.reduce, rng or np.random.default_rng(SEED), n_resamples
    )
    if resampled is None:
        return fixed(None, "the figure is undefined for these cases")

    def at(level: float) -> Interval:
        none = no_interval(sample, resampled.value, level)
        if none is not None:
            return none
        bounds = resampled.interval(level)
        if bounds is None:
            return fixed(resampled.value, "none: the figure is undefined in too many resamples")(level)
        if bounds[0] == bounds[1]:
            return fixed(resampled.value, "none: all resamples are the same")(level)
        return Interval(
            value=resampled.value,
            low=min(bounds[0], resampled.value),
            high=max(bounds[1], resampled.value),
            level=level,
            method=resampled.method(is_grouped=sample.is_grouped),
            n=sample.n,
            n_groups=sample.n_groups,
        )

    return at


def _extremes(cases: Sheet, measure: Measure) -> tuple[float | None, float | None]:
    bounds = bounds_of(measure)
    if bounds is None:
        return None, None
    low, high = (cases.mean_with(bound) for bound in bounds)
    return (high, low) if measure.direction == "lower" else (low, high)
