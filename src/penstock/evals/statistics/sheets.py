"""All cases of one score as arrays, made once and then cut by slices: a figure of a slice looks at no case again.

Everything that an estimate or a comparison says of cases is counted here, of scored and missing ones alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.evals.statistics.samples import Sample
from penstock.evals.statistics.types import FloatArray, Measure, ScoredCase, is_by_case

_UNDEFINED, _ERROR, _SKIPPED = 0, 1, 2
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Cases in their order; one row each."""

    ids: NDArray[np.object_]
    means: FloatArray
    """Of the repeats that were scored; 0 where none was."""
    n_values: Ints
    """Usable values of each case."""
    n_given: Ints
    """Values of each case, usable or not."""
    squares: FloatArray
    """Summed squares of the differences between repeats and their mean."""
    missing: Ints
    """Repeats without a usable value."""
    why: Ints
    """Were the case without any value, why."""
    sums: FloatArray | None
    has_sums: NDArray[np.bool_]
    clusters: Ints
    is_named: NDArray[np.bool_]
    """Whether the case names a group."""
    parts: Mapping[str, Ints]
    """Where the cases of each slice stand; empty once the sheet was cut."""

    def take(self, at: Ints) -> "Sheet":
        """Return some of the cases, in this order."""
        return Sheet(
            ids=self.ids[at],
            means=self.means[at],
            n_values=self.n_values[at],
            n_given=self.n_given[at],
            squares=self.squares[at],
            missing=self.missing[at],
            why=self.why[at],
            sums=None if self.sums is None else self.sums[at],
            has_sums=self.has_sums[at],
            clusters=self.clusters[at],
            is_named=self.is_named[at],
            parts={},
        )

    def part(self, name: str | None) -> "Sheet":
        """Return the cases of a slice, all for None."""
        return self if name is None else self.take(self.parts.get(name, np.empty(0, dtype=np.int64)))

    def units(self, measure: Measure) -> "Sheet":
        """Return the cases as what is counted: each alone where the measure describes the service, else as they are."""
        if not is_by_case(measure) or not self.has_groups:
            return self
        numbers = np.arange(len(self.ids), dtype=np.int64)
        return replace(self, clusters=numbers, is_named=np.zeros(len(self.ids), dtype=np.bool_))

    @property
    def has_groups(self) -> bool:
        """Whether any case names a group."""
        return bool(self.is_named.any())

    def sample(self) -> Sample:
        """Return the scored cases."""
        at = np.flatnonzero(self.n_values)
        known, clusters = np.unique(self.clusters[at], return_inverse=True)
        is_grouped = len(known) < len(at)
        sums = self.sums if len(at) and bool(self.has_sums[at].all()) else None
        return Sample(
            ids=self.ids[at].tolist(),
            values=self.means[at],
            sums=None if sums is None else sums[at],
            clusters=clusters.astype(np.int64) if is_grouped else np.arange(len(at), dtype=np.int64),
            n_clusters=len(known),
            is_grouped=is_grouped,
            has_groups=bool(self.is_named[at].any()),
            is_single=bool(np.all(self.n_given[at] == 1)),
        )

    def count_missing(self) -> tuple[int, int, int]:
        """Return how many cases have no score at all: undefined, failed, not asked."""
        n_undefined, n_errors, n_skipped = np.bincount(self.why[self.n_values == 0], minlength=3).tolist()
        return n_undefined, n_errors, n_skipped

    def scored_shares(self) -> FloatArray:
        """Return the share of each case's repeats that have a score."""
        return np.asarray(self.n_values / np.maximum(self.n_values + self.missing, 1), dtype=np.float64)

    def deviation_within(self) -> float | None:
        """Return the standard deviation between repeats of one case, pooled; None where no case has two scores."""
        freedom = int(np.sum(np.maximum(self.n_values - 1, 0)))
        return float(np.sqrt(self.squares.sum() / freedom)) if freedom else None

    def mean_with(self, bound: float) -> float | None:
        """Return the mean were every missing score `bound`; None without cases."""
        if not len(self.ids):
            return None
        missing = np.where(self.n_values + self.missing == 0, 1, self.missing)
        means = (self.means * self.n_values + missing * bound) / (self.n_values + missing)
        return float(means.mean())


