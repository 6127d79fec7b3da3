"""The corrected figure beside a judge's raw one: what people would have said, as far as their labels tell. Pure.

Yes or no: Rogan and Gladen's estimate, whose interval holds the error of the labels too. Both rates are the
judge's own and go with it to other evaluations of the same kind of outputs. Numbers: prediction-powered inference, from labels of outputs
of this very evaluation alone. `method` says on how many labels the figure rests.
"""

from collections.abc import Sequence
from dataclasses import replace

from penstock.evals.judges.calibration import LEAST_LABELS, is_yes
from penstock.evals.judges.rates import find_rates
from penstock.evals.judges.types import JudgeCalibration
from penstock.evals.statistics.correction import ppi_mean
from penstock.evals.statistics.samples import is_scored
from penstock.evals.statistics.sheets import make_sheet
from penstock.evals.statistics.types import Interval, ScoredCase
from penstock.spec.evaluations import Estimate

SHARE_OF_YES = "share of yes"
"""How `method` begins where the raw figure is a mean, and the corrected one a share."""


def correct_estimate(
    calibration: JudgeCalibration,
    cases: Sequence[ScoredCase],
    *,
    name: str,
    evaluation_id: str | None = None,
    level: float = 0.95,
) -> Estimate | None:
    """Return the corrected figure of a judge's scores; None for judges whose labels are words.

    Its value is None when the judge tells too little, and `method` says so. Of yes-or-no judges it is the share of outputs
    to which people would say yes, at the calibration's threshold.
    """
    scored = [case for case in cases if is_scored(case)]
    if calibration.kind == "labels":
        return None
    found = (
        _correct_share(calibration, scored, level)
        if calibration.kind == "binary"
        else _correct_mean(calibration, scored, evaluation_id, level)
    )
    sheet = make_sheet(cases)
    n_undefined, n_errors, n_skipped = sheet.count_missing()
    shares = sheet.scored_shares()
    n_partial = int(((shares > 0.0) & (shares < 1.0)).sum())
    return Estimate(
        name=name,
        value=found.value,
        low=found.low,
        high=found.high,
        level=level,
        method=found.method,
        n=len(scored),
        n_cases=len(cases),
        n_groups=found.n_groups,
        n_undefined=n_undefined,
        n_errors=n_errors,
        n_skipped=n_skipped,
        n_partial=n_partial,
        scored_share=float(shares.mean()) if n_partial else None,
        direction=calibration.direction,
        scale="binary" if calibration.kind == "binary" else "bounded",
    )


def _correct_share(calibration: JudgeCalibration, scored: Sequence[ScoredCase], level: float) -> Interval:
    threshold = calibration.threshold
    assert threshold is not None
    yes = [_with_values(case, [float(is_yes(value, threshold)) for value in case.values]) for case in scored]
    found = find_rates(calibration.pairs).correct(yes, level=level)
    if found.value is None or all(value in {0.0, 1.0} for case in scored for value in case.values):
        return found
    # the raw figure beside it is a mean: without this the two would seem to be of one unit
    raw = sum(sum(case.values) / len(case.values) for case in yes) / len(yes)
    return replace(
        found, method=f"{SHARE_OF_YES} ({threshold:g} or more; {raw:.2g} as judged), {found.method}"
    )


def _with_values(case: ScoredCase, values: list[float]) -> ScoredCase:
    return ScoredCase(case_id=case.case_id, group=case.group, values=values)


def _correct_mean(
    calibration: JudgeCalibration, scored: Sequence[ScoredCase], evaluation_id: str | None, level: float
) -> Interval:
    """The weight that prediction-powered inference gives a judge holds only where the labelled are a random part of the judged."""
    asked = {case.case_id for case in scored}
    pairs = [
        pair
        for pair in calibration.pairs
        if evaluation_id and pair.evaluation_id == evaluation_id and pair.case_id in asked
    ]
    known = {pair.case_id for pair in pairs}
    if len(known) < LEAST_LABELS:
        method = (
            f"undefined: {len(known)} of its own outputs have a label {calibration.name!r}, and a mean takes "
            f"{LEAST_LABELS}, drawn by chance; labels of other evaluations tell nothing of its mean"
        )
        return Interval(value=None, low=None, high=None, level=level, method=method)
    others = [case for case in scored if case.case_id not in known]
    return ppi_mean(
        [float(pair.human) for pair in pairs],
        [float(pair.judged) for pair in pairs],
        [sum(case.values) / len(case.values) for case in others],
        # repeats of one case are no labels of their own
        groups=[pair.group or f"case {pair.case_id}" for pair in pairs],
        unlabelled_groups=[case.group for case in others],
        level=level,
    )
