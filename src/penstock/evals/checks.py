"""What an evaluation's specification must be, whoever runs it. Pure."""

import math
from collections.abc import Sequence

from penstock.evals.errors import EvaluationInvalid, OutputsInvalid
from penstock.evals.statistics.estimates import bounds_of
from penstock.evals.types import ScoreColumn
from penstock.spec.evaluations import EvaluationSpec
from penstock.spec.scores import Score

MAX_REPEATS = 1000
MAX_CONCURRENCY = 512


def check_spec(spec: EvaluationSpec) -> None:
    """Raise `EvaluationInvalid` for a specification that nobody could run."""
    target = spec.target
    named = [name for name in ("model", "http", "python", "outputs") if getattr(target, name) is not None]
    if len(named) != 1:
        told = f"{len(named)} are ({', '.join(named)})" if named else "none is"
        raise EvaluationInvalid(
            f"Exactly one of target.model, .http, .python and .outputs is set; {told}.", where="target"
        )
    if target.prompt is not None and target.model is None:
        raise EvaluationInvalid(
            "target.prompt needs target.model, the route it is sent to.", where="target.prompt"
        )
    if spec.dataset is not None and spec.file is not None:
        raise EvaluationInvalid("Name a `dataset` or a `file`, not both.", where="file")
    if not 1 <= spec.repeats <= MAX_REPEATS:
        raise EvaluationInvalid(f"`repeats` is 1 to {MAX_REPEATS}.", where="repeats")
    if not 1 <= spec.concurrency <= MAX_CONCURRENCY:
        raise EvaluationInvalid(f"`concurrency` is 1 to {MAX_CONCURRENCY}.", where="concurrency")
    if spec.limit is not None and spec.limit < 1:
        raise EvaluationInvalid("`limit` is 1 or more.", where="limit")
    if not spec.case_timeout_s > 0:
        raise EvaluationInvalid("`case_timeout_s` is more than 0.", where="case_timeout_s")
    for name in ("usd", "tokens", "minutes"):
        bound = getattr(spec.budget, name)
        if bound is not None and bound <= 0:
            raise EvaluationInvalid(f"`budget.{name}` is more than 0.", where=f"budget.{name}")
    _check_stop(spec)
    if not spec.name.strip():
        raise EvaluationInvalid("An evaluation needs a name.", where="name")


def _check_stop(spec: EvaluationSpec) -> None:
    rule = spec.stop_when
    if rule is None:
        return
    named = [name for name in ("half_width", "threshold", "baseline") if getattr(rule, name) is not None]
    if len(named) != 1:
        told = f"{len(named)} are" if named else "none is"
        raise EvaluationInvalid(
            f"Exactly one of stop_when.half_width, .threshold and .baseline is set; {told}.",
            where="stop_when",
        )
    if rule.half_width is not None and not rule.half_width > 0:
        raise EvaluationInvalid("`stop_when.half_width` is more than 0.", where="stop_when.half_width")
    if not (rule.margin >= 0 and (rule.margin == 0 or rule.baseline is not None)):
        raise EvaluationInvalid("`stop_when.margin` is 0 or more, of a `baseline`.", where="stop_when.margin")
    if not 0.5 <= rule.level < 1.0:
        raise EvaluationInvalid("`stop_when.level` lies between 0.5 and 1.", where="stop_when.level")


def check_values(columns: Sequence[ScoreColumn], scores: Sequence[tuple[str, int, Score]]) -> None:
    """Raise `OutputsInvalid` for a value that its score cannot have; scores that no column describes may have any."""
    bounds = {column.name: bounds_of(column) for column in columns}
    for case_id, _, score in scores:
        if score.value is None:
            continue
        known = bounds.get(score.name)
        low, high = (-math.inf, math.inf) if known is None else known
        slack = 0.0 if known is None else 1e-9 * (high - low)
        if not (math.isfinite(score.value) and low - slack <= score.value <= high + slack):
            reach = "is no number" if known is None else f"lies between {low:g} and {high:g}"
            raise OutputsInvalid(
                f"Case {case_id!r}: {score.name} is {score.value:g}, but it {reach}.", case=case_id
            )
