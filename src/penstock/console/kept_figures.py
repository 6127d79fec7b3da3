"""Figures of evaluations that are at rest, kept between pages: what was counted once is not counted for every filter and page.

A key changes with everything that could change the figure. Nothing is kept of an evaluation that still runs.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from penstock.evals.service import EvaluationService
from penstock.evals.statistics.estimates import estimate
from penstock.evals.types import EvaluationRecord
from penstock.spec.evaluations import Estimate

N_KEPT = 256
_Value = TypeVar("_Value")


class KeptFigures(Generic[_Value]):
    """Keeps the latest values. May be called from any thread; two threads that ask at once may both count."""

    def __init__(self, n_kept: int = N_KEPT) -> None:
        self._n_kept = n_kept
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[Any, ...], _Value] = OrderedDict()

    def get(self, records: tuple[EvaluationRecord, ...], make: Callable[[], _Value]) -> _Value:
        """Return what is kept for these records as they stand, else what `make` returns."""
        key = tuple(part for record in records for part in _state_of(record))
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        if all(is_at_rest(record) for record in records):
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._n_kept:
                    self._values.popitem(last=False)
        return value

    def has(self, records: tuple[EvaluationRecord, ...]) -> bool:
        """Whether there is a value for these records as they stand."""
        key = tuple(part for record in records for part in _state_of(record))
        with self._lock:
            return key in self._values


def is_at_rest(record: EvaluationRecord) -> bool:
    """Whether its figures can no longer change by themselves."""
    return record.state in {"done", "stopped", "failed"}


def estimate_main(evaluations: EvaluationService, record: EvaluationRecord) -> Estimate | None:
    """Return the estimate of an evaluation's first score, without its parts; None where it has no score."""
    if not record.columns:
        return None
    cases, column = evaluations.scored_cases(record.id, record.columns[0].name)
    return estimate(cases, column, name=column.name, figure=evaluations.figures.figure(record, column))


def _state_of(record: EvaluationRecord) -> tuple[Any, ...]:
    columns = tuple((column.name, column.stamp, column.added_ns) for column in record.columns)
    return record.id, record.state, record.finished_ns, record.n_outputs, columns
