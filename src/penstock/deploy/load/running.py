"""Runs a whole load test: warm-up, stages, figures, verdict. Knows no files, processes or tables."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from penstock.deploy.load.arrivals import check_shape
from penstock.deploy.load.errors import InvalidLoadTest
from penstock.deploy.load.generator import Generator, Purse, StagePlan, StageRun
from penstock.deploy.load.limits import Limit, parse_limit
from penstock.deploy.load.mixes import Material, Mix, check_mix
from penstock.deploy.load.results import Found, Telling
from penstock.deploy.load.sending import Sender
from penstock.deploy.load.types import LoadResult, LoadSpec, Sample, VerdictWord

DEFAULT_SECONDS = 30.0
MAX_STAGES = 200
Tell = Callable[[float | None, str], None]


@dataclass(kw_only=True)
class LoadRun:
    """What a run left behind."""

    result: LoadResult
    samples: list[Sample] = field(default_factory=list)
    """Warm-up and measured calls, in the order they were due."""


def check_spec(spec: LoadSpec) -> tuple[Limit, ...]:
    """Return the limits, understood; raise `InvalidLoadTest` or `InvalidLimit` for what cannot be run."""
    limits = tuple(parse_limit(text) for text in spec.limits)
    check_mix(spec)
    check_shape(spec.shape)
    for rate in spec.rates:
        check_shape(msgspec.structs.replace(spec.shape, rate=rate))
    problems = {
        "seconds": spec.seconds is not None and not 0 < spec.seconds <= 86_400,
        "requests": spec.requests is not None and spec.requests < 1,
        "pairs": not 1 <= spec.pairs <= MAX_STAGES // 2,
        "warmup": not 0 <= spec.warmup <= 1000,
        "settle_s": spec.settle_s < 0 or (spec.seconds is not None and spec.settle_s >= spec.seconds),
        "timeout_s": not 0 < spec.timeout_s <= 3600,
        "max_in_flight": not 1 <= spec.max_in_flight <= 10_000,
        "level": not 0.5 <= spec.level < 1,
        "rates": len(spec.rates) > MAX_STAGES,
        "max_cost_usd": spec.max_cost_usd is not None and spec.max_cost_usd < 0,
    }
    for where, is_wrong in problems.items():
        if is_wrong:
            raise InvalidLoadTest(f"{where} is out of its range.", where=where)
    if spec.rates and spec.shape.kind in {"closed", "ramp"}:
        raise InvalidLoadTest(
            f"Several rates and a shape that is {spec.shape.kind} do not go together.", where="rates"
        )
    if sum((bool(spec.rates), spec.find_rate is not None, spec.against is not None)) > 1:
        raise InvalidLoadTest("Choose one: several rates, looking for a rate, or comparing two targets.")
    if any(limit.is_ratio for limit in limits) and spec.against is None:
        raise InvalidLoadTest("A limit in x is on a comparison: name the other target.", where="against")
    if spec.find_rate is not None:
        _check_search(spec, limits)
    reserved = {"model", "messages", "max_tokens", "stream", "stream_options"} & set(spec.parameters)
    if reserved:
        raise InvalidLoadTest(f"parameters may not set {', '.join(sorted(reserved))}.", where="parameters")
    return limits


def _check_search(spec: LoadSpec, limits: tuple[Limit, ...]) -> None:
    search = spec.find_rate
    assert search is not None
    if not any(not limit.is_of_single_calls for limit in limits):
        raise InvalidLoadTest(
            "Looking for a rate needs a limit that it has to keep, such as ttft.p95 <= 300ms."
        )
    if spec.shape.kind not in {"poisson", "constant", "burst"}:
        raise InvalidLoadTest(
            "A rate is looked for with poisson, constant or burst arrivals.", where="shape.kind"
        )
    if not 0 < search.low <= search.high or not 1 <= search.runs <= MAX_STAGES or not search.within > 0:
        raise InvalidLoadTest(
            "The search needs 0 < low ≤ high, at least one run, and within over 0.", where="find_rate"
        )


async def run_load(
    spec: LoadSpec,
    sender: Sender,
    *,
    material: Mapping[str, Material] | None = None,
    prices: tuple[float, float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    tell: Tell = lambda _share, _text: None,
    should_stop: Callable[[], str] = lambda: "",
) -> LoadRun:
    """Run the test and return what it found. A stop, or the cost cap, ends it early with what it has."""
    limits = check_spec(spec)
    cap = None if spec.max_cost_usd is None else float(spec.max_cost_usd)
    purse = Purse(cap, prices)
    watch = _Progress(spec, clock, tell)
    generator = Generator(
        spec,
        sender,
        Mix(spec, material or {}),
        clock=clock,
        purse=purse,
        should_stop=should_stop,
        on_sample=watch.count,
    )
    targets = [spec.route, *([] if spec.against is None else [spec.against])]
    lag = asyncio.create_task(generator.watch_lag())
    warmups: list[Sample] = []
    stages: list[StageRun] = []
    found: Found | None = None
    try:
        for target in targets:
            watch.say(f"warming up {target}")
            warmups += await generator.warm_up(target)
        if spec.find_rate is not None:
            found = Found()

            def judge(run: StageRun) -> VerdictWord:
                telling = Telling(spec, limits, warmups, prices)
                return telling.judge_stage(run).word

            search = _search(spec, judge, generator, found, watch)
            stages += [run async for run in search]
        else:
            for plan in plan_stages(spec):
                watch.begin(plan)
                stages.append(await generator.run(plan))
                if stages[-1].ended:
                    break
    finally:
        lag.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lag
    telling = Telling(spec, limits, warmups, prices)
    result = telling.tell_all(stages, cost_usd=purse.spent_usd, found=found)
    samples = [*warmups, *(sample for stage in stages for sample in stage.samples)]
    return LoadRun(result=result, samples=samples)


def plan_stages(spec: LoadSpec) -> list[StagePlan]:
    """Return the stages of a test whose stages are known beforehand."""
    seconds, requests = stage_length(spec)
    if spec.against is not None:
        plans: list[StagePlan] = []
        for pair in range(spec.pairs):
            order = (spec.route, spec.against) if pair % 2 == 0 else (spec.against, spec.route)
            for target in order:
                plans.append(
                    StagePlan(
                        number=len(plans),
                        target=target,
                        shape=spec.shape,
                        block=pair,
                        seconds=seconds,
                        requests=requests,
                    )
                )
        return plans
    shapes = [msgspec.structs.replace(spec.shape, rate=rate) for rate in spec.rates] or [spec.shape]
    return [
        StagePlan(
            number=number, target=spec.route, shape=shape, block=number, seconds=seconds, requests=requests
        )
        for number, shape in enumerate(shapes)
    ]


def stage_length(spec: LoadSpec) -> tuple[float | None, int | None]:
    """Return seconds and requests of a stage; one of them is there."""
    if spec.seconds is None and spec.requests is None:
        return DEFAULT_SECONDS, None
    return spec.seconds, spec.requests


def calls_needed(limits: Sequence[str]) -> int:
    """Return how many calls a run needs at least for its percentiles to have an upper bound."""
    shares = [
        float(limit.statistic[1:]) / 100
        for limit in map(parse_limit, limits)
        if limit.statistic.startswith("p")
        and limit.is_upper
        and limit.measure != "itl"
        and not limit.is_ratio
    ]
    return max((math.ceil(math.log(0.025) / math.log(share)) for share in shares), default=1)


async def _search(
    spec: LoadSpec,
    judge: Callable[[StageRun], VerdictWord],
    generator: Generator,
    found: Found,
    watch: "_Progress",
) -> AsyncIterator[StageRun]:
    """Double the rate until it fails, then halve the way between, on a logarithmic scale."""
    search = spec.find_rate
    assert search is not None
    least = calls_needed(spec.limits)
    rate: float | None = search.low
    for number in range(search.runs):
        if rate is None:
            return
        shape = msgspec.structs.replace(spec.shape, rate=rate)
        seconds, requests = stage_length(spec)
        if requests is None and seconds is not None and rate * seconds < least:
            seconds, requests = None, least  # fewer could not decide whatever they showed
        plan = StagePlan(
            number=number, target=spec.route, shape=shape, block=number, seconds=seconds, requests=requests
        )
        watch.begin(plan, share=number / search.runs)
        run = await generator.run(plan)
        yield run
        found.stopped = run.ended
        if run.ended:  # calls that were cut off would be held against the target
            found.runs.append((rate, "unjudged"))
            return
        word = judge(run)
        found.runs.append((rate, word))
        if word == "invalid":
            return
        if word == "pass":
            found.keeps = max(rate, found.keeps or 0.0)
        else:
            found.fails = min(rate, found.fails or math.inf)
        rate = next_rate(found.keeps, found.fails, low=search.low, high=search.high, within=search.within)


def next_rate(
    keeps: float | None, fails: float | None, *, low: float, high: float, within: float
) -> float | None:
    """Return the rate to try next, or None when enough is known."""
    if keeps is None:  # even the lowest fails
        return None
    if fails is None:
        return None if keeps >= high else min(high, keeps * 2)
    return None if fails <= keeps * (1 + within) else math.sqrt(max(keeps, low) * fails)


class _Progress:
    def __init__(self, spec: LoadSpec, clock: Callable[[], float], tell: Tell) -> None:
        self._spec, self._clock, self._tell = spec, clock, tell
        self._plans = 1 if spec.find_rate is not None else len(plan_stages(spec))
        self._n_done = self._n_failed = 0
        self._stage: StagePlan | None = None
        self._began = clock()
        self._n_begun = 0
        self._base: float | None = None
        self._told = -math.inf

    def say(self, text: str) -> None:
        self._tell(0.0, text)

    def begin(self, plan: StagePlan, share: float | None = None) -> None:
        self._stage, self._began, self._n_begun, self._base = plan, self._clock(), self._n_done, share
        self._show()

    def count(self, sample: Sample) -> None:
        if sample.is_warmup:  # counted by no report either
            return
        self._n_done += 1
        self._n_failed += bool(sample.error)
        if self._clock() - self._told >= 0.5:
            self._show()

    def _show(self) -> None:
        plan = self._stage
        if plan is None:
            return
        self._told = now = self._clock()
        by_time = 0.0 if plan.seconds is None else (now - self._began) / plan.seconds
        by_count = 0.0 if plan.requests is None else (self._n_done - self._n_begun) / plan.requests
        part = min(1.0, max(by_time, by_count))
        if self._base is not None and self._spec.find_rate is not None:
            share = self._base + part / self._spec.find_rate.runs
        else:
            share = (plan.number + part) / self._plans
        shape = plan.shape
        how = f"{shape.concurrency} at once" if shape.kind == "closed" else f"{shape.rate:g}/s"
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        self._tell(min(1.0, share), f"{plan.target} at {how}: {self._n_done} calls{failed}")
