"""Whether verdicts can be trusted: false alarms of a target compared with itself, and coverage of intervals.

Each scenario draws scores of two evaluations of the same target (so that nothing differs) and asks for a comparison;
`better` or `worse` is a false alarm, of which a level of 95 % allows 5 % at most. The other table draws scores whose true mean is
known and counts how often the 95 % interval holds it. `within` says whether a share is what the level promises but for
the chance of so few simulations (three standard errors). A naive reading (unpaired, no groups) stands beside it.

    python bench/aa.py [--runs 1000] [--record]
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from penstock.evals.statistics.comparisons import compare, correct
from penstock.evals.statistics.correction import ppi_mean, rogan_gladen
from penstock.evals.statistics.estimates import estimate
from penstock.evals.statistics.quantiles import quantile
from penstock.evals.statistics.sequential import ConfidenceSequence, StoppingRule
from penstock.evals.statistics.types import Figure, FloatArray, PlainMeasure, ScoredCase

LEVEL = 0.95
BINARY = PlainMeasure(name="exact", scale="binary")
BOUNDED = PlainMeasure(name="token_f1")
UNBOUNDED = PlainMeasure(name="latency_ms", direction="lower", scale="unbounded", low=0.0, high=None)
Rng = np.random.Generator
Pair = tuple[list[ScoredCase], list[ScoredCase]]


class Ratio:
    """A figure that is no mean of values: a sum divided by another, as precision and BLEU are."""

    def reduce(self, sums: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def make_cases(values: FloatArray, groups: FloatArray | None = None) -> list[ScoredCase]:
    """Return one case a row of `values` ([n] or [n, repeats])."""
    rows = values.reshape(len(values), -1)
    return [
        ScoredCase(
            case_id=str(position),
            group=None if groups is None else str(int(groups[position])),
            values=[float(value) for value in row],
        )
        for position, row in enumerate(rows)
    ]


def draw_binary(rng: Rng, n: int, *, ease: float = 0.5) -> Pair:
    """Two runs of one target on cases of different difficulty."""
    chance = rng.beta(4 * ease, 4 * (1 - ease), n)
    return make_cases(rng.binomial(1, chance)), make_cases(rng.binomial(1, chance))


def draw_bounded(rng: Rng, n: int) -> Pair:
    """Skewed scores with many at 1, as token F1 has them."""
    base = rng.beta(0.8, 0.4, n)

    def run() -> FloatArray:
        noisy = np.clip(base + rng.normal(0, 0.15, n), 0, 1)
        return np.where(rng.random(n) < 0.2, rng.beta(0.5, 0.5, n), noisy)

    return make_cases(run()), make_cases(run())


def draw_groups(rng: Rng, n_groups: int, *, binary: bool = False, extra: float = 0.2) -> Pair:
    """Groups of uneven size whose cases go up and down together, differently in each run."""
    sizes = rng.integers(1, 16, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    base = rng.beta(2, 2, n_groups)[groups]

    def run() -> FloatArray:
        level = np.clip(base + rng.normal(0, extra, n_groups)[groups], 0, 1)
        return (
            rng.binomial(1, level).astype(float)
            if binary
            else np.clip(level + rng.normal(0, 0.1, len(groups)), 0, 1)
        )

    return make_cases(run(), groups), make_cases(run(), groups)


def draw_ties(rng: Rng, n: int) -> Pair:
    """Nearly everything alike: one case in fifty changes."""
    base = rng.beta(2, 2, n)

    def run() -> FloatArray:
        return np.where(rng.random(n) < 0.02, rng.beta(2, 2, n), base)

    return make_cases(run()), make_cases(run())


def draw_repeats(rng: Rng, n: int, repeats: int) -> Pair:
    """Several tries at each case."""
    chance = rng.beta(2, 1, n)[:, None]
    return make_cases(rng.binomial(1, chance, (n, repeats))), make_cases(
        rng.binomial(1, chance, (n, repeats))
    )


def draw_latency(rng: Rng, n: int) -> Pair:
    """Long right tails."""
    base = rng.lognormal(6, 0.5, n)
    return make_cases(base * rng.lognormal(0, 0.8, n)), make_cases(base * rng.lognormal(0, 0.8, n))


def draw_figure(rng: Rng, n: int) -> Pair:
    """A ratio of sums over cases of very different size."""
    sizes = rng.geometric(0.1, n)
    ease = rng.beta(3, 2, n)

    def run() -> list[ScoredCase]:
        hits = rng.binomial(sizes, ease)
        return [
            ScoredCase(case_id=str(i), values=[float(hit / size)], statistics=[[float(hit), float(size)]])
            for i, (hit, size) in enumerate(zip(hits, sizes, strict=True))
        ]

    return run(), run()


def is_alarm(rng: Rng, pair: Pair, measure: PlainMeasure, figure: Figure | None = None) -> bool:
    """Whether one comparison of the same with the same calls it different."""
    comparison = compare(*pair, measure, rng=rng, figure=figure, n_resamples=1_000)
    return comparison.word in {"better", "worse"}


def is_family_alarm(rng: Rng) -> bool:
    """Whether any of eight slices, corrected together, is called different."""
    made = [compare(*draw_bounded(rng, 60), BOUNDED, rng=rng, n_resamples=1_000) for _ in range(8)]
    return any(comparison.word in {"better", "worse"} for comparison in correct(made, correction="holm"))


def is_sequential_alarm(rng: Rng) -> bool:
    """Whether looking after each of 500 pairs ever calls it different."""
    left, right = draw_bounded(rng, 500)
    rule = StoppingRule(threshold=0.0, low=-1.0, high=1.0, level=LEVEL)
    return rule.update([b.values[0] - a.values[0] for a, b in zip(left, right, strict=True)]) is not None


def is_peeking_alarm(rng: Rng) -> bool:
    """What looking after every 25 of 500 pairs does to the comparison for one look: the reason for the rule above."""
    left, right = draw_bounded(rng, 500)
    differences = np.array([b.values[0] - a.values[0] for a, b in zip(left, right, strict=True)])
    for n in range(25, 501, 25):
        part = differences[:n]
        if abs(part.mean()) > 1.96 * part.std(ddof=1) / math.sqrt(n):
            return True
    return False


def is_naive_alarm(rng: Rng) -> bool:
    """Two intervals compared without pairs and groups, as most tools do."""
    left, right = draw_groups(rng, 20)
    a, b = (np.array([case.values[0] for case in side]) for side in (left, right))
    error = math.hypot(a.std(ddof=1) / math.sqrt(len(a)), b.std(ddof=1) / math.sqrt(len(b)))
    return abs(float(b.mean() - a.mean())) > 1.96 * error


ALARMS: dict[str, Callable[[Rng], bool]] = {
    "binary, 30 cases": lambda rng: is_alarm(rng, draw_binary(rng, 30), BINARY),
    "binary, 200 cases": lambda rng: is_alarm(rng, draw_binary(rng, 200), BINARY),
    "binary, 200 easy cases": lambda rng: is_alarm(rng, draw_binary(rng, 200, ease=0.95), BINARY),
    "bounded and skewed, 20 cases": lambda rng: is_alarm(rng, draw_bounded(rng, 20), BOUNDED),
    "bounded and skewed, 200 cases": lambda rng: is_alarm(rng, draw_bounded(rng, 200), BOUNDED),
    "6 groups": lambda rng: is_alarm(rng, draw_groups(rng, 6), BOUNDED),
    "20 groups": lambda rng: is_alarm(rng, draw_groups(rng, 20), BOUNDED),
    "20 groups, binary": lambda rng: is_alarm(rng, draw_groups(rng, 20, binary=True), BINARY),
    "ties in 96 % of 200 cases": lambda rng: is_alarm(rng, draw_ties(rng, 200), BOUNDED),
    "60 cases, 5 repeats": lambda rng: is_alarm(rng, draw_repeats(rng, 60, 5), BINARY),
    "latency, 100 cases": lambda rng: is_alarm(rng, draw_latency(rng, 100), UNBOUNDED),
    "ratio figure, 100 cases": lambda rng: is_alarm(rng, draw_figure(rng, 100), BOUNDED, Ratio()),
    "8 slices of 60 cases, Holm": is_family_alarm,
    "looking after each of 500 pairs": is_sequential_alarm,
}
NAIVE: dict[str, Callable[[Rng], bool]] = {
    "naive: 20 groups, no pairs, no groups": is_naive_alarm,
    "naive: t test at 20 looks": is_peeking_alarm,
}


def _holds(low: float | None, high: float | None, truth: float) -> bool | None:
    return None if low is None or high is None else low <= truth <= high


def covers_share(rng: Rng, n: int, p: float) -> bool | None:
    made = estimate(make_cases(rng.binomial(1, p, n)), BINARY, level=LEVEL)
    return _holds(made.low, made.high, p)


def covers_bounded(rng: Rng, n: int, a: float, b: float) -> bool | None:
    made = estimate(make_cases(rng.beta(a, b, n)), BOUNDED, level=LEVEL)
    return _holds(made.low, made.high, a / (a + b))


def covers_groups(rng: Rng, n_groups: int, *, binary: bool) -> bool | None:
    groups = np.repeat(np.arange(n_groups), 8)
    level = rng.beta(3, 1.5, n_groups)[groups]
    values = (
        rng.binomial(1, level).astype(float)
        if binary
        else np.clip(level + rng.uniform(-0.0, 0.0, len(groups)), 0, 1)
    )
    made = estimate(make_cases(values, groups), BINARY if binary else BOUNDED, level=LEVEL)
    return _holds(made.low, made.high, 2 / 3)


def draw_rare(rng: Rng, share: float, correlation: float) -> tuple[FloatArray, FloatArray]:
    """16 groups of 6 of which something rare befalls a share, in some groups far more than in others."""
    strength = 1.0 / correlation - 1.0
    chance = rng.beta(share * strength, (1.0 - share) * strength, 16)
    groups = np.repeat(np.arange(16), 6)
    return rng.binomial(1, chance[groups]).astype(float), groups


def covers_rare(rng: Rng, share: float, correlation: float) -> bool | None:
    """Scores that are nearly all alike, and often all of them."""
    values, groups = draw_rare(rng, share, correlation)
    made = estimate(make_cases(1.0 - values, groups), BINARY, level=LEVEL)
    return _holds(made.low, made.high, 1.0 - share)


def covers_lost(rng: Rng, share: float, correlation: float) -> bool | None:
    """Paired differences that are nearly all 0, and often all of them: a share of the cases is lost."""
    values, groups = draw_rare(rng, share, correlation)
    made = compare(make_cases(np.ones(96), groups), make_cases(1.0 - values, groups), BOUNDED, level=LEVEL)
    return _holds(made.low, made.high, -share)


def covers_difference(rng: Rng, n: int) -> bool | None:
    """Paired shares, true difference 0.06."""
    cells = rng.choice(4, n, p=(0.6, 0.13, 0.07, 0.2))
    right, left = np.isin(cells, (0, 1)).astype(float), np.isin(cells, (0, 2)).astype(float)
    made = compare(make_cases(left), make_cases(right), BINARY, level=LEVEL)
    return _holds(made.low, made.high, 0.06)


def covers_figure(rng: Rng, n: int) -> bool | None:
    """The ratio's true value, from the means that the draw has."""
    made = estimate(draw_figure(rng, n)[0], BOUNDED, figure=Ratio(), rng=rng, n_resamples=1_000)
    return _holds(made.low, made.high, 0.6)


