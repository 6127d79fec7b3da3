"""Cleaning, sheets and proposals over REST: reports change nothing, steps make versions, permissions hold."""

from typing import Any

import pytest

from penstock.base.clock import now_ns
from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished, furnished_root, house
from tests.fixtures.reviewed import NAME, furnish_datasets, furnish_proposals

__all__ = ["furnished_root", "house"]


class Caller:
    """Asks with the owner's key."""

    def __init__(self, found: Furnished) -> None:
        self._client = AsgiClient(create_control(found.services), bearer=found.owner_key)

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and JSON, or text."""
        reply = self._client.get(f"/api/v1{path}")
        return reply.status, reply.json() if reply.text[:1] in "{[" else reply.text

    def post(self, path: str, value: Any) -> tuple[int, Any]:
        """Return status and JSON."""
        reply = self._client.post_json(f"/api/v1{path}", value)
        return reply.status, reply.json()


@pytest.fixture(scope="module")
def call(house: Furnished) -> Caller:
    furnish_datasets(house.services)
    furnish_proposals(house.engine, now_ns=now_ns())
    return Caller(house)


def test_a_report_tells_and_changes_nothing(call: Caller) -> None:
    status, told = call.post(f"/datasets/{NAME}/dedupe", {"version": "1", "report": True})
    assert (status, told["version"], told["n_removed"]) == (200, None, 1)
    assert told["report"]["clusters"][0]["kept"] == "q000"
    _, listed = call.get(f"/datasets/{NAME}")
    assert len(listed["versions"]) == 3


def test_scrubbing_makes_a_version_whose_step_is_on_record(call: Caller, house: Furnished) -> None:
    name = "scrubbed"
    furnish_datasets(house.services, name)
    status, told = call.post(f"/datasets/{name}/scrub", {"kinds": ["email"], "note": "before sharing"})
    assert status == 200
    step = told["version"]["facts"]["steps"][-1]
    assert (step["step"], step["replaced"]) == ("scrub", {"email": 1})
    _, personal = call.get(f"/datasets/{name}/personal")
    assert personal["findings"] == []
    _, again = call.post(f"/datasets/{name}/scrub", {"kinds": ["email"]})
    assert again["version"] is None


def test_decontamination_needs_a_split_that_is_there(call: Caller) -> None:
    status, told = call.post(f"/datasets/{NAME}/decontaminate", {"held": "dev"})
    assert status == 400
    assert "has no split 'dev'" in told["error"]["message"]
    status, told = call.post(f"/datasets/{NAME}/decontaminate", {"held": "test", "report": True})
    assert (status, told["report"]["n_contacts"]) == (200, 0)


def test_a_dataset_loses_what_another_one_holds(call: Caller, house: Furnished) -> None:
    name = "losing"
    furnish_datasets(house.services, name)
    rows = list(house.services.datasets.read(name, "id:q002"))
    house.services.datasets.create_from_rows("exam", rows, "cases")
    status, told = call.post(f"/datasets/{name}/decontaminate", {"against": ["exam"]})
    assert (status, told["n_removed"]) == (200, 1)
    assert "q002" not in {row.id for row in house.services.datasets.read(told["version"]["ref"])}
    _, sheet = call.get("/datasets/exam/sheet?shared=true")
    assert {each["ref"]: each["n_rows"] for each in sheet["shared"]}[f"dataset:{name}@4"] == 0


def test_sheets_come_as_json_and_as_markdown(call: Caller) -> None:
    _, sheet = call.get(f"/datasets/{NAME}/sheet?version=3")
    assert sheet["license"] == "CC-BY-4.0"
    assert sheet["personal"]["email"] == 1
    assert sheet["provenance"] == {"file": 5, "trace": 1}
    assert [each["label"] for each in sheet["ancestors"]] == [f"dataset:{NAME}@2", f"dataset:{NAME}@1"]
    status, text = call.get(f"/datasets/{NAME}/sheet?version=3&form=markdown")
    assert status == 200
    assert "jo@example.org" not in text
    assert "Other datasets were not compared: unknown." in text


def test_a_plan_tells_the_cost_and_a_start_queues_a_job(call: Caller, house: Furnished) -> None:
    wish = {"kind": "harder", "model": "pocket", "n": 2, "per_call": 1}
    status, told = call.post(f"/datasets/{NAME}/propose", {**wish, "plan": True})
    assert (status, told["plan"]["n_calls"]) == (200, 2)
    status, told = call.post(f"/datasets/{NAME}/propose", wish)
    assert status == 202
    job = house.services.jobs.get(told["job"])
    assert (job.kind, job.spec["dataset"]) == ("dataset.propose", f"dataset:{NAME}@3")


def test_proposals_are_listed_decided_and_added(call: Caller, house: Furnished) -> None:
    name = "reviewed"
    furnish_datasets(house.services, name)
    furnish_proposals(house.engine, name, prefix="mine")
    _, page = call.get(f"/dataset-proposals?dataset={name}&limit=2")
    assert [each["id"] for each in page["proposals"]] == ["mine_0", "mine_1"]
    assert page["next_cursor"] == "mine_1"
    assert call.post("/dataset-proposals/mine_0/accept", {})[1]["state"] == "accepted"
    assert call.post("/dataset-proposals/mine_1/reject", {"reason": "no"})[1]["state"] == "rejected"
    status, version = call.post(f"/datasets/{name}/proposals/add", {})
    assert (status, version["number"]) == (200, 4)
    status, told = call.post("/dataset-proposals/mine_0/reject", {})
    assert (status, told["error"]["code"]) == (409, "PS-3230")
    assert call.get("/dataset-proposals/nothing")[0] == 404


def test_a_key_that_calls_models_alone_decides_nothing(call: Caller, house: Furnished) -> None:
    client = AsgiClient(create_control(house.services), bearer=house.call_key)
    assert client.get("/api/v1/dataset-proposals").status == 403
    assert client.post_json("/api/v1/dataset-proposals/prop_0/accept", {}).status == 403