def make_sheet(cases: "Sequence[ScoredCase] | Sheet") -> Sheet:
    """Return cases as a sheet; a sheet is returned as it is. Values that are no finite number count for nothing."""
    if isinstance(cases, Sheet):
        return cases
    n = len(cases)
    n_given = _count(cases, lambda case: len(case.values))
    flat = np.fromiter(chain.from_iterable(case.values for case in cases), np.float64)
    owner = np.repeat(np.arange(n), n_given)
    is_finite = np.isfinite(flat)
    if not is_finite.all():
        flat, owner = flat[is_finite], owner[is_finite]
    n_values = np.bincount(owner, minlength=n).astype(np.int64)
    means = np.bincount(owner, weights=flat, minlength=n) / np.maximum(n_values, 1)
    squares = np.bincount(owner, weights=(flat - means[owner]) ** 2, minlength=n).astype(np.float64)
    n_errors = _count(cases, lambda case: case.n_errors)
    n_undefined = _count(cases, lambda case: case.n_undefined)
    n_skipped = _count(cases, lambda case: case.n_skipped)
    # an error weighs more than undefined, that more than not asked; values that are no numbers are the scorer's error
    is_error = (n_errors > 0) | (n_given > 0)
    sums, has_sums = _sum_statistics(cases)
    clusters, is_named = _number_clusters(cases)
    ids = np.empty(n, dtype=object)
    ids[:] = [case.case_id for case in cases]
    return Sheet(
        ids=ids,
        means=means,
        n_values=n_values,
        n_given=n_given,
        squares=squares,
        missing=n_undefined + n_errors + n_skipped + n_given - n_values,
        why=np.where(is_error, _ERROR, np.where(n_undefined > 0, _UNDEFINED, _SKIPPED)).astype(np.int64),
        sums=sums,
        has_sums=has_sums,
        clusters=clusters,
        is_named=is_named,
        parts=_find_parts(cases),
    )


def pair_sheets(baseline: Sheet, candidate: Sheet) -> tuple[Sheet, Sheet, int, int]:
    """Return the cases that both sides have a score for, in the candidate's order, and how many only one side has."""
    left, right = np.flatnonzero(baseline.n_values), np.flatnonzero(candidate.n_values)
    ours, theirs = candidate.ids[right].tolist(), baseline.ids[left].tolist()
    n_left, n_right = len(left), len(right)
    if ours != theirs:
        known = dict(zip(theirs, left.tolist(), strict=True))
        common = [
            (known[case_id], at) for case_id, at in zip(ours, right.tolist(), strict=True) if case_id in known
        ]
        left = np.array([at for at, _ in common], dtype=np.int64)
        right = np.array([at for _, at in common], dtype=np.int64)
    return baseline.take(left), candidate.take(right), n_left - len(left), n_right - len(right)


def _count(cases: Sequence[ScoredCase], read: Callable[[ScoredCase], int]) -> Ints:
    return np.fromiter(map(read, cases), np.int64, len(cases))


def _number_clusters(cases: Sequence[ScoredCase]) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the cluster of each case, and whether it names a group; a case without one is a cluster of its own."""
    n = len(cases)
    is_named = np.fromiter((case.group is not None for case in cases), np.bool_, n)
    if not is_named.any():
        return np.arange(n, dtype=np.int64), is_named
    numbers: dict[tuple[bool, str], int] = {}
    keys = ((True, case.group) if case.group is not None else (False, case.case_id) for case in cases)
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, n), is_named


def _find_parts(cases: Sequence[ScoredCase]) -> dict[str, Ints]:
    alike: dict[tuple[str, ...], list[int]] = {}
    for position, case in enumerate(cases):
        if case.slices:
            alike.setdefault(tuple(case.slices), []).append(position)
    found: dict[str, list[int]] = {}
    for slices, positions in alike.items():
        for name in dict.fromkeys(slices):
            found.setdefault(name, []).extend(positions)
    return {name: np.sort(np.array(positions, dtype=np.int64)) for name, positions in found.items()}


def _sum_statistics(cases: Sequence[ScoredCase]) -> tuple[FloatArray | None, NDArray[np.bool_]]:
    """Return the mean of the vectors of each case, and which cases have one."""
    has_sums = np.fromiter((bool(case.statistics) for case in cases), np.bool_, len(cases))
    if not has_sums.any():
        return None, has_sums
    vectors: list[Any] = [vector for case in cases for vector in case.statistics]
    width = max(map(len, vectors))
    if min(map(len, vectors)) < width:
        vectors = [[*vector, *[0.0] * (width - len(vector))] for vector in vectors]
    n_vectors = _count(cases, lambda case: len(case.statistics))
    rows = np.array(vectors, dtype=np.float64).reshape(len(vectors), width)
    if bool(np.all(n_vectors == 1)):
        return rows, has_sums
    summed = np.zeros((len(cases), width))
    np.add.at(summed, np.repeat(np.arange(len(cases)), n_vectors), rows)
    return summed / np.maximum(n_vectors, 1)[:, None], has_sums
