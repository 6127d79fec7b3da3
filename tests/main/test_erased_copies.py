"""Copies that people made of traffic: answers of evaluations go with their traces, versions of datasets are named."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from penstock.datasets.cases import row_to_case
from penstock.evals.store import EvaluationStore
from penstock.evals.types import EvaluationRecord
from penstock.main.dataset_rooms import create_datasets
from penstock.main.erasure_copies import clear_evaluations, find_in_datasets
from penstock.registry.service import Registry
from penstock.spec.datasets import DatasetRow, Provenance
from penstock.spec.evaluations import EvaluationSpec, TargetSpec
from penstock.spec.home import Home
from penstock.store.blobs import BlobStore
from penstock.store.control.tables.evaluations import evaluation_outputs, evaluation_scores
from penstock.store.spans.upkeep_types import Subject
from penstock.traces.upkeep.types import Doomed

THEIRS, OTHERS = f"{1:032x}", f"{2:032x}"


@pytest.fixture
def doomed() -> Doomed:
    return Doomed(
        subject=Subject(kind="user", id="mira"), trace_ids=[THEIRS], calls=[], covers=lambda _: False
    )


def test_answers_that_were_got_in_erased_traces_go_with_their_scores(
    control_engine: Engine, doomed: Doomed
) -> None:
    output = {
        "evaluation_id": "eval_1", "repeat": 0, "position": 0, "status": "ok", "is_final": True, "is_cached": False,
        "finished_ns": 1, "content": "{}",
    }  # fmt: skip
    score = {
        "evaluation_id": "eval_1", "repeat": 0, "name": "exact", "stamp": "exact@1", "status": "scored",
        "is_free": True, "content": "{}",
    }  # fmt: skip
    with control_engine.begin() as connection:
        for case, trace in (("a", THEIRS), ("b", OTHERS)):
            connection.execute(insert(evaluation_outputs).values(**output, case_id=case, trace_id=trace))
            connection.execute(insert(evaluation_scores).values(**score, case_id=case))
    told = clear_evaluations(control_engine, doomed)
    assert (told.place, told.removed) == ("evaluations", {"answers": 1, "scores": 1})
    with control_engine.connect() as connection:
        assert connection.execute(select(evaluation_outputs.c.case_id)).scalars().all() == ["b"]
        assert connection.execute(select(evaluation_scores.c.case_id)).scalars().all() == ["b"]
    assert clear_evaluations(control_engine, doomed).removed == {"answers": 0, "scores": 0}


def test_versions_of_datasets_that_hold_rows_of_theirs_are_named(
    control_engine: Engine, tmp_path: Path, doomed: Doomed
) -> None:
    home = Home(root=tmp_path)
    blobs = BlobStore(str(home.blobs))
    datasets = create_datasets(home, Registry(control_engine, blobs), blobs)
    rows = [
        DatasetRow(
            id=trace[-1],
            fields={"input": "my knee hurts"},
            provenance=Provenance(kind="trace", source=f"{trace}/{1:016x}"),
        )
        for trace in (THEIRS, OTHERS)
    ]
    datasets.create_from_rows("asked", rows, "cases")
    datasets.create_from_rows("written", [DatasetRow(id="1", fields={"input": "by hand"})], "cases")
    told = find_in_datasets(datasets, control_engine, doomed)
    assert told.note == "not removed, versions are immutable: dataset:asked@1 holds 1 row of theirs"
    store = EvaluationStore(control_engine)
    for number, (ref, kept) in enumerate(
        (("dataset:asked@1", rows), ("dataset:asked@1", rows[1:]), ("dataset:written@1", rows[:1]))
    ):
        spec = EvaluationSpec(name="e", target=TargetSpec(model="m"), dataset=ref)
        record = EvaluationRecord(id=f"eval_{number}", name="e", state="done", spec=spec, dataset=ref)
        store.add_with_cases(record, [row_to_case(row, "cases") for row in kept])
    told = find_in_datasets(datasets, control_engine, doomed)
    assert told.note is not None
    assert told.note.endswith("evaluations that copied such rows as cases: eval_0 (`penstock eval delete`)")
    store.delete("eval_0")
    told = find_in_datasets(datasets, control_engine, doomed)
    assert "evaluations" not in (told.note or "")
