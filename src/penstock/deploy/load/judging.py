"""Holds limits against what was measured: pass, fail, or undecided where the interval reaches over the limit. Pure.

A failed call is slower than any bound: a target that answers the quick calls and fails the others does not pass. A test whose
sender could not keep its own plan is invalid, whatever it measured.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from penstock.deploy.load.figures import Alone, gap_quantile, values_of
from penstock.deploy.load.intervals import quantile_estimate, series_mean_estimate, share_estimate
from penstock.deploy.load.limits import Limit
from penstock.deploy.load.types import (
    Estimate,
    Figures,
    LimitResult,
    Ratio,
    Sample,
    Sending,
    Verdict,
    VerdictWord,
)

MIN_ALLOWED_LATE_MS = 10.0
_ORDER: tuple[VerdictWord, ...] = ("invalid", "fail", "undecided", "unjudged", "pass")
_WORDS = {"<=": "at most", "<": "below", ">=": "at least", ">": "over"}
_NAMES = {
    "ttft": "time to first token",
    "e2e": "time to the end",
    "ttft_sent": "time to first token after sending",
    "e2e_sent": "time to the end after sending",
    "itl": "time between tokens",
    "tpot": "time per output token",
    "queueing": "waiting",
    "overhead": "the gateway's own time",
    "goodput": "good calls",
    "errors": "failed calls",
    "requests_per_s": "requests",
    "completion_tokens_per_s": "completion tokens",
    "prompt_tokens_per_s": "prompt tokens",
    "goodput_per_s": "good requests",
}


def judge_limits(
    label: str,
    limits: Sequence[Limit],
    samples: Sequence[Sample],
    figures: Figures,
    *,
    alone: Alone,
    level: float,
    ratios: Mapping[str, Ratio] | None = None,
) -> Verdict:
    """Return each limit with its verdict, and one over all: the worst of them."""
    results = tuple(
        _judge_ratio(
            limit, (ratios or {}).get(f"{limit.measure}.{limit.statistic}".rstrip(".")), samples, level
        )
        if limit.is_ratio
        else _judge(limit, samples, figures, alone, level)
        for limit in limits
        if not limit.is_of_single_calls
    )
    return gather(label, results)


def gather(label: str, results: Sequence[LimitResult]) -> Verdict:
    """Return the verdict over some limits, with the sentences of those that decide it."""
    if not results:
        return Verdict(word="unjudged", sentence=f"{label}: no limit was stated, so nothing was judged.")
    word = min((result.verdict for result in results), key=_ORDER.index)
    deciding = [result for result in results if result.verdict == word]
    sentence = f"{label}: {'; '.join(result.sentence for result in deciding)}: {word}."
    return Verdict(word=word, sentence=sentence, limits=tuple(results))


def judge_sending(
    samples: Sequence[Sample],
    lags_s: Sequence[float],
    *,
    every_s: float,
    allowed_ms: float | None,
    is_open: bool,
) -> Sending:
    """Return how late the sender was, and whether its figures can be used.

    `lags_s` are of looks that were due `every_s` after one another. While the sender stalls it does not look either: each look
    that it missed counts as well, so that a stall weighs as much as it lasted.
    """
    late = sorted(sample.late_s * 1000 for sample in samples)
    whole = sorted((sample.ended_s - sample.sent_s) * 1000 for sample in samples if not sample.error)
    allowed = allowed_ms
    if allowed is None:
        allowed = max(MIN_ALLOWED_LATE_MS, whole[len(whole) // 2] / 10 if whole else 0.0)
    p99 = _top(late)
    lag = _top(sorted(1000 * missed for each in lags_s for missed in _with_missed(each, every_s)))
    worst = max(p99 or 0.0 if is_open else 0.0, lag or 0.0)
    is_usable = worst <= allowed
    sentence = (
        f"The sender kept its plan: 99 % of calls left within {p99 or 0:.1f} ms of their moment, and its own clockwork "
        f"was at most {lag or 0:.1f} ms late 99 % of the time ({allowed:.0f} ms are allowed)."
        if is_usable
        else f"The sender could not keep its plan: it was {worst:.0f} ms late (99th percentile), {allowed:.0f} ms are allowed. "
        f"What it measured is of this machine, not of the target. {_advise_sender(is_open=is_open, is_stalled=(lag or 0.0) > allowed)}"
    )
    return Sending(
        late_p99_ms=p99,
        late_max_ms=late[-1] if late else None,
        allowed_ms=allowed,
        loop_lag_p99_ms=lag,
        worst_ms=worst,
        is_usable=is_usable,
        sentence=sentence,
    )


def measure_estimate(
    limit: Limit, samples: Sequence[Sample], figures: Figures, alone: Alone, level: float
) -> Estimate | None:
    """Return what a limit is held against, failed calls counted as endless."""
    if limit.measure in {"goodput", "goodput_per_s", "requests_per_s", "completion_tokens_per_s"}:
        found: Estimate | None = getattr(figures, limit.measure)
        return found
    if limit.measure == "prompt_tokens_per_s":
        rate = figures.prompt_tokens_per_s
        return None if rate is None else Estimate(value=rate, n=figures.n)
    if limit.measure == "errors":
        return share_estimate([bool(sample.error) for sample in samples], level=level)
    if limit.measure == "itl":
        return _gap_estimate(limit, samples, level)
    values = values_of(limit.measure, samples, alone, failed_as=math.inf)
    if not any(math.isfinite(value) for value in values):
        return None
    if limit.statistic == "mean":
        if math.inf in values:
            return Estimate(value=None, n=len(values))
        return series_mean_estimate(values, level=level)
    if limit.statistic == "max":
        return Estimate(value=_finite(max(values)), low=_finite(max(values)), n=len(values))
    return quantile_estimate(values, float(limit.statistic[1:]) / 100, level=level)


def tell_value(value: float | None, unit: str) -> str:
    """Return a figure with its unit as a person reads it."""
    if value is None:
        return "unknown"
    if unit == "ms":
        return (
            f"{value / 1000:.2f} s"
            if value >= 10_000
            else f"{value:.0f} ms"
            if value >= 100
            else f"{value:.1f} ms"
        )
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "/s":
        return f"{value:.3g}/s"
    return f"{value:.2f}×" if unit == "x" else f"{value:g}"


def _judge(
    limit: Limit, samples: Sequence[Sample], figures: Figures, alone: Alone, level: float
) -> LimitResult:
    estimate = measure_estimate(limit, samples, figures, alone, level)
    name = _NAMES[limit.measure]
    what = f"{limit.statistic} of {name}" if limit.statistic else name
    bound = f"{_WORDS[limit.operator]} {tell_value(limit.bound, limit.unit)}"
    n_failed = sum(bool(sample.error) for sample in samples)
    if estimate is None:
        all_failed = samples and n_failed == len(samples)
        sentence = f"{what} is unknown ({'every call failed' if all_failed else 'no call shows it'})"
        word: VerdictWord = "fail" if all_failed else "undecided"
        return LimitResult(limit=limit.text, verdict=word, value=None, unit=limit.unit, sentence=sentence)
    if estimate.value is None:  # the quantile lies among calls that failed
        share = n_failed / len(samples)
        word = "fail" if estimate.low is None or not limit.holds(estimate.low) else "undecided"
        sentence = f"{what} cannot be {bound}: {100 * share:.1f} % of the calls failed"
        return LimitResult(
            limit=limit.text,
            verdict=word,
            value=None,
            low=estimate.low,
            unit=limit.unit,
            n=estimate.n,
            sentence=sentence,
        )
    word = _decide(limit, estimate)
    interval = tell_interval(estimate, limit.unit, level)
    sentence = f"{what} {tell_value(estimate.value, limit.unit)}{interval}, {bound} wanted"
    return LimitResult(
        limit=limit.text,
        verdict=word,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        unit=limit.unit,
        n=estimate.n,
        sentence=sentence,
        next=_advise(limit, estimate, len(samples)) if word == "undecided" else "",
    )


def tell_interval(estimate: Estimate, unit: str, level: float) -> str:
    """Return ` (95 % interval a to b)` as far as it is known."""
    if estimate.low is None and estimate.high is None:
        return " (too few calls for an interval)"
    low = "below what was seen" if estimate.low is None else tell_value(estimate.low, unit)
    high = "beyond what was seen" if estimate.high is None else tell_value(estimate.high, unit)
    return f" ({100 * level:g} % interval {low} to {high})"


def _decide(limit: Limit, estimate: Estimate) -> VerdictWord:
    worse, better = (estimate.high, estimate.low) if limit.is_upper else (estimate.low, estimate.high)
    if worse is not None and limit.holds(worse):
        return "pass"
    if better is not None and not limit.holds(better):
        return "fail"
    if limit.statistic == "max" and estimate.value is not None and limit.holds(estimate.value):
        return "pass"
    return "undecided"


def _advise(limit: Limit, estimate: Estimate, n: int) -> str:
    if limit.statistic.startswith("p") and estimate.high is None and limit.is_upper:
        tail = 1 - float(limit.statistic[1:]) / 100
        if tail <= 0:
            return "No number of calls bounds the 100th percentile."
        needed = math.ceil(math.log(0.025) / math.log(1 - tail))
        if n >= needed:
            needed = 4 * n
        return f"So few calls have no upper bound for {limit.statistic}: take at least {needed} (--requests {needed})."
    return f"The interval reaches over the limit: {4 * n} calls halve it (--requests {4 * n})."


def _judge_ratio(limit: Limit, ratio: Ratio | None, samples: Sequence[Sample], level: float) -> LimitResult:
    """Judge a limit on how many times slower the target is whose calls are `samples`."""
    failed = [bool(sample.error) for sample in samples]
    if any(failed) and limit.is_upper and (all(failed) or (ratio is not None and ratio.n_endless)):
        # nothing that failed may be left out: a target could pass by failing its slow calls
        told = share_estimate(failed, level=level)
        assert told is not None
        share = 1 - float(limit.statistic[1:]) / 100 if limit.statistic.startswith("p") else 0.0
        sure = told.low is not None and told.low > share
        rest = "" if ratio is None else f" ({ratio.sentence})"
        return LimitResult(
            limit=limit.text,
            verdict="fail" if sure or all(failed) else "undecided",
            value=None,
            unit="x",
            n=0 if ratio is None else ratio.n_pairs,
            sentence=f"{limit.text} is not shown: {100 * (told.value or 0.0):.1f} % of the calls failed{rest}",
        )
    if ratio is None or ratio.n_endless:
        return LimitResult(
            limit=limit.text,
            verdict="undecided",
            value=None,
            unit="x",
            sentence=f"{limit.text}: there is nothing to compare with"
            + ("" if ratio is None else f" ({ratio.sentence})"),
        )
    estimate = Estimate(value=ratio.value, low=ratio.low, high=ratio.high, n=ratio.n_pairs)
    word = _decide(limit, estimate)
    return LimitResult(
        limit=limit.text,
        verdict=word,
        value=ratio.value,
        low=ratio.low,
        high=ratio.high,
        unit="x",
        n=ratio.n_pairs,
        sentence=f"{ratio.sentence}, {_WORDS[limit.operator]} {limit.bound:g}× wanted",
        next="Take more pairs of blocks (--pairs)." if word == "undecided" else "",
    )


def _gap_estimate(limit: Limit, samples: Sequence[Sample], level: float) -> Estimate | None:
    n_failed = sum(bool(sample.error) for sample in samples)
    if (
        n_failed
        and any(each.gaps for each in samples if not each.error)
        and limit.statistic in {"max", "mean"}
    ):
        return Estimate(value=None, n=len(samples))
    if limit.statistic == "max":
        longest = [each.longest_gap_ms for each in samples if each.longest_gap_ms is not None]
        return Estimate(value=max(longest), low=max(longest), n=len(longest)) if longest else None
    if limit.statistic == "mean":
        means = [
            (each.ended_s - each.first_s) * 1000 / (each.n_pieces - 1)
            for each in samples
            if not each.error and each.first_s is not None and each.n_pieces > 1
        ]
        return series_mean_estimate(means, level=level)
    return gap_quantile(samples, float(limit.statistic[1:]) / 100, level, is_failed_endless=True)


def _advise_sender(*, is_open: bool, is_stalled: bool) -> str:
    """What helps a sender that is late; a lower rate only one that is late with its calls alone."""
    rate = "" if is_stalled or not is_open else "Take a lower rate, or send"
    return (
        f"{rate or 'Send'} when this machine has less to do, or from another; where the limits are far above that lateness, allow more "
        "(--max-late-ms, max_late_ms)."
    )


def _with_missed(lag_s: float, every_s: float) -> Iterator[float]:
    """The lag of a look, and of those that were due while it was late."""
    yield lag_s
    for number in range(1, math.ceil(lag_s / every_s)):
        yield lag_s - number * every_s


def _top(ordered: Sequence[float]) -> float | None:
    return ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)] if ordered else None


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
