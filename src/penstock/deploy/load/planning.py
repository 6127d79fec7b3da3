"""What a load test would do and cost, before anybody is asked. Pure."""

from collections.abc import Mapping, Sequence

from penstock.deploy.load.arrivals import count_arrivals
from penstock.deploy.load.mixes import Material, mean_sizes
from penstock.deploy.load.ports import TargetFacts
from penstock.deploy.load.running import calls_needed, plan_stages, stage_length
from penstock.deploy.load.types import LoadPlan, LoadSpec

GUESSED_CLOSED_S = 1.0
"""How long a call of a closed loop is taken to last where nothing says."""
SAFETY = 1.1


def plan_load(spec: LoadSpec, material: Mapping[str, Material], facts: Sequence[TargetFacts]) -> LoadPlan:
    """Return calls, time, tokens and cost; costs take each reply as long as it may become."""
    n_calls, seconds, notes = _count(spec)
    prompt, completion = mean_sizes(spec, material)
    n_targets = 1 if spec.against is None else 2
    n_all = n_calls + spec.warmup * n_targets
    prices = [fact.prices for fact in facts]
    cost = None
    if None not in prices:
        dearest = max((each for each in prices if each is not None), key=sum, default=(0.0, 0.0))
        cost = SAFETY * n_all * (prompt * dearest[0] + completion * dearest[1])
    is_hosted = any(fact.is_hosted for fact in facts)
    if is_hosted and cost is None:
        notes.append("What the calls cost is unknown: the prices of a provider are not.")
    needed = calls_needed(spec.limits)
    of_one = n_calls / max(1, len(spec.rates)) / (2 if spec.against is not None else 1)
    if spec.find_rate is None and of_one < needed:
        notes.append(
            f"About {of_one:.0f} calls are too few to bound the stated percentile from above: {needed} are the least."
        )
    return LoadPlan(
        n_calls=n_all,
        seconds=seconds,
        prompt_tokens=n_all * prompt,
        completion_tokens=n_all * completion,
        cost_usd=cost,
        is_hosted=is_hosted,
        providers=tuple(sorted({name for fact in facts for name in fact.providers})),
        must_confirm=is_hosted and (cost is None or cost > 0),
        notes=tuple(notes),
    )


def join_prices(facts: Sequence[TargetFacts]) -> tuple[float, float] | None:
    """Return the dearer price of each kind of token; None when one is unknown."""
    known = [fact.prices for fact in facts]
    if not known or None in known:
        return None
    pairs = [each for each in known if each is not None]
    return max(each[0] for each in pairs), max(each[1] for each in pairs)


def _count(spec: LoadSpec) -> tuple[float, float | None, list[str]]:
    seconds, requests = stage_length(spec)
    if spec.find_rate is not None:
        search = spec.find_rate
        per_run = max(calls_needed(spec.limits), requests or search.high * (seconds or 0.0))
        notes = [f"At most {search.runs} runs; how many calls they are depends on the rate that is found."]
        return search.runs * per_run, None if seconds is None else search.runs * seconds, notes
    stages = plan_stages(spec)
    if spec.shape.kind == "closed":
        if requests is not None:
            return float(requests * len(stages)), None, []
        each = spec.shape.concurrency * (seconds or 0.0) / GUESSED_CLOSED_S
        note = "How many calls a closed loop makes depends on the target; one a second for each caller was taken."
        return each * len(stages), None if seconds is None else seconds * len(stages), [note]
    counts = [count_arrivals(stage.shape, seconds=seconds, requests=requests) for stage in stages]
    lengths = [
        seconds if seconds is not None else count / stage.shape.rate
        for count, stage in zip(counts, stages, strict=True)
    ]
    return sum(counts), sum(lengths), []