def covers_repeats(rng: Rng, n: int) -> bool | None:
    chance = rng.beta(2, 1, n)[:, None]
    made = estimate(make_cases(rng.binomial(1, chance, (n, 5))), BINARY, level=LEVEL)
    return _holds(made.low, made.high, 2 / 3)


def covers_quantile(rng: Rng, n: int) -> bool | None:
    made = quantile(make_cases(rng.lognormal(6, 1, n)), 0.95, level=LEVEL)
    return _holds(made.low, made.high, math.exp(6 + 1.6448536269514722))


def covers_sequence(rng: Rng) -> bool | None:
    """At every look of 300."""
    values = rng.beta(2, 1, 300)
    sequence = ConfidenceSequence(level=LEVEL)
    sequence.update(float(value) for value in values)
    made = sequence.interval()
    return _holds(made.low, made.high, 2 / 3)


def covers_corrected(rng: Rng, share: float = 0.8) -> bool | None:
    """Rogan-Gladen with a judge of sensitivity 0.9 and specificity 0.85, 100 + 100 labels."""
    made = rogan_gladen(
        n_judged=1000,
        n_judged_positive=int(rng.binomial(1000, share * 0.9 + (1 - share) * 0.15)),
        n_positive=100,
        n_true_positive=int(rng.binomial(100, 0.9)),
        n_negative=100,
        n_true_negative=int(rng.binomial(100, 0.85)),
        level=LEVEL,
    )
    return _holds(made.low, made.high, share)


