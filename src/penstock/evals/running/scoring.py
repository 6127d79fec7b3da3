"""Asks scorers, and holds them to their promise: whatever a scorer does, what comes out is a score with a status.

An error of the target is not a fail, an undefined score is not a zero, and a scorer that raises does not end the run.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.json_text import clean_text
from penstock.evals.early_stop import EarlyStop
from penstock.evals.errors import EvaluationInvalid
from penstock.evals.running.own_time import Aside, own_time
from penstock.evals.scorers.types import Preparable, Scorer, ScorerTools, make_error
from penstock.evals.types import ScoreColumn
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, StopWhen
from penstock.spec.scores import ErrorFault, Score

OF_THE_SERVICE = frozenset({"latency", "ttft", "cost", "tokens", "error_rate"})
"""Scorers that describe the service rather than the content: counted by case, whatever its group."""

MAX_REASON = 2000
FACT_NEEDS = frozenset({"context", "cost"})
"""What a trace tells, so that its arrival must be awaited."""


def needs_facts(scorer: Scorer) -> bool:
    """Whether the scorer reads what only the trace of the call knows."""
    return bool(FACT_NEEDS & scorer.info.needs)


def needs_samples(scorer: Scorer) -> bool:
    """Whether the scorer judges all repeats of a case together."""
    return "samples" in scorer.info.needs


async def judge(
    scorer: Scorer, case: Case, outputs: Sequence[Output], tools: ScorerTools, *, timeout_s: float
) -> list[Score]:
    """Return the scores of these outputs; never raises but when the run is cancelled.

    `timeout_s` is of what the scorer does itself: its calls have their own time each, from the moment they are sent, and the
    wait for their turn, for room in the budget and for their price is no time of its own.
    """
    if not scorer.info.takes_errors:
        bad = next((output for output in outputs if output.status != "ok"), None)
        usable = [output for output in outputs if output.status == "ok"]
        if bad is not None and (not needs_samples(scorer) or not usable):
            return [_of_target(scorer, bad)]
        outputs = usable
    try:
        async with own_time(timeout_s) as aside:
            given = await scorer.score(case, outputs, _aside(tools, aside))
        return [_checked(scorer, score) for score in given]
    except TimeoutError:
        fault: ErrorFault = "judge" if scorer.info.kind == "model" else "scorer"
        return [make_error(scorer, f"It took longer than {timeout_s:g} s.", fault=fault)]
    except (
        Exception
    ) as error:  # a scorer may be anybody's code: what it raises is the outcome of this score alone
        return [make_error(scorer, _told(error), fault="scorer")]


def _aside(tools: ScorerTools, aside: Aside) -> ScorerTools:
    return ScorerTools(
        ask=aside.of(tools.ask),
        embed=aside.of(tools.embed),
        embed_tokens=aside.of(tools.embed_tokens),
        likelihood=aside.of(tools.likelihood),
    )


def _of_target(scorer: Scorer, output: Output) -> Score:
    if output.status == "skipped":
        reason = output.error.message if output.error is not None else "It was not asked."
        return msgspec.structs.replace(make_error(scorer, reason), status="skipped", fault=None)
    told = f"The target gave no answer ({output.status})"
    if output.error is not None:
        told += f": {output.error.code}: {output.error.message}"
    return make_error(scorer, told[:MAX_REASON], fault="target")


def _checked(scorer: Scorer, score: Score) -> Score:
    value = score.value
    if value is not None and not math.isfinite(value):
        return make_error(scorer, f"It gave {value}, which is no number.")
    if any(not math.isfinite(each) for each in score.statistics):
        return make_error(scorer, "It gave statistics that are no numbers.")
    if (value is None) == (score.status == "scored"):
        return make_error(scorer, f"It gave the status {score.status!r} with the value {value}.")
    if score.reason is not None:
        return msgspec.structs.replace(score, reason=clean_text(score.reason)[:MAX_REASON])
    return score


def _told(error: Exception) -> str:
    if isinstance(error, PenstockError):
        return clean_text(str(error))[:MAX_REASON]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return clean_text(f"{type(error).__name__}: {error}{where}")[:MAX_REASON]


def prepare(scorers: Sequence[Scorer], read_cases: Callable[[], Iterable[Case]]) -> list[Scorer]:
    """Return the scorers to use for these cases; those that must see all of them first have, one pass each.

    Raises `EvaluationInvalid` when two scores would have one name.
    """
    ready = [each.prepare(read_cases()) if isinstance(each, Preparable) else each for each in scorers]
    check_names(ready)
    return ready


def check_names(scorers: Sequence[Scorer]) -> None:
    """Raise `EvaluationInvalid` when two scores would have one name."""
    names = [scorer.name for scorer in scorers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EvaluationInvalid(
            f"Two scorers give a score called {twice[0]!r}.",
            hint='Give one of them another name: `name = "…"` beside `scorer`.',
        )


def column_of(scorer: Scorer, spec: ScorerSpec | None, *, added_ns: int | None = None) -> ScoreColumn:
    """Return what figures of this score need to know of its scorer; `spec` None: user code, which nobody makes again."""
    info = scorer.info
    return ScoreColumn(
        name=scorer.name,
        stamp=info.stamp,
        direction=info.direction,
        scale=info.scale,
        low=info.low,
        high=info.high,
        unit=info.unit,
        counted_by="case" if info.name in OF_THE_SERVICE else "group",
        source=info.kind,
        summary=info.summary,
        undefined_when=info.undefined_when,
        scorer="" if spec is None else spec.scorer,
        parameters={} if spec is None else spec.parameters,
        has_figure=scorer.figure is not None,
        added_ns=added_ns,
    )


def make_early(
    spec: EvaluationSpec,
    scorers: Sequence[Scorer],
    read_baseline: Callable[[StopWhen], Mapping[str, float]] | None,
) -> EarlyStop | None:
    """Return the rule by which a run may end early, or None where it has none.

    Raises `EvaluationInvalid` for a score that no scorer gives, or that is no mean of bounded values.
    """
    rule = spec.stop_when
    if rule is None:
        return None
    scorer = next((each for each in scorers if each.name == rule.score), None)
    if scorer is None or scorer.figure is not None:
        known = ", ".join(each.name for each in scorers if each.figure is None)
        why = "no scorer gives it" if scorer is None else "its figure is no mean"
        raise EvaluationInvalid(
            f"A run cannot stop by {rule.score!r}: {why}.",
            hint=f"Choose one of {known}." if known else None,
            where="stop_when.score",
        )
    baseline = None
    if rule.baseline is not None:
        if read_baseline is None:
            raise EvaluationInvalid(
                "A run in your own process cannot stop by a baseline.", where="stop_when.baseline"
            )
        baseline = read_baseline(rule)
    n_values = 1 if needs_samples(scorer) else spec.repeats
    return EarlyStop(rule, scorer.info, n_values=n_values, baseline=baseline)


def mean_values(rows: Iterable[Any]) -> dict[str, float]:
    """Return the mean of the scores of each case, from rows of scores."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "scored" and row.value is not None:
            found.setdefault(row.case_id, []).append(row.value)
    return {case_id: math.fsum(values) / len(values) for case_id, values in found.items()}
