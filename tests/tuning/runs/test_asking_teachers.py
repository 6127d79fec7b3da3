"""Before a teacher is paid the run is looked at; what was paid is kept with the run, not with the job that asked."""

from pathlib import Path

import msgspec
import pytest

from penstock.datasets.cases import row_to_case
from penstock.spec.tuning import Recipe
from penstock.tuning.runs.errors import RunRefused
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.runs.ports import RunContext
from penstock.tuning.runs.preparing import Preparation, PreparedRun, PreparingParts
from tests.tuning.runs.workshop import Context, Workshop, make_rows


class Teacher:
    """Counts what is asked; answers with the dataset of walks."""

    def __init__(self) -> None:
        self.n_asked = 0

    def __call__(self, recipe: Recipe, context: RunContext, arriving: Path) -> str:
        assert arriving.parent.name == "replies", "it lies in the run's folder, whichever job drives it"

        def ask() -> list[str]:
            self.n_asked += 1
            return ["a reply"]

        assert context.step("teacher calls from 0", {"asked": recipe.data.train}, ask) == ["a reply"]
        return "dataset:walks@1"


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


def freeze(workshop: Workshop, teacher: Teacher, *, run: str = "run_a", **data: object) -> PreparedRun:
    parts = PreparingParts(
        assets=workshop.assets, models=workshop.models, as_case=row_to_case, distil=teacher
    )
    recipe = workshop.recipe(method="distill", distill={"teacher": "big"}, data=data)
    return Preparation(parts).freeze(run, recipe, RunFolder(workshop.root, run), Context())


def test_contaminated_prompts_are_refused_before_the_teacher_is_asked(
    workshop: Workshop, teacher: Teacher
) -> None:
    workshop.assets.rows["dataset:proof"] = [make_rows(5)]
    with pytest.raises(RunRefused, match="contaminated"):
        freeze(workshop, teacher, guard_against=["dataset:proof"])
    assert teacher.n_asked == 0


def test_prompts_without_an_answer_are_looked_at_and_asked(workshop: Workshop, teacher: Teacher) -> None:
    open_rows = [
        msgspec.structs.replace(row, fields={"messages": row.fields["messages"][:1]}) for row in make_rows(8)
    ]
    workshop.assets.rows["dataset:open"] = [open_rows]
    assert freeze(workshop, teacher, train="dataset:open").frozen.n_train_rows > 8  # those that it answered
    workshop.assets.rows["dataset:proof"] = [make_rows(3)]
    with pytest.raises(RunRefused, match="contaminated"):
        freeze(workshop, teacher, run="run_b", train="dataset:open", guard_against=["dataset:proof"])
    assert teacher.n_asked == 1


def test_another_job_of_the_same_run_asks_for_nothing_that_was_answered(
    workshop: Workshop, teacher: Teacher
) -> None:
    freeze(workshop, teacher)
    freeze(workshop, teacher)  # `Context.step` remembers nothing: a resumed run is another job
    assert teacher.n_asked == 1
    freeze(workshop, teacher, run="run_b")
    assert teacher.n_asked == 2
