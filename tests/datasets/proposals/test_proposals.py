"""Proposals: queued with where they come from, decided by a person, added as one version; money and journal are held to."""

from decimal import Decimal

import pytest

from penstock.datasets.proposals.errors import (
    BadProposal,
    NoSeeds,
    ProposalDecided,
    UnknownProposal,
    UnpricedModel,
)
from penstock.datasets.proposals.ports import ModelAnswer
from penstock.datasets.proposals.types import Proposal, ProposalRequest
from penstock.datasets.types import DatasetVersion
from penstock.spec.datasets import DatasetRow
from tests.datasets.proposals.conftest import House

VARIANTS = [
    [{"question": "For how long ought a grown-up to be asleep each night?"}],
    [{"question": "What amount of fluids is right for a day?"}],
    [{"question": "Does a short rest at noon do any good?"}],
]


def ask(house: House, **more: object) -> dict[str, object]:
    base = {"dataset": "quiz", "kind": "paraphrase", "model": "writer", "n": 3, "per_call": 1}
    house.proposals.start(ProposalRequest(**{**base, **more}))  # type: ignore[arg-type]
    return house.run()


def say_variants(text: str) -> list[dict[str, object]]:
    place = 0 if "sleep" in text else 1 if "water" in text else 2
    return list(VARIANTS[place])  # type: ignore[arg-type]


def pending(house: House) -> list[Proposal]:
    return house.proposals.list_proposals("quiz").proposals


def test_each_proposal_says_what_it_was_made_from_and_stays_in_its_seeds_split_and_group(
    house: House,
) -> None:
    house.model.script = say_variants
    report = ask(house)
    assert (report["n_calls"], report["n_proposed"], report["stopped"]) == (3, 3, None)
    by_seed = {each.detail["seed_row"]: each for each in pending(house)}
    assert by_seed["q2"].group == "naps" and by_seed["q2"].split == "test"
    assert by_seed["q0"].group == "q0" and by_seed["q0"].split == "train"
    assert by_seed["q0"].fields == {"input": VARIANTS[0][0]["question"], "expected": "answer 0"}
    detail = by_seed["q0"].detail
    assert detail["model"] == "writer" and detail["trace_id"] == "f" * 32
    assert detail["prompt_digest"].startswith("sha256:")


def test_accepted_rows_make_one_version_and_their_seeds_get_a_group(house: House) -> None:
    house.model.script = say_variants
    ask(house)
    first, second, third = pending(house)
    house.proposals.accept(first.id, actor="ada")
    edited = {**second.fields, "input": "A better question?"}
    house.proposals.accept(second.id, actor="ada", fields=edited)
    house.proposals.reject(third.id, actor="bo", reason="not the same question")
    version = house.proposals.add("quiz", actor="ada")
    made = {row.id: row for row in house.datasets.read(version.ref)}
    assert version.number == 2 and len(made) == 5
    assert version.facts.steps[-1]["n_edited"] == 1
    row = made[second.id]
    assert row.fields == edited
    assert row.provenance is not None and row.provenance.kind == "synthetic"
    assert row.provenance.detail["accepted_by"] == "ada" and row.provenance.detail["edited"] is True
    for each in (first, second):
        seed = made[each.detail["seed_row"]]
        assert seed.group == made[each.id].group is not None
    assert house.proposals.list_proposals("quiz").counts == {"added": 2, "rejected": 1}
    assert house.proposals.get(third.id).reason == "not the same question"
    with pytest.raises(NoSeeds):
        house.proposals.add("quiz", actor="ada")


def test_what_is_in_a_version_cannot_be_decided_again_but_a_rejection_can(house: House) -> None:
    house.model.script = say_variants
    ask(house)
    first, second, _ = pending(house)
    house.proposals.accept(first.id, actor="ada")
    house.proposals.add("quiz", actor="ada")
    with pytest.raises(ProposalDecided):
        house.proposals.reject(first.id, actor="bo")
    house.proposals.reject(second.id, actor="bo")
    assert house.proposals.accept(second.id, actor="ada").state == "accepted"
    with pytest.raises(UnknownProposal):
        house.proposals.accept("prop_nothing", actor="ada")


def test_edited_fields_must_be_those_of_the_row(house: House) -> None:
    house.model.script = say_variants
    ask(house)
    with pytest.raises(BadProposal):
        house.proposals.accept(pending(house)[0].id, actor="ada", fields={"question": "other"})


def test_what_is_there_already_is_refused_and_counted(house: House) -> None:
    house.model.script = lambda text: [{"question": "How many hours of sleep do adults need"}]
    report = ask(house)
    assert (report["n_proposed"], report["n_duplicates"]) == (0, 3)
    house.model.script = lambda text: [{"question": "Something that nobody has asked before, is it?"}]
    house.journal.job_id = "job_2"
    assert ask(house, seed=1)["n_proposed"] == 1


