"""How a deployment comes to be, changes and goes: step by step, over processes that do as they are told."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from penstock.base.errors import UpstreamUnavailable
from penstock.deploy.deployments.errors import ProofFailed
from penstock.deploy.deployments.reconciler import DRAIN_LIMIT_S, LOST_PAUSE_S, PROOF_TRIES, START_S
from penstock.deploy.deployments.rows import deployment_providers
from penstock.store.control.engine import open_control
from tests.deploy.deployments.yard import Killed, Yard


@pytest.fixture
def engine(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Engine]:
    shutil.copy(migrated_sqlite, tmp_path / "control.db")
    opened = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def yard(engine: Engine) -> Yard:
    return Yard(engine)


def test_it_serves_only_after_it_has_been_proven_and_is_published_then(yard: Yard) -> None:
    yard.deploy()
    yard.is_starting = True
    yard.settle()
    assert (yard.proofs, yard.published) == ([], [])
    assert yard.service.get("live").state == "starting"
    yard.is_starting = False
    yard.settle()
    record = yard.service.get("live")
    assert (record.state, record.version, record.is_settled) == ("ready", "model:pocket@1", True)
    assert record.proof == {"engines": [{"passed": True}]}
    assert len(yard.published) == 1
    assert yard.kinds() == ["created", "starting", "proving", "ready"]


def test_what_fails_its_proof_takes_no_traffic_and_leaves_no_process(yard: Yard) -> None:
    yard.proof_error = ProofFailed("It says other things.", checks={"logprobs": 3.0})
    yard.deploy()
    yard.settle()
    record = yard.service.get("live")
    assert (record.state, record.version) == ("failed", None)
    assert record.error is not None
    assert record.error["code"] == "PS-2737"
    assert (yard.running, yard.published, yard.service.live()) == ({}, [], [])


def test_a_swap_that_fails_its_proof_leaves_the_old_one_serving(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    (old,) = yard.running
    yard.proof_error = ProofFailed("It says other things.")
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    yard.settle()
    record = yard.service.get("live")
    assert (record.state, record.version) == ("ready", "model:pocket@1")
    assert record.error is not None
    assert list(yard.running) == [old]
    assert yard.kinds()[-1] == "refused"


def test_the_old_one_ends_only_when_no_gateway_needs_it(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    (old,) = yard.running
    yard.followed_ns = 0
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    yard.settle()
    record = yard.service.get("live")
    assert (record.version, record.previous, record.is_settled) == ("model:pocket@2", "model:pocket@1", False)
    assert old in yard.running
    yard.followed_ns = 10**30
    yard.settle()
    assert old not in yard.running
    assert yard.service.get("live").is_settled


def test_an_old_one_that_calls_never_leave_ends_in_the_end_and_that_is_told(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.followed_ns = 0
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    yard.settle()
    yard.now_ns += int(DRAIN_LIMIT_S * 1e9)
    yard.settle()
    assert [seat.model.number for seat in yard.running.values()] == [2]
    assert "still under way" in yard.service.events("live").rows[0].text


def test_an_engine_that_dies_again_and_again_is_given_up(yard: Yard) -> None:
    yard.deploy()
    yard.is_starting = True
    yard.settle()
    yard.restarts = dict.fromkeys(yard.running, 3)
    yard.settle()
    record = yard.service.get("live")
    assert record.error is not None
    assert (record.state, record.error["code"], yard.running) == ("failed", "PS-4738", {})


def test_an_engine_that_is_not_ready_in_time_is_given_up(yard: Yard) -> None:
    yard.deploy()
    yard.is_starting = True
    yard.settle()
    yard.now_ns += int(START_S["embedded"] * 1e9)
    yard.settle()
    assert yard.service.get("live").state == "failed"


def test_an_engine_that_goes_away_while_it_is_proven_is_asked_again_but_not_for_ever(yard: Yard) -> None:
    yard.proof_error = UpstreamUnavailable("It is gone.")
    yard.deploy()
    yard.settle()
    assert len(yard.proofs) == PROOF_TRIES
    assert yard.service.get("live").state == "failed"


def test_it_follows_its_alias_and_tries_what_was_refused_once(yard: Yard) -> None:
    yard.deploy(model="model:pocket@prod", follow=True)
    yard.settle()
    yard.aliases["prod"] = 2
    yard.settle()
    assert yard.service.get("live").version == "model:pocket@2"
    yard.proof_error = ProofFailed("It says other things.")
    yard.aliases["prod"] = 3
    yard.settle()
    assert yard.proofs.count("model:pocket@3") == 1
    assert yard.service.get("live").version == "model:pocket@2"
    yard.proof_error = None
    yard.aliases["prod"] = 4
    yard.settle()
    assert yard.service.get("live").version == "model:pocket@4"


def test_one_that_does_not_follow_stays_where_it_is(yard: Yard) -> None:
    yard.deploy(model="model:pocket@prod")
    yard.settle()
    yard.aliases["prod"] = 2
    yard.settle()
    assert yard.service.get("live").version == "model:pocket@1"


def test_a_rollback_serves_what_served_before_and_follows_nothing(yard: Yard) -> None:
    yard.deploy(model="model:pocket@prod", follow=True)
    yard.settle()
    yard.aliases["prod"] = 2
    yard.settle()
    yard.service.roll_back("live", actor="mira")
    yard.settle()
    record = yard.service.get("live")
    assert (record.version, record.previous, record.spec.follow) == (
        "model:pocket@1",
        "model:pocket@2",
        False,
    )


def test_a_change_that_is_overtaken_never_serves(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.is_starting = True
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    yard.settle()
    yard.service.swap("live", {"model": "model:pocket@3"}, actor="mira")
    yard.is_starting = False
    yard.settle()
    assert yard.service.get("live").version == "model:pocket@3"
    assert yard.proofs == ["model:pocket@1", "model:pocket@3"]
    assert [seat.model.number for seat in yard.running.values()] == [3]


def test_a_deleted_one_loses_its_route_before_its_processes(yard: Yard) -> None:
    yard.deploy(replicas=2)
    yard.settle()
    assert len(yard.running) == 2
    yard.followed_ns = 0
    yard.service.delete("live", actor="mira")
    assert yard.service.live() == []
    yard.settle()
    assert len(yard.running) == 2
    yard.followed_ns = 10**30
    yard.settle()
    assert (yard.running, yard.service.list().total) == ({}, 0)
    assert yard.kinds()[-3:] == ["leaving", "stopped", "gone"]


def test_one_that_is_deleted_while_it_starts_goes_too(yard: Yard) -> None:
    yard.deploy()
    yard.is_starting = True
    yard.settle()
    yard.service.delete("live", actor="mira")
    yard.settle()
    assert (yard.running, yard.service.list().total) == ({}, 0)


def test_one_that_is_asked_for_again_while_it_goes_stays(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.followed_ns = 0
    yard.service.delete("live", actor="mira")
    yard.settle()
    yard.deploy(model="model:pocket@2")
    yard.followed_ns = 10**30
    yard.settle()
    record = yard.service.get("live")
    assert (record.state, record.version) == ("ready", "model:pocket@2")
    assert len(yard.running) == 1


def test_a_process_that_serves_is_put_back_where_somebody_took_its_file(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.running.clear()
    yard.settle()
    assert len(yard.running) == 1


def test_a_crash_of_what_serves_is_told_once(yard: Yard) -> None:
    yard.deploy()
    worker = yard.settle()
    yard.restarts = dict.fromkeys(yard.running, 1)
    worker.look_once()
    worker.look_once()
    assert yard.kinds().count("crashed") == 1
    assert yard.service.get("live").state == "ready"


@pytest.mark.parametrize("die_at", range(9))
def test_killed_after_any_effect_the_next_one_goes_on_to_the_same_end(yard: Yard, die_at: int) -> None:
    """A start, a swap and an end are each killed at every effect on the outside; nothing is left over or done wrong."""
    yard.deploy()
    yard.settle()
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    yard.die_at = die_at
    try:
        yard.settle()
    except Killed:
        yard.die_at = None
        yard.settle()
    yard.die_at = None
    assert yard.service.get("live").version == "model:pocket@2"
    assert [seat.model.number for seat in yard.running.values()] == [2]
    assert yard.service.get("live").swaps == 1
    yard.service.delete("live", actor="mira")
    yard.die_at = die_at
    try:
        yard.settle()
    except Killed:
        yard.die_at = None
        yard.settle()
    assert (yard.running, yard.service.list().total) == ({}, 0)


def test_what_serves_stays_as_it_was_proven_whatever_is_asked_for(yard: Yard) -> None:
    yard.deploy(slots=2)
    yard.settle()
    (old,) = yard.running
    before = yard.running[old]
    yard.is_starting = True
    yard.service.swap("live", {"slots": 9, "context_length": 64, "model": "model:pocket@2"}, actor="mira")
    yard.settle()
    assert yard.running[old] == before
    assert [seat.slots for name, seat in yard.running.items() if name != old] == [9]
    yard.is_starting, yard.proof_error = False, ProofFailed("It says other things.")
    yard.settle()
    assert yard.running == {old: before}


def test_one_that_goes_and_comes_back_as_a_server_keeps_its_rows_until_the_server_serves(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.service.delete("live", actor="mira")
    yard.deploy(engine="server", url="http://10.0.0.5:8000/v1")
    (provider,) = deployment_providers(yard.service.live())
    assert (provider.local, provider.base_url) == (True, "http://127.0.0.1/engine-live~1/v1")
    yard.settle()
    (provider,) = deployment_providers(yard.service.live())
    assert (provider.local, provider.base_url) == (False, "http://10.0.0.5:8000/v1")


def test_a_fault_that_nobody_foresaw_stops_no_other_deployment_and_is_told(yard: Yard) -> None:
    yard.fault_of = "aaa"
    yard.deploy("aaa")
    yard.deploy("zzz")
    worker = yard.reconciler()
    for _ in range(20):
        worker.look_once()
    assert yard.service.get("zzz").state == "ready"
    assert yard.service.get("aaa").state == "failed"
    assert yard.kinds("aaa")[-1] == "failed"
    assert "TypeError" in yard.service.events("aaa").rows[0].text
    assert "engine-aaa~1" not in yard.running


def test_an_alias_that_is_gone_is_told_once_and_asked_for_now_and_then(yard: Yard) -> None:
    yard.deploy(model="model:pocket@prod", follow=True)
    yard.settle()
    yard.lost = {"prod"}
    worker = yard.reconciler()
    before = yard.n_pins
    for _ in range(10):
        worker.look_once()
    assert yard.n_pins == before + 1
    assert yard.kinds()[-1] == "lost"
    assert yard.service.get("live").error is not None
    yard.now_ns += int(LOST_PAUSE_S * 1e9)
    worker.look_once()
    assert (yard.n_pins, yard.kinds().count("lost")) == (before + 2, 1)
    yard.lost = set()
    yard.now_ns += int(LOST_PAUSE_S * 1e9)
    worker.look_once()
    assert yard.service.get("live").error is None
    assert yard.kinds()[-1] == "back"


def test_a_look_at_what_stands_no_more_changes_nothing(yard: Yard) -> None:
    yard.deploy()
    yard.settle()
    yard.service.swap("live", {"model": "model:pocket@2"}, actor="mira")
    worker = yard.reconciler()
    stale = yard.stored("live")
    while stale.standing.coming is None:
        worker.look_once()
        stale = yard.stored("live")
    yard.settle()
    settled, kinds = yard.stored("live"), yard.kinds()
    worker._look_safely(stale)
    assert (yard.stored("live"), yard.kinds()) == (settled, kinds)


def test_a_slow_proof_holds_up_no_other_deployment(yard: Yard) -> None:
    yard.deploy("aaa")
    yard.held = threading.Event()
    stop = threading.Event()
    loop = threading.Thread(target=yard.reconciler().run, args=(stop,))
    loop.start()
    try:
        assert yard.reached.wait(240)  # the proof of aaa has begun and does not end
        yard.deploy("zzz")
        for _ in range(4000):
            if yard.service.get("zzz").state == "ready":
                break
            time.sleep(0.05)
        assert yard.service.get("zzz").state == "ready"
        assert yard.service.get("aaa").state == "proving"
        yard.held.set()
        for _ in range(4000):
            if yard.service.get("aaa").state == "ready":
                break
            time.sleep(0.05)
        assert yard.service.get("aaa").state == "ready"
    finally:
        yard.held.set()
        stop.set()
        loop.join()


def test_a_rollback_brings_the_adapters_and_the_context_back_too(yard: Yard) -> None:
    yard.deploy(adapters=("model:ad@1",), context_length=64)
    yard.settle()
    yard.service.swap(
        "live",
        {"model": "model:pocket@2", "adapters": ["model:ad@2"], "context_length": 128},
        actor="mira",
    )
    yard.settle()
    yard.service.roll_back("live", actor="mira")
    yard.settle()
    (seat,) = yard.running.values()
    assert (seat.model.label, [each.label for each in seat.adapters]) == ("model:pocket@1", ["model:ad@1"])
    assert seat.context_length == 64


def test_what_serves_but_is_down_is_told_in_the_record(yard: Yard) -> None:
    yard.deploy(replicas=2)
    yard.settle()
    assert (yard.service.get("live").n_ready, yard.service.get("live").n_processes) == (2, 2)
    yard.restarts = dict.fromkeys(yard.running, 4)
    yard.is_starting = True
    record = yard.service.get("live")
    assert (record.state, record.n_ready, record.n_processes, record.n_restarts) == ("ready", 0, 2, 8)
