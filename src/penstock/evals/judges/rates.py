"""What a yes-or-no judge is, from labelled outputs: sensitivity and specificity, as far as their groups tell. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.evals.judges.types import LabelledPair
from penstock.evals.statistics.correction import Share, correct_share, share_of
from penstock.evals.statistics.samples import make_sample
from penstock.evals.statistics.types import FloatArray, Interval, ScoredCase


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How often a judge says what people say; None where nobody said yes, or no."""

    sensitivity: Share | None
    specificity: Share | None
    covariance: float
    """A judge that is lenient in one group and strict in another errs there in both."""
    n_labels: int

    def correct(self, cases: Sequence[ScoredCase], *, level: float = 0.95) -> Interval:
        """Return the share of yes by people, from cases whose values are 1 where the judge says yes."""
        return correct_share(
            share_of(cases),
            self.sensitivity,
            self.specificity,
            n_judged=len(cases),
            n_labels=self.n_labels,
            covariance=self.covariance,
            level=level,
        )


def find_rates(pairs: Sequence[LabelledPair]) -> Rates:
    """Return the rates of a judge whose pairs are 1 and 0 on both sides. Repeats of one case are one group."""
    cases = [
        ScoredCase(
            case_id=pair.item
            if pair.case_id is None
            else f"{pair.evaluation_id or pair.item} {pair.case_id}",
            group=pair.group,
            values=[float(pair.human == pair.judged)],
        )
        for pair in pairs
    ]
    is_yes = np.array([pair.human == 1.0 for pair in pairs], dtype=np.bool_)
    return Rates(
        sensitivity=share_of([case for case, yes in zip(cases, is_yes, strict=True) if yes]),
        specificity=share_of([case for case, yes in zip(cases, is_yes, strict=True) if not yes]),
        covariance=_covary(cases, is_yes),
        n_labels=len(pairs),
    )


def said_yes(pairs: Sequence[LabelledPair]) -> list[ScoredCase]:
    """Return the labelled outputs as cases: 1 where the judge says yes."""
    return [ScoredCase(case_id=pair.item, group=pair.group, values=[float(pair.judged)]) for pair in pairs]


def _covary(cases: Sequence[ScoredCase], is_yes: np.ndarray) -> float:
    """The covariance of the two rates, by group: 0 where no group holds two labels."""
    sample = make_sample(cases)
    if not sample.is_grouped or sample.n_clusters < 2 or is_yes.all() or not is_yes.any():
        return 0.0

    def pulls(side: np.ndarray) -> FloatArray:
        values = np.where(side, sample.values - sample.values[side].mean(), 0.0)
        return sample.by_cluster(values / np.count_nonzero(side))

    factor = sample.n_clusters / (sample.n_clusters - 1)
    return factor * math.fsum((pulls(is_yes) * pulls(~is_yes)).tolist())
