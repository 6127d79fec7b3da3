"""What an erasure does about copies that people made of traffic: answers of evaluations go, rows of datasets are told.

A dataset version is immutable and others rest on its digest: rows are taken out by a person, with a new version. The receipt
names the versions, so that nobody believes them gone.
"""

from collections.abc import Collection

from sqlalchemy import Connection, Engine, and_, delete, select

from penstock.base.errors import PenstockError
from penstock.datasets.service import DatasetService
from penstock.store.control.tables.evaluations import evaluation_outputs, evaluation_scores
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


def find_in_datasets(datasets: DatasetService, doomed: Doomed) -> PlaceReport:
    """Name the versions of datasets that hold rows made from the subject's traces; nothing is removed."""
    wanted = frozenset(doomed.trace_ids)
    found: list[str] = []
    for dataset in datasets.list_datasets():
        for version in datasets.list_versions(dataset.name):
            n_rows = _count_rows(datasets, version.ref, wanted)
            if n_rows is None:
                found.append(f"{version.ref} cannot be read")
            elif n_rows:
                found.append(f"{version.ref} holds {n_rows} {'row' if n_rows == 1 else 'rows'} of theirs")
    if not found:
        return PlaceReport(place="datasets", removed={"rows": 0})
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    note = f"not removed, versions are immutable: {'; '.join(found[:MAX_NAMED])}{more}"
    return PlaceReport(place="datasets", removed={"rows": 0}, note=note)


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


def _count_rows(datasets: DatasetService, ref: str, trace_ids: Collection[str]) -> int | None:
    """Return how many rows came from these traces; None for a version that cannot be read."""
    try:
        facts = datasets.facts(ref)
        if facts.sources and not any(source.get("kind") in _FROM_TRAFFIC for source in facts.sources):
            return 0
        return sum(
            1
            for row in datasets.read(ref)
            if row.provenance is not None
            and row.provenance.kind in _FROM_TRAFFIC
            and row.provenance.source.partition("/")[0] in trace_ids
        )
    except PenstockError:
        return None
