"""Swaps on a running installation of two gateway workers, while four callers never stop asking, half of them streams.

The tests share the installation and run in the order of this file.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from penstock.spec.home import Home
from tests.main.engine_house import Callers, House, make_versions, running
from tests.main.fleet import is_alive, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("swaps")
    home = Home(root=folder / "home")
    home.root.mkdir()
    make_versions(home, folder / "models")
    with running(home) as house:
        yield house


def test_a_version_is_served_by_an_engine_of_its_own_once_it_is_proven(house: House) -> None:
    house.run("deploy", "model", "model:tiny@1", "--name", "tiny-live", "--no-follow")
    record = house.deployment("tiny-live")
    assert (record["state"], record["version"], record["route"]) == ("ready", "model:tiny@1", "tiny-live")
    (proof,) = record["proof"]["engines"]
    assert proof["passed"]
    assert proof["logprobs against a fresh load of the file"]["max_difference"] <= 0.02
    reply = house.ask("tiny-live")
    assert (reply.status, reply.version.partition(" ")[0]) == (200, "model:tiny@1")
    assert house.ask("tiny").version.startswith("model:tiny@2 ")
    for number in (1, 2):
        assert house.ask(f"model:tiny@{number}").version.startswith(f"model:tiny@{number} ")
    assert [child.status for child in house.children("engine-tiny-live")] == ["ready"]


def test_no_call_fails_while_a_deployment_is_swapped_three_times(house: House) -> None:
    before = {child.pid for child in house.children("engine-tiny-live")}
    with Callers(house, "tiny-live").asking() as callers:
        for number in (2, 1, 2):
            house.run("deploy", "swap", "tiny-live", "--model", f"model:tiny@{number}")
            assert house.deployment("tiny-live")["version"] == f"model:tiny@{number}"
    assert callers.failed() == []
    assert callers.versions() == {"tiny@1", "tiny@2"}
    wait_until(lambda: len(house.children("engine-tiny-live")) == 1, what="the former engines to end")
    assert not any(is_alive(pid) for pid in before if pid is not None)
    kinds = [each["kind"] for each in house.run("deploy", "events", "tiny-live", "--json").json]
    assert kinds.count("swapped") == 3


def test_an_engine_that_is_killed_while_it_comes_leaves_the_old_one_serving(house: House) -> None:
    with Callers(house, "tiny-live").asking() as callers:
        house.run("deploy", "swap", "tiny-live", "--model", "model:tiny@1", "--no-wait")
        old = house.children("engine-tiny-live")[0].name
        killed: set[int] = set()

        def is_given_up() -> bool:
            for child in house.children("engine-tiny-live"):
                if child.name != old and child.pid is not None and child.pid not in killed:
                    killed.add(child.pid)
                    os.kill(child.pid, signal.SIGKILL)
            return house.deployment("tiny-live")["error"] is not None

        wait_until(is_given_up, what="the new engine to be given up")
    record = house.deployment("tiny-live")
    assert (record["state"], record["version"], record["error"]["code"]) == (
        "ready",
        "model:tiny@2",
        "PS-4738",
    )
    assert callers.failed() == []
    assert callers.versions() == {"tiny@2"}
    wait_until(
        lambda: [child.name for child in house.children("engine-tiny-live")] == [old],
        what="the given up engine to end",
    )


def test_no_call_fails_when_control_is_killed_in_the_middle_of_a_swap(house: House) -> None:
    with Callers(house, "tiny-live").asking() as callers:
        house.run("deploy", "swap", "tiny-live", "--model", "model:tiny@1", "--no-wait")
        wait_until(lambda: len(house.children("engine-tiny-live")) == 2, what="the new engine to start")
        (control,) = house.children("control")
        assert control.pid is not None
        os.kill(control.pid, signal.SIGKILL)

        def is_swapped() -> bool:
            (now,) = house.children("control")
            if now.status != "ready" or now.pid == control.pid:
                return False
            record = house.deployment("tiny-live")
            return record["version"] == "model:tiny@1" and record.get("is_settled", True)

        wait_until(is_swapped, what="the swap to be finished by the next control", deadline_s=240)
    assert callers.failed() == []
    wait_until(lambda: len(house.children("engine-tiny-live")) == 1, what="the former engine to end")


def test_no_call_fails_when_prod_moves_and_the_shared_engine_follows(house: House) -> None:
    with Callers(house, "tiny").asking() as callers:
        for number in (1, 2):
            move = ("asset", "move", f"model:tiny@{number}", "--alias", "prod", "--reason", "a test")
            house.run(*move)
            wait_until(
                lambda n=number: house.ask("tiny").version.startswith(f"model:tiny@{n} "),
                what="prod to be served",
            )
    assert callers.failed() == []
    assert callers.versions() == {"tiny@1", "tiny@2"}
    wait_until(
        lambda: len([each for each in house.children("engine") if "-" not in each.name]) == 1,
        what="the former engines to end",
    )


def test_a_killed_engine_of_a_deployment_comes_back_and_that_is_told(house: House) -> None:
    (child,) = house.children("engine-tiny-live")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: house.ask("tiny-live").status == 200, what="the engine to be back")

    def is_told() -> bool:
        events = house.run("deploy", "events", "tiny-live", "--json").json
        return any(each["kind"] == "crashed" for each in events)

    wait_until(is_told, what="the crash to be told")


def test_a_deleted_deployment_leaves_no_route_and_no_process(house: House) -> None:
    pids = [child.pid for child in house.children("engine-tiny-live")]
    house.run("deploy", "delete", "tiny-live")
    assert house.ask("tiny-live").status == 404
    wait_until(lambda: not house.children("engine-tiny-live"), what="its process to end")
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    assert house.run("deploy", "list", "--json").json == []
    assert house.run("deploy", "events", "tiny-live", "--json").json[0]["kind"] == "gone"