def covers_ppi(rng: Rng, n_labels: int) -> bool | None:
    truth = rng.beta(2, 1, n_labels + 1000)
    judged = np.clip(0.7 * truth + rng.normal(0.2, 0.1, len(truth)), 0, 1)
    made = ppi_mean(list(truth[:n_labels]), list(judged[:n_labels]), list(judged[n_labels:]), level=LEVEL)
    return _holds(made.low, made.high, 2 / 3)


COVERAGE: dict[str, Callable[[Rng], bool | None]] = {
    "share 0.8, 50 cases (Wilson)": lambda rng: covers_share(rng, 50, 0.8),
    "share 0.97, 100 cases (Wilson)": lambda rng: covers_share(rng, 100, 0.97),
    "mean of beta(2, 1), 30 cases": lambda rng: covers_bounded(rng, 30, 2, 1),
    "mean of beta(0.5, 0.2), 50 cases": lambda rng: covers_bounded(rng, 50, 0.5, 0.2),
    "mean of beta(5, 0.3), 100 cases": lambda rng: covers_bounded(rng, 100, 5, 0.3),
    "10 groups of 8, binary": lambda rng: covers_groups(rng, 10, binary=True),
    "30 groups of 8, binary": lambda rng: covers_groups(rng, 30, binary=True),
    "10 groups of 8, all alike within": lambda rng: covers_groups(rng, 10, binary=False),
    "16 groups of 6, share 0.97, correlation 0.2": lambda rng: covers_rare(rng, 0.03, 0.2),
    "16 groups of 6, share 0.97, correlation 0.5": lambda rng: covers_rare(rng, 0.03, 0.5),
    "16 groups of 6, share 0.93, correlation 0.5": lambda rng: covers_rare(rng, 0.07, 0.5),
    "16 groups of 6, 3 % lost, correlation 0.2": lambda rng: covers_lost(rng, 0.03, 0.2),
    "16 groups of 6, 7 % lost, correlation 0.5": lambda rng: covers_lost(rng, 0.07, 0.5),
    "40 cases, 5 repeats": lambda rng: covers_repeats(rng, 40),
    "difference of paired shares, 50": lambda rng: covers_difference(rng, 50),
    "difference of paired shares, 300": lambda rng: covers_difference(rng, 300),
    "ratio figure, 100 cases (BCa)": lambda rng: covers_figure(rng, 100),
    "p95 of latency, 200 cases": lambda rng: covers_quantile(rng, 200),
    "confidence sequence, 300 looks": covers_sequence,
    "Rogan-Gladen, 200 labels": covers_corrected,
    "Rogan-Gladen, share 0.97": lambda rng: covers_corrected(rng, 0.97),
    "PPI++, 50 labels": lambda rng: covers_ppi(rng, 50),
}


