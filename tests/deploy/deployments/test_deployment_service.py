"""What may be asked for, and what is refused before anything starts."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy.deployments.errors import (
    DeploymentInvalid,
    DeploymentTaken,
    NoWayBack,
    RouteTaken,
    UnknownDeployment,
)
from penstock.store.control.engine import open_control
from tests.deploy.deployments.yard import Yard


@pytest.fixture
def yard(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Yard]:
    shutil.copy(migrated_sqlite, tmp_path / "control.db")
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    yield Yard(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "members",
    [
        {"name": "Live"},
        {"name": "a" * 49},
        {"name": "a@1"},
        {"replicas": 0},
        {"weight": 0},
        {"slots": 0},
        {"context_length": 3},
        {"route": "a@1"},
        {"route": "model:pocket"},
        {"engine": "server"},
        {"url": "http://10.0.0.5/v1"},
        {"engine": "server", "url": "http://10.0.0.5/v1", "replicas": 2},
        {"engine": "server", "url": "localhost:8000/v1"},
        {"engine": "server", "url": "http://h:99999/v1"},
        {"engine": "server", "url": "http://user:word@h:8000/v1"},
        {"engine": "server", "url": "http://h:8000/v1?x=1"},
        {"engine": "server", "url": "http://h:8000/v1", "served_name": "a\nb"},
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(yard: Yard, members: dict[str, Any]) -> None:
    with pytest.raises(DeploymentInvalid):
        yard.deploy(**members)
    assert yard.service.list().total == 0


def test_what_the_engine_cannot_serve_is_refused_at_once(yard: Yard) -> None:
    yard.unservable = {1}
    with pytest.raises(DeploymentInvalid, match="cannot be served"):
        yard.deploy()


def test_a_name_keeps_to_its_model(yard: Yard) -> None:
    yard.deploy()
    with pytest.raises(DeploymentTaken, match="--name"):
        yard.deploy(model="model:other@1")
    yard.deploy(model="model:pocket@2")
    assert yard.stored("live").epoch == 2


def test_a_route_that_is_kept_elsewhere_is_left_alone(yard: Yard) -> None:
    yard.owners = {"support": "settings"}
    with pytest.raises(RouteTaken, match="settings"):
        yard.deploy(route="support")
    yard.deploy("one", route="pocket")
    with pytest.raises(RouteTaken, match="'one'"):
        yard.deploy("two", model="model:other@1", route="pocket")
    yard.deploy("two", route="pocket")


def test_a_provider_of_somebodys_is_never_replaced(yard: Yard) -> None:
    yard.owners = {"engine-live/*": "settings"}
    with pytest.raises(RouteTaken, match="engine-live"):
        yard.deploy()


def test_a_change_names_only_what_can_be_changed(yard: Yard) -> None:
    yard.deploy()
    with pytest.raises(DeploymentInvalid, match="engine"):
        yard.service.swap("live", {"engine": "vllm"}, actor="mira")
    with pytest.raises(DeploymentInvalid, match="replicas"):
        yard.service.swap("live", {"replicas": "many"}, actor="mira")


def test_there_is_no_way_back_from_the_first_one(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    with pytest.raises(NoWayBack):
        yard.service.roll_back("live", actor="mira")


def test_an_unknown_name_is_told_with_the_nearest(yard: Yard) -> None:
    yard.deploy()
    with pytest.raises(UnknownDeployment) as caught:
        yard.service.get("lvie")
    assert "live" in str(caught.value.hint)


def test_lists_go_on_after_the_last_name(yard: Yard) -> None:
    for name in ("a", "b", "c"):
        yard.deploy(name)
    page = yard.service.list(limit=2)
    assert ([each.name for each in page.rows], page.next_cursor, page.total) == (["a", "b"], "b", 3)
    assert [each.name for each in yard.service.list(after="b").rows] == ["c"]