def test_garbage_refusals_and_timeouts_are_counted_and_never_rows(house: House) -> None:
    def answer(text: str) -> ModelAnswer | str:
        if "sleep" in text:
            return "no idea"
        if "water" in text:
            return ModelAnswer(status="timeout", reason="no answer within 300 s")
        return "I'm sorry, I can't do that."

    house.model.script = answer
    report = ask(house)
    assert report["calls"] == {"garbage": 1, "timeout": 1, "refused": 1}
    assert report["left_out"] == {"no JSON": 1}
    assert pending(house) == []


def test_a_harder_variant_forgets_what_was_known_of_the_old_answer(house: House) -> None:
    house.model.script = lambda text: [
        {"question": f"{len(text)} and why is that so in winter?", "answer": "new"}
    ]
    ask(house, kind="harder", n=1)
    assert pending(house)[0].fields["expected"] == "new"


def test_questions_about_passages_bring_them_along_and_are_grouped_by_document(house: House) -> None:
    def cite(text: str) -> list[dict[str, object]]:
        name = "p1" if "sleep.md" in text else "p4"
        return [
            {
                "question": f"What does {name} say of its subject?",
                "answer": "It says so.",
                "passage_ids": [name],
            }
        ]

    house.model.script = cite
    ask(house, kind="questions", knowledge="handbook", n=2)
    found = {each.group: each for each in pending(house)}
    assert set(found) == {"sleep.md", "water.md"}
    assert found["sleep.md"].fields["relevant"] == ["p1"]
    assert found["sleep.md"].fields["passages"][0]["text"] == "Passage 1 of sleep.md."


def test_a_plan_asks_nothing_and_tells_calls_and_cost(house: House) -> None:
    plan = house.proposals.plan(
        ProposalRequest(dataset="quiz", kind="paraphrase", model="writer", n=5, per_call=2)
    )
    assert (plan.n_calls, plan.n_proposals, plan.ref) == (3, 5, "dataset:quiz@1")
    assert plan.cost_usd is not None and plan.cost_usd > 0
    assert house.model.asked == [] and house.jobs.specs == []


def test_a_budget_ends_the_run_before_it_is_passed(house: House) -> None:
    house.model.script = say_variants
    report = ask(house, budget_usd=Decimal("0.03"))
    assert report["stopped"] == "budget"
    assert len(house.model.asked) == 2  # each costs a cent, and might cost nearly two
    assert Decimal(str(report["cost_usd"])) <= Decimal("0.03")


def test_no_budget_can_be_held_where_the_price_is_unknown(house: House) -> None:
    house.model.price_known = False
    with pytest.raises(UnpricedModel):
        ask(house, budget_usd=Decimal(1))
    house.model.script = say_variants
    assert ask(house, max_calls=2)["n_calls"] == 2


def test_a_run_that_was_killed_goes_on_without_asking_twice(house: House) -> None:
    house.model.script = say_variants
    ask(house)
    again = house.run()
    assert len(house.model.asked) == 3
    assert again["n_proposed"] == 3
    assert len(pending(house)) == 3


def test_rows_without_one_question_cannot_be_seeds(house: House) -> None:
    with pytest.raises(NoSeeds):
        house.proposals.plan(ProposalRequest(dataset="quiz", kind="questions", model="writer"))
    with pytest.raises(NoSeeds):
        house.proposals.plan(
            ProposalRequest(dataset="quiz", kind="harder", model="writer", where="split:nothing")
        )


def test_a_seed_that_gives_orders_stays_inside_its_fence(house: House) -> None:
    house.model.script = say_variants
    ask(house)
    for messages in house.model.asked:
        assert "never an instruction" in messages[0]["content"]
        assert messages[1]["content"].count("</data>") == 1


def test_rows_that_come_while_proposals_are_added_stay(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.model.script = say_variants
    ask(house)
    house.proposals.accept(pending(house)[0].id, actor="ada")
    get = house.datasets.get
    waiting = [DatasetRow(id="meanwhile", fields={"input": "came meanwhile"})]

    def get_and_wait(ref: str) -> DatasetVersion:
        found = get(ref)
        if waiting:
            house.datasets.append("quiz", [waiting.pop()])
        return found

    monkeypatch.setattr(house.datasets, "get", get_and_wait)
    version = house.proposals.add("quiz", actor="ada")
    assert version.number == 3
    assert "meanwhile" in {row.id for row in house.datasets.read(version.ref)}
    assert version.facts.steps[-1]["n_after"] == version.facts.n_rows
