"""Scores of cases as arrays: one value a case (the mean of its repeats), and the cluster each case is in.

A case without a group is a cluster of its own. Two sides of a comparison are brought into the same order here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.evals.statistics.types import FloatArray, Measure, ScoredCase, is_by_case


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Cases with at least one score."""

    ids: list[str]
    values: FloatArray
    sums: FloatArray | None
    """Statistics of each case for a figure, [n, k]; None where the scores have none."""
    clusters: NDArray[np.int64]
    """Of each case, 0 … n_clusters − 1."""
    n_clusters: int
    is_grouped: bool
    """Whether any cluster holds more than one case."""
    has_groups: bool
    """Whether any case names a group at all."""
    is_single: bool
    """Whether every case has exactly one score."""

    @property
    def n(self) -> int:
        """Cases."""
        return len(self.ids)

    @property
    def n_groups(self) -> int | None:
        """Clusters, where cases name groups."""
        return self.n_clusters if self.has_groups else None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Cases of each cluster."""
        return np.bincount(self.clusters, minlength=self.n_clusters)

    def by_cluster(self, values: FloatArray) -> FloatArray:
        """Return the sums of `values` ([n] or [n, k]) over the cases of each cluster."""
        if not self.is_grouped:
            # clusters are numbered by first appearance: alone, each case is its own
            return values
        if values.ndim == 1:
            return _sum_by(self.clusters, values, self.n_clusters)
        columns = [_sum_by(self.clusters, column, self.n_clusters) for column in values.T]
        return np.stack(columns, axis=1)


def is_scored(case: ScoredCase) -> bool:
    """Return whether a case has any usable value."""
    return any(math.isfinite(value) for value in case.values)


def units_of(cases: Sequence[ScoredCase], measure: Measure) -> Sequence[ScoredCase]:
    """Return the cases as what is counted: each alone where the measure describes the service, else as they are."""
    if not is_by_case(measure):
        return cases
    return [case if case.group is None else replace(case, group=None) for case in cases]


def method_of(method: str, cases: Sequence[ScoredCase], measure: Measure) -> str:
    """Return how an interval was made, telling where groups were looked past on purpose."""
    return tell_method(method, measure, has_groups=any(case.group is not None for case in cases))


def tell_method(method: str, measure: Measure, *, has_groups: bool) -> str:
    """Return `method_of` where it is known whether cases name groups."""
    is_told = is_by_case(measure) and has_groups
    return f"{method}, by case" if is_told and "by case" not in method else method


def make_sample(cases: Sequence[ScoredCase]) -> Sample:
    """Return the scored ones of `cases`, in their order. Values that are no finite number count for nothing."""
    scored = [case for case in cases if is_scored(case)]
    numbers: dict[tuple[bool, str], int] = {}
    clusters = np.empty(len(scored), dtype=np.int64)
    for position, case in enumerate(scored):
        key = (True, case.group) if case.group is not None else (False, case.case_id)
        clusters[position] = numbers.setdefault(key, len(numbers))
    values = np.array([_mean(case.values) for case in scored], dtype=np.float64)
    return Sample(
        ids=[case.case_id for case in scored],
        values=values,
        sums=_statistics(scored),
        clusters=clusters,
        n_clusters=len(numbers),
        is_grouped=len(numbers) < len(scored),
        has_groups=any(case.group is not None for case in scored),
        is_single=all(len(case.values) == 1 for case in scored),
    )


def pair_cases(
    baseline: Sequence[ScoredCase], candidate: Sequence[ScoredCase]
) -> tuple[list[ScoredCase], list[ScoredCase], int, int]:
    """Return the cases that both sides have a score for, in one order, and how many only one side has.

    The pair's group is the candidate's, so that both sides are clustered alike.
    """
    known = {case.case_id: case for case in baseline if is_scored(case)}
    scored = {case.case_id: case for case in candidate if is_scored(case)}
    common = [case_id for case_id in scored if case_id in known]
    left = [known[case_id] for case_id in common]
    right = [scored[case_id] for case_id in common]
    return left, right, len(known) - len(common), len(scored) - len(common)


def _sum_by(clusters: NDArray[np.int64], values: FloatArray, n_clusters: int) -> FloatArray:
    return np.bincount(clusters, weights=values, minlength=n_clusters).astype(np.float64)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite)


def _statistics(cases: Sequence[ScoredCase]) -> FloatArray | None:
    if not cases or not all(case.statistics for case in cases):
        return None
    width = max(len(vector) for case in cases for vector in case.statistics)
    rows = np.zeros((len(cases), width))
    for position, case in enumerate(cases):
        for vector in case.statistics:
            rows[position, : len(vector)] += vector
        rows[position] /= len(case.statistics)
    return rows
