"""What an erasure does about copies that people made of traffic: answers of evaluations go, rows of datasets are told.

A dataset version is immutable and others rest on its digest: rows are taken out by a person, with a new version. So are the
cases of an evaluation, which copies them from such a version: figures rest on all of them. The receipt names the versions and
the evaluations, so that nobody believes them gone.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, Engine, and_, delete, select

from penstock.base.errors import PenstockError
from penstock.datasets.service import DatasetService
from penstock.store.control.tables.evaluations import (
    evaluation_cases,
    evaluation_outputs,
    evaluation_scores,
    evaluations,
)
from penstock.traces.upkeep.types import Doomed, PlaceReport

_IN_ONE_QUERY = 500
_FROM_TRAFFIC = frozenset({"trace", "feedback"})
MAX_NAMED = 20


def clear_evaluations(engine: Engine, doomed: Doomed) -> PlaceReport:
    """Delete answers that evaluations got in the subject's traces, with their scores, whose reasons may quote them."""
    with engine.begin() as connection:
        n_outputs, n_scores = _forget_answers(connection, doomed.trace_ids)
    note = "their figures are of the cases that are left" if n_outputs else None
    return PlaceReport(place="evaluations", removed={"answers": n_outputs, "scores": n_scores}, note=note)


def find_in_datasets(datasets: DatasetService, engine: Engine, doomed: Doomed) -> PlaceReport:
    """Name the versions of datasets that hold rows made from the subject's traces, and evaluations that copied such rows.

    Nothing is removed.
    """
    wanted = frozenset(doomed.trace_ids)
    found: list[str] = []
    copied: dict[str, list[str]] = {}
    for dataset in datasets.list_datasets():
        for version in datasets.list_versions(dataset.name):
            row_ids = _rows_of(datasets, version.ref, wanted)
            if row_ids is None:
                found.append(f"{version.ref} cannot be read")
            elif row_ids:
                n_rows = len(row_ids)
                found.append(f"{version.ref} holds {n_rows} {'row' if n_rows == 1 else 'rows'} of theirs")
                copied[version.ref] = row_ids
    if not found:
        return PlaceReport(place="datasets", removed={"rows": 0})
    note = f"not removed, versions are immutable: {_shorten(found)}"
    with engine.connect() as connection:
        names = _evaluations_with(connection, copied)
    if names:
        note += (
            f"; evaluations that copied such rows as cases: {_shorten(names, ', ')} (`penstock eval delete`)"
        )
    return PlaceReport(place="datasets", removed={"rows": 0}, note=note)


def _shorten(names: Sequence[str], separator: str = "; ") -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return separator.join(names[:MAX_NAMED]) + more


def _evaluations_with(connection: Connection, copied: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the evaluations whose cases are among these rows of versions, those scored again from their answers too."""
    sets: set[str] = set()
    for ref, row_ids in copied.items():
        of_version = select(evaluations.c.set_id).where(evaluations.c.dataset == ref)
        for start in range(0, len(row_ids), _IN_ONE_QUERY):
            part = evaluation_cases.c.case_id.in_(row_ids[start : start + _IN_ONE_QUERY])
            query = select(evaluation_cases.c.set_id).where(evaluation_cases.c.set_id.in_(of_version), part)
            sets.update(connection.execute(query.distinct()).scalars())
    found: list[str] = []
    for set_id in sorted(sets):
        query = select(evaluations.c.id).where(evaluations.c.set_id == set_id)
        found += connection.execute(query).scalars()
    return sorted(found)


def _forget_answers(connection: Connection, trace_ids: Collection[str]) -> tuple[int, int]:
    wanted = list(trace_ids)
    n_outputs = n_scores = 0
    outputs, scores = evaluation_outputs.c, evaluation_scores.c
    for start in range(0, len(wanted), _IN_ONE_QUERY):
        part = outputs.trace_id.in_(wanted[start : start + _IN_ONE_QUERY])
        keys = connection.execute(
            select(outputs.evaluation_id, outputs.case_id, outputs.repeat).where(part)
        ).all()
        for key in keys:
            is_its = and_(
                scores.evaluation_id == key.evaluation_id,
                scores.case_id == key.case_id,
                scores.repeat == key.repeat,
            )
            n_scores += connection.execute(delete(evaluation_scores).where(is_its)).rowcount
        n_outputs += connection.execute(delete(evaluation_outputs).where(part)).rowcount
    return n_outputs, n_scores


def _rows_of(datasets: DatasetService, ref: str, trace_ids: Collection[str]) -> list[str] | None:
    """Return the ids of the rows that came from these traces; None for a version that cannot be read."""
    try:
        facts = datasets.facts(ref)
        if facts.sources and not any(source.get("kind") in _FROM_TRAFFIC for source in facts.sources):
            return []
        return [
            row.id
            for row in datasets.read(ref)
            if row.provenance is not None
            and row.provenance.kind in _FROM_TRAFFIC
            and row.provenance.source.partition("/")[0] in trace_ids
        ]
    except PenstockError:
        return None