def slack(n_runs: int) -> float:
    """Three standard errors of a share of 5 % in so many simulations."""
    return 3.0 * math.sqrt(0.05 * 0.95 / max(1, n_runs))


def simulate_alarms(
    n_runs: int, *, seed: int = 1, only: dict[str, Callable[[Rng], bool]] | None = None
) -> list[dict[str, Any]]:
    """Return for each scenario the share of false alarms, and whether it is at most 5 % but for chance."""
    rows = []
    for position, (name, scenario) in enumerate((only or ALARMS).items()):
        rng = np.random.default_rng((seed, position))
        share = sum(scenario(rng) for _ in range(n_runs)) / n_runs
        rows.append({"scenario": name, "false_alarms": share, "within": share <= 0.05 + slack(n_runs)})
    return rows


def simulate_coverage(
    n_runs: int, *, seed: int = 1, only: dict[str, Callable[[Rng], bool | None]] | None = None
) -> list[dict[str, Any]]:
    """Return for each scenario the share of intervals that hold the truth, and whether it is 95 % but for chance.

    Intervals that hold it more often than promised are longer than need be, not wrong.
    """
    rows = []
    for position, (name, scenario) in enumerate((only or COVERAGE).items()):
        rng = np.random.default_rng((seed, 100 + position))
        made = [scenario(rng) for _ in range(n_runs)]
        known = [is_held for is_held in made if is_held is not None]
        share = sum(known) / len(known)
        rows.append(
            {
                "scenario": name,
                "coverage": share,
                "n": len(known),
                "within": share >= LEVEL - slack(len(known)),
            }
        )
    return rows


def main() -> None:
    """Print both tables, and append them to the results with `--record`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--record", action="store_true", help="append to bench/results/aa.jsonl")
    options = parser.parse_args()
    alarms = simulate_alarms(options.runs)
    print(f"False alarms of {options.runs} comparisons of a target with itself (95 % allows 5 %)")
    for row in alarms:
        print(
            f"  {row['scenario']:<40} {100 * row['false_alarms']:5.1f} %  {'' if row['within'] else 'TOO MANY'}"
        )
    naive = simulate_alarms(options.runs, only=NAIVE)
    for row in naive:
        print(f"  {row['scenario']:<40} {100 * row['false_alarms']:5.1f} %")
    coverage = simulate_coverage(options.runs)
    print("Share of 95 % intervals that hold the truth")
    for row in coverage:
        print(f"  {row['scenario']:<40} {100 * row['coverage']:5.1f} %  {'' if row['within'] else 'TOO FEW'}")
    if options.record:
        sys.path.insert(0, str(Path(__file__).parent))
        from record import record_result

        record_result(
            "aa",
            {"runs": options.runs, "alarms": alarms, "naive": naive, "coverage": coverage},
            packages=("numpy",),
        )
    if not all(row["within"] for row in (*alarms, *coverage)):
        sys.exit(1)


if __name__ == "__main__":
    main()
