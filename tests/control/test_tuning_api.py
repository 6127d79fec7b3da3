"""Runs of tuning over REST: recipes refused or queued, pages, events by cursor, comparisons, who may do what."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.control.app import create_control
from penstock.spec.datasets import DatasetRow
from penstock.spec.tuning import RunEvent
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

ROOT = "/api/v1/tuning"
TOML = """\
name = "walks"
method = "lora"
[base]
model = "model:pocket"
[data]
train = "dataset:walks"
[output]
name = "walks"
"""


@pytest.fixture
def walks(furnished: Furnished) -> None:
    messages = [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "An hour."}]
    rows = [DatasetRow(id="r1", fields={"messages": messages})]
    furnished.services.datasets.create_from_rows("walks", rows, "chat")


def start(owner: AsgiClient, **body: Any) -> dict[str, Any]:
    made = owner.post_json(f"{ROOT}/runs", body or {"toml": TOML})
    assert made.status == 201, made.json()
    return dict(made.json())


def test_a_recipe_is_queued_with_its_references_pinned(owner: AsgiClient, walks: None) -> None:
    run = start(owner)
    assert (run["state"], run["base"], run["recipe"]["data"]["train"]) == (
        "queued",
        "model:pocket@2",
        "dataset:walks@1",
    )
    job = owner.get(f"/api/v1/jobs/{run['job']}").json()["job"]
    assert (job["kind"], job["spec"]["run"]) == ("tune.run", run["id"])
    recipe = {
        "name": "walks",
        "method": "full",
        "base": {"model": "model:pocket@1"},
        "data": {"train": "dataset:walks@1"},
        "output": {"name": "walks"},
    }
    second = start(owner, recipe=recipe)
    page = owner.get(f"{ROOT}/runs?limit=1").json()
    assert [row["id"] for row in page["rows"]] == [second["id"]]
    rest = owner.get(f"{ROOT}/runs?cursor={page['next_cursor']}").json()
    assert [row["id"] for row in rest["rows"]] == [run["id"]]
    assert owner.get(f"{ROOT}/runs?method=full").json()["rows"][0]["id"] == second["id"]
    assert owner.get(f"{ROOT}/runs/walks").json()["id"] == second["id"]
    differences = owner.get(f"{ROOT}/compare?run={run['id']}&run={second['id']}").json()["differences"]
    assert differences["method"] == ["lora", "full"]


def test_mistakes_in_a_recipe_are_told_with_their_lines(owner: AsgiClient) -> None:
    refused = owner.post_json(f"{ROOT}/runs", {"toml": TOML.replace('"lora"', '"lorra"')})
    assert refused.status == 400
    error = refused.json()["error"]
    assert error["code"] == "PS-1581"
    assert error["fields"]["problems"][0]["line"] == 2
    assert owner.post_json(f"{ROOT}/runs", {}).status == 400
    assert owner.post_json(f"{ROOT}/runs", {"toml": TOML}).status == 404, "there is no such dataset"


def test_events_curves_and_samples_come_while_it_trains(
    owner: AsgiClient, walks: None, furnished: Furnished
) -> None:
    run = start(owner)
    assert furnished.services.tuning is not None
    folder = furnished.services.tuning.folder(run["id"]).path
    folder.mkdir(parents=True)
    _tell(folder, RunEvent(kind="step", at_ns=1, step=1, values={"loss": 2.0}))
    first = owner.get(f"{ROOT}/runs/{run['id']}/events").json()
    assert [event["step"] for event in first["rows"]] == [1]
    assert not first["is_final"]
    detail = {"prompt": "How long?", "reference": "An hour."}
    _tell(folder, RunEvent(kind="sample", at_ns=2, step=2, text="A day.", detail=detail))
    second = owner.get(f"{ROOT}/runs/{run['id']}/events?after={first['next_after']}").json()
    assert [event["kind"] for event in second["rows"]] == ["sample"]
    assert owner.get(f"{ROOT}/runs/{run['id']}/curves").json()["curves"][0]["points"] == [[1, 2.0]]
    assert owner.get(f"{ROOT}/runs/{run['id']}/samples").json()["samples"][0]["reply"] == "A day."
    assert owner.get(f"{ROOT}/runs/{run['id']}/logs").json() == {"text": ""}


def test_a_run_is_stopped_resumed_and_deleted(owner: AsgiClient, walks: None) -> None:
    run = start(owner)
    path = f"{ROOT}/runs/{run['id']}"
    assert owner.send("DELETE", path).status == 409
    assert owner.post_json(f"{path}/stop", {}).json()["state"] == "stopped"
    assert owner.post_json(f"{path}/stop", {}).status == 409
    assert owner.post_json(f"{path}/resume", {}).json()["state"] == "queued"
    owner.post_json(f"{path}/stop", {})
    assert owner.send("DELETE", path).json() == {"deleted": run["id"]}
    assert owner.get(path).json()["error"]["code"] == "PS-1582"


def test_a_template_of_a_recipe_is_a_recipe(owner: AsgiClient, walks: None) -> None:
    text = owner.get(f"{ROOT}/recipe?method=lora&name=walks").json()["toml"]
    assert start(owner, toml=text)["name"] == "walks"


def test_looking_needs_another_permission_than_starting(furnished: Furnished, walks: None) -> None:
    client = AsgiClient(create_control(furnished.services), bearer=furnished.call_key)
    assert client.get(f"{ROOT}/runs").status == 403
    assert client.post_json(f"{ROOT}/runs", {"toml": TOML}).status == 403


def _tell(folder: Path, event: RunEvent) -> None:
    with (folder / "events.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(event) + b"\n")
