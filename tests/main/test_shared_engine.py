"""The engine that hosts what `prod` names: what it takes up, what it refuses, and where a kill leaves it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.base.errors import UpstreamUnavailable
from penstock.deploy.deployments.errors import ProofFailed
from penstock.deploy.deployments.types import SeatState
from penstock.main import shared_engine
from penstock.main.doctor import examine
from penstock.main.engine_files import (
    RETRY_S,
    EngineFile,
    SharedEngine,
    list_engines,
    read_shared,
    settle_engines,
    write_engine,
    write_shared,
)
from penstock.main.home_files import create_home
from penstock.main.instance import own_home
from penstock.main.shared_engine import START_S, SharedEngineKeeper
from penstock.spec.home import Home
from penstock.store.control.engine import open_control


@dataclass
class Around:
    """Registry, prover, gateways and processes of a home, as a test wants them."""

    home: Home
    prod: dict[str, int] = field(default_factory=lambda: {"pocket": 1})
    failed: dict[str, str] = field(default_factory=dict)
    """Models that do not load in a new process."""
    failed_before: dict[str, str] = field(default_factory=dict)
    """Models that did not load in the first one."""
    now_ns: int = 1
    unproven: set[str] = field(default_factory=set)
    gone: bool = False
    states: dict[str, SeatState] = field(default_factory=dict)
    proven: list[str] = field(default_factory=list)
    published: int = 0
    followed: bool = True

    def keeper(self) -> SharedEngineKeeper:
        rooms: Any = SimpleNamespace(
            home=self.home,
            internal_key="ps-internal",
            shared_models=lambda: dict(self.prod),
            registry=SimpleNamespace(resolve=self.resolve),
        )
        return SharedEngineKeeper(rooms, prover=self, gateways=self, clock=lambda: self.now_ns)  # type: ignore[arg-type]

    def resolve(self, reference: str) -> Any:
        asset, _, number = reference.partition("@")
        return SimpleNamespace(
            asset=asset, number=int(number), digest=f"sha256:{'a' * 64}", content={"context_length": 64}
        )

    def prove_model(self, _url: str, name: str, model: Any) -> dict[str, Any]:
        if self.gone:
            raise UpstreamUnavailable("It is gone.")
        self.proven.append(model.label)
        if model.label in self.unproven:
            raise ProofFailed(f"{model.label} says other things.")
        return {"passed": True, "name": name}

    def publish(self, *, actor: str, note: str) -> int:
        self.published += 1
        return self.published

    def have_followed(self, _snapshot_ns: int) -> bool:
        return self.followed

    def look_at(self, _home: Home, child: str) -> SeatState:
        return self.states.get(child, SeatState(status="ready", url=f"http://{child}/v1"))

    # -- what the tests ask

    def settle(self) -> None:
        keeper = self.keeper()
        for _ in range(12):
            keeper.look_once()

    def files(self) -> dict[str, dict[str, int] | None]:
        return {file.child: file.models for file in list_engines(self.home)}

    @property
    def shared(self) -> SharedEngine:
        found = read_shared(self.home)
        assert found is not None
        return found


@pytest.fixture
def around(home: Home, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    create_home(home)
    shutil.copy(migrated_sqlite, home.control_db)
    engine = open_control(f"sqlite:///{home.control_db}")
    write_engine(home, EngineFile(child="engine", port=1, role="shared", models={"pocket": 1}))
    write_shared(home, SharedEngine(port=1))
    made = Around(home)
    monkeypatch.setattr(shared_engine, "look_at", made.look_at)

    def calls(url: str, _key: str) -> Any:
        failed = made.failed_before if url == "http://engine/v1" else made.failed
        return SimpleNamespace(demand=lambda _method, _path: {"failed": failed})

    monkeypatch.setattr(shared_engine, "EngineCalls", calls)
    with own_home(home):
        yield made
    engine.dispose()


def test_nothing_happens_while_prod_is_hosted(around: Around) -> None:
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}}
    assert around.published == 0


def test_a_moved_prod_is_proven_beside_the_present_engine_and_takes_its_place(around: Around) -> None:
    around.prod = {"pocket": 2, "minilm": 1}
    around.settle()
    assert around.files() == {"engine~2": {"pocket": 2, "minilm": 1}}
    assert around.shared.child == "engine~2"
    assert sorted(around.proven) == ["model:minilm@1", "model:pocket@2"]
    around.prod = {"pocket": 3, "minilm": 1}
    around.settle()
    assert around.files() == {"engine~3": {"pocket": 3, "minilm": 1}}
    assert around.proven.count("model:minilm@1") == 1  # what has not changed is not proven again


def test_the_former_engine_stays_while_a_call_still_needs_it(around: Around) -> None:
    around.followed = False
    around.prod = {"pocket": 2}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}, "engine~2": {"pocket": 2}}
    assert around.shared.child == "engine~2"
    assert list(around.shared.leaving) == ["engine"]
    around.followed = True
    around.settle()
    assert around.files() == {"engine~2": {"pocket": 2}}
    assert around.shared.leaving == {}


def test_a_version_that_is_not_what_was_registered_is_refused_and_the_others_are_taken_up(
    around: Around,
) -> None:
    around.prod = {"pocket": 2, "minilm": 1}
    around.unproven = {"model:pocket@2"}
    around.settle()
    assert list(around.files().values()) == [{"pocket": 1, "minilm": 1}]
    assert around.shared.refused == {"pocket": 2}
    assert "model:pocket@2" in str(around.keeper().find_warning())
    assert around.proven.count("model:pocket@2") == 1
    around.prod = {"pocket": 3, "minilm": 1}
    around.settle()
    assert around.shared.refused == {}
    assert around.keeper().find_warning() is None
    assert list(around.files().values()) == [{"pocket": 3, "minilm": 1}]


def test_a_version_that_does_not_even_load_is_refused(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.failed = {"pocket": "its file is damaged"}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}}
    assert around.shared.refused == {"pocket": 2}


def test_an_engine_that_dies_again_and_again_is_given_up(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.states = {"engine~2": SeatState(status="waiting", n_restarts=3, last_words="no memory")}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}}
    assert around.shared.refused == {"pocket": 2}
    assert "no memory" in str(around.keeper().find_warning())


def test_an_engine_that_goes_away_while_it_is_proven_is_asked_again(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.gone = True
    keeper = around.keeper()
    keeper.look_once()
    keeper.look_once()
    assert around.shared.refused == {}
    around.gone = False
    around.settle()
    assert around.files() == {"engine~2": {"pocket": 2}}


def test_killed_between_the_switch_and_the_snapshot_the_next_one_publishes(around: Around) -> None:
    write_engine(around.home, EngineFile(child="engine~2", port=2, role="shared", models={"pocket": 2}))
    write_shared(around.home, SharedEngine(child="engine~2", port=2, leaving={"engine": 0}))
    around.prod = {"pocket": 2}
    around.settle()
    assert around.published == 1
    assert around.files() == {"engine~2": {"pocket": 2}}


def test_what_was_overtaken_before_it_served_never_does(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.states = {"engine~2": SeatState(status="starting")}
    around.settle()
    around.prod = {"pocket": 1}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}}
    assert around.proven == []
    around.prod = {"pocket": 2}
    around.settle()
    # the name of the one that was overtaken is not used again: it may not have ended yet
    assert around.files() == {"engine~3": {"pocket": 2}}


def test_the_doctor_tells_what_prod_names_and_nobody_serves(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.unproven = {"model:pocket@2"}
    around.settle()
    told = [each for each in examine(around.home) if each.what == "model:pocket"]
    assert [each.verdict for each in told] == ["bad"]
    assert "version 2" in told[0].detail


def test_a_swap_of_one_model_never_takes_another_down(around: Around) -> None:
    write_engine(
        around.home, EngineFile(child="engine", port=1, role="shared", models={"pocket": 1, "minilm": 1})
    )
    around.prod = {"pocket": 2, "minilm": 1}
    around.failed = {"minilm": "no memory"}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1, "minilm": 1}}
    assert "minilm: no memory" in str(around.keeper().find_warning())
    around.failed = {}
    around.now_ns += int(RETRY_S * 1e9)  # it was not the version's fault, so it is tried again
    around.settle()
    assert list(around.files().values()) == [{"pocket": 2, "minilm": 1}]
    assert around.keeper().find_warning() is None


def test_a_model_that_was_not_served_before_either_holds_up_no_swap(around: Around) -> None:
    write_engine(
        around.home, EngineFile(child="engine", port=1, role="shared", models={"pocket": 1, "minilm": 1})
    )
    around.prod = {"pocket": 2, "minilm": 1}
    around.failed = around.failed_before = {"minilm": "its file is damaged"}
    around.settle()
    assert list(around.files().values()) == [{"pocket": 2, "minilm": 1}]


def test_a_process_that_loses_a_model_is_not_tried_again_at_once_where_fewer_are_wanted(
    around: Around,
) -> None:
    write_engine(
        around.home, EngineFile(child="engine", port=1, role="shared", models={"pocket": 1, "minilm": 1})
    )
    around.prod = {"pocket": 1}
    around.failed = {"pocket": "no memory"}
    around.settle()
    assert around.files() == {"engine": {"pocket": 1, "minilm": 1}}
    assert around.shared.last == 2


def test_a_process_that_is_slow_to_start_is_told_as_that_and_tried_again(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.states = {"engine~2": SeatState(status="starting")}
    keeper = around.keeper()
    keeper.look_once()
    around.now_ns += int(START_S * 1e9) + 1
    keeper.look_once()
    warning = str(keeper.find_warning())
    assert "did not start" in warning
    assert "did not prove" not in warning
    around.now_ns += int(RETRY_S * 1e9)
    around.settle()
    assert list(around.files().values()) == [{"pocket": 2}]


def test_a_restart_serves_what_was_proven_last_and_remembers_what_was_refused(around: Around) -> None:
    around.prod = {"pocket": 2}
    around.unproven = {"model:pocket@2"}
    around.settle()
    settle_engines(around.home, 4711)
    assert around.files() == {"engine": {"pocket": 1}}
    assert "model:pocket@2" in str(around.keeper().find_warning())
    around.settle()
    assert around.files() == {"engine": {"pocket": 1}}
    assert around.proven.count("model:pocket@2") == 1


def test_what_prod_came_to_name_while_nothing_ran_is_proven_before_it_serves(around: Around) -> None:
    around.prod = {"pocket": 2}
    settle_engines(around.home, 4711)
    assert around.files() == {"engine": {"pocket": 1}}
    around.settle()
    assert around.proven == ["model:pocket@2"]
    assert around.files() == {"engine~2": {"pocket": 2}}


def test_a_call_that_never_ends_holds_up_no_further_move_of_prod(around: Around) -> None:
    around.followed = False
    around.prod = {"pocket": 2}
    around.settle()
    around.prod = {"pocket": 1}
    around.settle()
    assert around.shared.child == "engine~3"
    assert around.files() == {"engine": {"pocket": 1}, "engine~2": {"pocket": 2}, "engine~3": {"pocket": 1}}
    around.followed = True
    around.settle()
    assert around.files() == {"engine~3": {"pocket": 1}}
