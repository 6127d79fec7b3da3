"""Models over REST: what is registered is seen at once, cards are Markdown, pulls are jobs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import penstock.data
from penstock.control.app import create_control
from penstock.store.blobs import BlobStore
from penstock.tuning.catalogue import ModelCatalogue
from penstock.tuning.models import ModelService
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

POCKET = Path(penstock.data.__path__[0]) / "pocket"


@pytest.fixture
def with_models(furnished: Furnished, tmp_path: Path) -> AsgiClient:
    registry = furnished.services.registry
    service = ModelService(registry, BlobStore(str(tmp_path / "blobs")), work=tmp_path / "work")
    services = dataclasses.replace(furnished.services, models=ModelCatalogue(registry), model_service=service)
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
    assert with_models.get("/api/v1/models/little/verification").json() == {"checks": []}


def pull(client: AsgiClient, body: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json"}
    return client.send("POST", "/api/v1/models", body=json.dumps(body).encode(), headers=headers)


def test_a_pull_is_a_job_and_nonsense_is_refused(with_models: AsgiClient) -> None:
    assert pull(with_models, {"name": "m", "source": "somewhere"}).status == 400
    assert pull(with_models, {"name": "M!", "source": "folder:/x"}).status == 400


def test_versions_are_verified_one_at_a_time(
    with_models: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing gigabytes in many requests at once would hold every thread of control for minutes."""
    seen: list[int] = []

    def verify(*_: object, **__: object) -> list[object]:
        if not seen:
            seen.append(0)
            seen[0] = with_models.get("/api/v1/models/little/verification").status
        return []

    monkeypatch.setattr(ModelService, "verify", verify)
    assert with_models.get("/api/v1/models/little/verification").status == 200
    assert seen == [409]
    assert with_models.get("/api/v1/models/little/verification").status == 200
