"""Models over REST: what is registered is seen at once, cards are Markdown, pulls are jobs."""

import dataclasses
import json
from typing import Any

import pytest

from penstock.control.app import create_control
from penstock.tuning.catalogue import ModelCatalogue
from penstock.tuning.compress.service import CompressService
from penstock.tuning.compress.store import MeasurementStore
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


@pytest.fixture
def queued() -> list[tuple[str, dict[str, Any]]]:
    """The work that was asked for."""
    return []


@pytest.fixture
def with_models(furnished: Furnished, queued: list[tuple[str, dict[str, Any]]]) -> AsgiClient:
    registry = furnished.services.registry

    class Queue:
        def submit(self, kind: str, spec: dict[str, Any]) -> str:
            queued.append((kind, spec))
            return f"job_{len(queued)}"

    work = CompressService(MeasurementStore(furnished.engine), registry, Queue(), lambda _: None)  # type: ignore[arg-type,return-value]
    services = dataclasses.replace(furnished.services, models=ModelCatalogue(registry), compressing=work)
    registry.register("model", "little", {"kind": "embedding", "license": "MIT"}, note="by hand")
    return AsgiClient(create_control(services), bearer=furnished.owner_key)


def test_models_are_listed_and_shown(with_models: AsgiClient) -> None:
    page = with_models.get("/api/v1/models?text=little").json()
    (row,) = page["rows"]
    assert "pocket" in [each["id"] for each in page["models"]]  # names that can stand in `model`, as before
    assert (row["name"], row["kind"], page["next_cursor"]) == ("little", "embedding", None)
    shown = with_models.get("/api/v1/models/little?version=1").json()
    assert (shown["version"]["label"], shown["version"]["note"]) == ("model:little@1", "by hand")
    assert with_models.get("/api/v1/models/nobody").status == 404
    assert with_models.get("/api/v1/models?limit=0").status in (400, 422)


def test_a_card_is_markdown_and_the_graph_has_the_version(with_models: AsgiClient) -> None:
    card = with_models.get("/api/v1/models/little/card")
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.body.decode().startswith("# little\n")
    graph = with_models.get("/api/v1/models/little/lineage").json()
    assert [node["label"] for node in graph["nodes"]] == ["model:little@1"]
    assert with_models.get("/api/v1/models/little/aliases").json()["aliases"] == {}


def pull(client: AsgiClient, body: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json"}
    return client.send("POST", "/api/v1/models", body=json.dumps(body).encode(), headers=headers)


def test_a_pull_is_a_job_and_nonsense_is_refused(with_models: AsgiClient) -> None:
    assert pull(with_models, {"name": "m", "source": "somewhere"}).status == 400
    assert pull(with_models, {"name": "M!", "source": "folder:/x"}).status == 400


def test_verifying_a_version_is_a_job_over_that_very_version(
    with_models: AsgiClient, queued: list[tuple[str, dict[str, Any]]]
) -> None:
    """Hashing gigabytes in requests would hold the threads of control for minutes."""
    asked = with_models.post_json("/api/v1/model-verifications", {"model": "little"})
    assert (asked.status, asked.json()) == (202, {"job": "job_1"})
    with_parity = {"model": "model:little@1", "parity": True}
    assert with_models.post_json("/api/v1/model-verifications", with_parity).status == 202
    told = [(kind, spec["model"], spec["parity"]) for kind, spec in queued]
    assert told == [("verify", "model:little@1", False), ("verify", "model:little@1", True)]
    assert all(spec["actor"].startswith("admin") for _, spec in queued)
    assert with_models.post_json("/api/v1/model-verifications", {"model": "nobody"}).status == 404
    assert with_models.post_json("/api/v1/model-verifications", {"model": "prompt:triage"}).status == 400
    assert len(queued) == 2
