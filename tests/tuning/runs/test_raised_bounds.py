"""Runs that are given more than they were begun with go on; what they learn does not change by it. And what a record keeps of its plan."""

import pytest

from penstock.base.errors import InvalidInput
from penstock.spec.tuning import BudgetPart
from penstock.tuning.runs.errors import RunEnded
from penstock.tuning.runs.preparing import read_frozen
from tests.tuning.runs.workshop import Workshop


def test_a_run_whose_minutes_were_used_up_goes_on_with_more(workshop: Workshop) -> None:
    workshop.wish(reason="budget", code=3)
    cut = workshop.finish(workshop.begin(budget={"max_minutes": 1}))
    assert cut.result is not None
    assert cut.result["ended"] == "budget"
    with pytest.raises(RunEnded):
        workshop.service.reopen(cut.id)
    with pytest.raises(RunEnded):
        workshop.service.reopen(cut.id, budget=BudgetPart(max_minutes=1))
    workshop.wish()
    again = workshop.service.reopen(cut.id, budget=BudgetPart(max_minutes=5))
    assert again.recipe["budget"] == {"max_minutes": 5}
    done = workshop.finish(again)
    assert done.result is not None
    assert (done.state, done.result["ended"], done.frozen_digest) == ("done", "done", cut.frozen_digest)
    assert len(workshop.models.registered) == 2


def test_the_trainer_is_told_of_the_raised_bound_and_goes_on_from_its_checkpoint(workshop: Workshop) -> None:
    record = workshop.begin(budget={"max_minutes": 1, "max_disk_gb": 5})
    workshop.wish(kind="kill", at=7, starts=3)
    with pytest.raises(Exception, match="killed"):
        workshop.finish(record)
    workshop.wish()
    workshop.service.reopen(record.id, budget=BudgetPart(max_minutes=9))
    assert workshop.service.where_it_goes_on(record.id) == "from the checkpoint of step 6"
    done = workshop.finish(workshop.store.get_by_id(record.id))
    frozen = read_frozen(workshop.folder(done))
    assert frozen is not None
    assert frozen.recipe.budget == BudgetPart(max_minutes=9, max_disk_gb=5)
    assert frozen.digest == done.frozen_digest
    assert workshop.models.registered[0]["weights"] == workshop.weights()


@pytest.mark.parametrize("more", [BudgetPart(max_minutes=0.5), BudgetPart(max_disk_gb=-1)])
def test_bounds_are_only_raised_and_stay_sane(workshop: Workshop, more: BudgetPart) -> None:
    record = workshop.begin(budget={"max_minutes": 1})
    workshop.store.update(record.id, state="stopped")
    with pytest.raises(InvalidInput, match="max_"):
        workshop.service.reopen(record.id, budget=more)
    assert workshop.store.get_by_id(record.id).state == "stopped"


def test_a_record_keeps_the_plan_that_was_made_of_it(workshop: Workshop) -> None:
    record = workshop.begin()
    assert record.plan is None, "its rows are not counted yet"
    done = workshop.finish(record)
    assert done.plan is not None
    assert done.plan["n_steps"] == done.n_steps == 12
    assert done.plan["memory_bytes"] > 0
    assert done.plan["time_basis"] in {"estimated", "earlier"}
    assert done.plan.get("preflight") is None, "the record has it already"
