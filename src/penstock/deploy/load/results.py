"""Puts together what a load test found: figures by target, stage, class and version, effects, verdict. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.deploy.load.charts import draw_charts
from penstock.deploy.load.comparing import compare_targets
from penstock.deploy.load.effects import fit_length_effect
from penstock.deploy.load.figures import Prices, compute_figures
from penstock.deploy.load.generator import LAG_EVERY_S, StageRun
from penstock.deploy.load.judging import gather, judge_limits, judge_sending
from penstock.deploy.load.limits import Limit, single_call_limits
from penstock.deploy.load.measures import alone_times
from penstock.deploy.load.notes import find_notes
from penstock.deploy.load.types import (
    Comparison,
    Figures,
    LimitResult,
    LoadResult,
    LoadSpec,
    RateFound,
    Sample,
    Sending,
    StageResult,
    Verdict,
    VerdictWord,
)

OPEN_NOTE = (
    "Open loop: calls were sent when they were due, whether earlier ones had ended or not. Latency counts from the moment a "
    "call was due, so calls that had to wait show it."
)
CLOSED_NOTE = (
    "Closed loop: {n} callers, each waits for its reply before it asks again. A slow target is asked less often, so these "
    "latencies are lower than what people who do not wait for each other would see; they say how much the target can do at "
    "{n} at once."
)


@dataclass(kw_only=True)
class Found:
    """What a search for a rate has found so far."""

    keeps: float | None = None
    fails: float | None = None
    runs: list[tuple[float, VerdictWord]] = field(default_factory=list)
    stopped: str = ""
    """Why it ended before it was done."""


class Telling:
    """Tells what the stages of one run came to."""

    def __init__(
        self,
        spec: LoadSpec,
        limits: Sequence[Limit],
        warmups: Sequence[Sample],
        prices: Prices,
    ) -> None:
        self._spec, self._limits = spec, tuple(limits)
        self._warmups, self._prices = warmups, prices
        self._alone = alone_times(list(warmups))
        self._call_limits = single_call_limits(self._limits)
        self._targets = list(
            dict.fromkeys(target for target in (spec.route, spec.against) if target is not None)
        )

    def judge_stage(self, run: StageRun) -> Verdict:
        """Return the verdict of one stage by itself; limits on a comparison are left out."""
        samples = measured(run)
        label = f"{run.plan.target} at {_how(run)}"
        sending = self._sending(run)
        if not sending.is_usable:
            return Verdict(word="invalid", sentence=f"{label}: {sending.sentence}")
        absolute = [limit for limit in self._limits if not limit.is_ratio]
        figures = self._figures(run.plan.target, samples)
        return judge_limits(label, absolute, samples, figures, alone=self._alone, level=self._spec.level)

    def tell_all(
        self, stages: Sequence[StageRun], *, cost_usd: float | None, found: Found | None
    ) -> LoadResult:
        """Return everything that is told of a run."""
        spec = self._spec
        samples = [sample for stage in stages for sample in measured(stage)]
        is_open = spec.shape.kind != "closed"
        sending = self._worst_sending(stages, found)
        figures = {target: self._of_target(target, stages) for target in self._targets}
        comparison = _compare(spec, self._limits, stages)
        rate = None if found is None else _tell_rate(spec, found)
        stage_results = [self._of_stage(run) for run in stages]
        stopped = next((run.ended for run in stages if run.ended), "")
        verdict = self._verdict(stages, figures, comparison, rate, stage_results)
        if not samples:
            verdict = Verdict(
                word="invalid", sentence=f"No call was measured{f': {stopped}' if stopped else ''}."
            )
        elif not sending.is_usable:
            verdict = msgspec.structs.replace(verdict, word="invalid", sentence=sending.sentence)
        elif stopped:
            verdict = self._cut_short(verdict, stages, stopped)
        effects = [
            fit_length_effect(target, [one for one in samples if one.target == target], level=spec.level)
            for target in self._targets
        ]
        return LoadResult(
            is_open_loop=is_open,
            loop_note=OPEN_NOTE if is_open else CLOSED_NOTE.format(n=spec.shape.concurrency),
            targets=tuple(figures.values()),
            stages=tuple(stage_results),
            classes=self._of_classes(samples),
            versions=self._of_versions(samples),
            alone=self._of_warmups(),
            effects=tuple(effect for effect in effects if effect is not None),
            sending=sending,
            verdict=verdict,
            comparison=comparison,
            found=rate,
            charts=draw_charts(samples, seed=spec.seed),
            notes=tuple(find_notes(spec, samples, self._warmups)),
            n_calls=len(samples),
            cost_usd=cost_usd,
            stopped=stopped,
        )

    def _sending(self, run: StageRun) -> Sending:
        return judge_sending(
            measured(run),
            run.lags_s,
            every_s=LAG_EVERY_S,
            allowed_ms=self._spec.max_late_ms,
            is_open=self._spec.shape.kind != "closed",
        )

    def _worst_sending(self, stages: Sequence[StageRun], found: Found | None) -> Sending:
        """How well the plan was kept in the stage in which it was kept worst.

        A search that found a rate rests on the runs before the one that the sender could not keep.
        """
        all_told = [self._sending(run) for run in stages] or [
            judge_sending((), (), every_s=LAG_EVERY_S, allowed_ms=self._spec.max_late_ms, is_open=True)
        ]
        if found is not None and found.keeps is not None:
            all_told = [each for each in all_told if each.is_usable] or all_told
        return max(
            all_told, key=lambda each: (not each.is_usable, each.worst_ms / max(each.allowed_ms, 1e-9))
        )

    def _cut_short(self, verdict: Verdict, stages: Sequence[StageRun], stopped: str) -> Verdict:
        """The verdict of a test that ended early: what it did not come to is not kept."""
        spec = self._spec
        is_partial = spec.shape.kind == "ramp" or len(stages) < len(spec.rates)
        word: VerdictWord = "undecided" if verdict.word == "pass" and is_partial else verdict.word
        rest = " The rates that it did not come to are not known." if is_partial else ""
        sentence = f"{verdict.sentence} It ended early: {stopped}.{rest}"
        return msgspec.structs.replace(verdict, word=word, sentence=sentence)

    def _figures(self, label: str, samples: Sequence[Sample], **further: Any) -> Figures:
        return compute_figures(
            label,
            samples,
            limits=self._call_limits,
            alone=self._alone,
            prices=self._prices,
            level=self._spec.level,
            **further,
        )

    def _of_target(self, target: str, stages: Sequence[StageRun]) -> Figures:
        runs = [stage for stage in stages if stage.plan.target == target]
        return self._figures(
            target,
            [sample for run in runs for sample in measured(run)],
            spans=[measured(run) for run in runs],
            max_in_flight=max((run.max_in_flight for run in runs), default=0),
        )

    def _of_stage(self, run: StageRun) -> StageResult:
        is_judged = self._spec.against is None and bool(self._limits)
        return StageResult(
            number=run.plan.number,
            target=run.plan.target,
            shape=run.plan.shape,
            figures=self._figures(run.plan.target, measured(run), max_in_flight=run.max_in_flight),
            verdict=self.judge_stage(run) if is_judged else None,
            ended=run.ended,
        )

    def _of_classes(self, samples: Sequence[Sample]) -> tuple[Figures, ...]:
        if len(self._spec.mix) < 2:
            return ()
        found = []
        for one in self._spec.mix:
            for target in self._targets:
                chosen = [each for each in samples if each.kind == one.name and each.target == target]
                label = one.name if len(self._targets) == 1 else f"{one.name}, {target}"
                if chosen:
                    found.append(self._figures(label, chosen))
        return tuple(found)

    def _of_versions(self, samples: Sequence[Sample]) -> tuple[Figures, ...]:
        labels: dict[str, list[Sample]] = {}
        for sample in samples:
            served = "/".join(part for part in (sample.provider, sample.model) if part)
            label = " from ".join(part for part in (sample.version, served) if part)
            if label:
                labels.setdefault(label, []).append(sample)
        return tuple(self._figures(label, chosen) for label, chosen in sorted(labels.items()))

    def _of_warmups(self) -> tuple[Figures, ...]:
        found = []
        for target in self._targets:
            own = [sample for sample in self._warmups if sample.target == target]
            if own:
                found.append(compute_figures(target, own, level=self._spec.level))
        return tuple(found)

    def _verdict(
        self,
        stages: Sequence[StageRun],
        figures: dict[str, Figures],
        comparison: Comparison | None,
        rate: RateFound | None,
        stage_results: Sequence[StageResult],
    ) -> Verdict:
        spec = self._spec
        if rate is not None:
            return Verdict(word=_word_of_search(rate), sentence=rate.sentence)
        if spec.rates and stage_results and stage_results[0].verdict is not None:
            return _over_stages(stage_results)
        ratios = {} if comparison is None else {ratio.measure: ratio for ratio in comparison.ratios}
        own = [sample for run in stages if run.plan.target == spec.route for sample in measured(run)]
        how = _how(stages[0]) if stages else ""
        label = f"{spec.route} at {how}" if spec.against is None else f"{spec.route} against {spec.against}"
        verdict = judge_limits(
            label,
            self._limits,
            own,
            figures[spec.route],
            alone=self._alone,
            level=spec.level,
            ratios=ratios,
        )
        if comparison is not None and not verdict.limits:
            return msgspec.structs.replace(verdict, sentence=comparison.sentence)
        return verdict


def measured(run: StageRun) -> list[Sample]:
    """Return the calls of a stage that count."""
    return [sample for sample in run.samples if not sample.is_warmup]


def _over_stages(results: Sequence[StageResult]) -> Verdict:
    found: list[LimitResult] = []
    for result in results:
        assert result.verdict is not None
        found += [
            msgspec.structs.replace(limit, limit=f"{limit.limit} at {result.shape.rate:g}/s")
            for limit in result.verdict.limits
        ]
    verdict = gather(f"{results[0].target} at {len(results)} rates", found)
    kept = [result.shape.rate for result in results if result.verdict and result.verdict.word == "pass"]
    rest = f" The limits are kept at {', '.join(f'{rate:g}' for rate in kept)} requests/s." if kept else ""
    return msgspec.structs.replace(verdict, sentence=f"{verdict.sentence}{rest}")


def _tell_rate(spec: LoadSpec, found: Found) -> RateFound:
    limits = ", ".join(spec.limits)
    runs = f"{len(found.runs)} run{'s' if len(found.runs) != 1 else ''}"
    if found.stopped:
        known = (
            f"{found.keeps:.3g} requests/s keep {limits}"
            if found.keeps
            else "no rate was shown to keep the limits"
        )
        sentence = f"The search was stopped before it was done ({runs}): {known}."
    elif any(word == "invalid" for _, word in found.runs):
        sentence = f"The search ended after {runs}: the sender could not keep {found.runs[-1][0]:.3g} requests/s itself"
        sentence += f"; {found.keeps:.3g}/s keep the limits." if found.keeps else "."
    elif found.keeps is None:
        first = (
            f"{found.runs[0][0]:.3g}" if found.runs else f"{spec.find_rate.low:g}" if spec.find_rate else "?"
        )
        sentence = f"{spec.route} is not shown to keep {limits} even at {first} requests/s ({runs})."
    elif found.fails is None:
        sentence = f"{spec.route} keeps {limits} at {found.keeps:.3g} requests/s, the highest rate that was tried ({runs})."
    else:
        sentence = f"{spec.route} keeps {limits} up to {found.keeps:.3g} requests/s; at {found.fails:.3g} it is not shown to ({runs})."
    return RateFound(rate=found.keeps, fails_at=found.fails, runs=tuple(found.runs), sentence=sentence)


def _word_of_search(rate: RateFound) -> VerdictWord:
    """A target fails if the lowest rate is too much for it, not if that was never found out."""
    if rate.rate is not None:
        return "pass"
    last = rate.runs[-1][1] if rate.runs else "unjudged"
    return "undecided" if last == "unjudged" else last


def _compare(spec: LoadSpec, limits: Sequence[Limit], stages: Sequence[StageRun]) -> Comparison | None:
    if spec.against is None:
        return None
    blocks: dict[int, dict[str, list[Sample]]] = {}
    for number, run in enumerate(stages):
        # by order, not by target: both may be the same one, to see what chance alone does
        pair, is_second = divmod(number, 2)
        is_first_target = (pair % 2 == 0) != bool(is_second)
        blocks.setdefault(pair, {})["ours" if is_first_target else "theirs"] = measured(run)
    pairs = [(each["ours"], each["theirs"]) for each in blocks.values() if len(each) == 2]
    more = [(limit.measure, limit.statistic) for limit in limits if limit.is_ratio and limit.statistic]
    return compare_targets(spec.route, spec.against, pairs, level=spec.level, more=more)


def _how(run: StageRun) -> str:
    shape = run.plan.shape
    if shape.kind == "closed":
        return f"{shape.concurrency} at once"
    if shape.kind == "ramp" and shape.to_rate is not None:
        return f"{shape.rate:g} to {shape.to_rate:g} requests/s"
    return f"{shape.rate:.3g} requests/s"
