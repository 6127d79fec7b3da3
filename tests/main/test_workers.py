"""Several gateway workers on one address: each counts as ready by itself, though any of them may answer."""

import dataclasses
import time
from pathlib import Path

from penstock.main.children import Child, answers_ok
from penstock.main.home_files import create_home
from penstock.main.instance import Addresses
from penstock.main.rooms import Rooms
from penstock.main.up import plan_children
from penstock.spec.home import Home
from tests.fixtures.ports import free_port
from tests.main.fleet import stand_in, wait_until


def test_an_answer_on_a_shared_port_is_not_enough(home: Home, tmp_path: Path) -> None:
    """The worker beside it answers; it is ready only when it has said so itself."""
    create_home(home)
    port, folder = free_port(), tmp_path / "ready"
    other = Child(stand_in("first", port, tmp_path / "notes"), logs=home.logs)
    silent = stand_in("second", port, tmp_path / "notes")
    child = Child(dataclasses.replace(silent, ready_folder=folder), logs=home.logs)
    other.start(time.monotonic())
    try:
        wait_until(other.check_ready, what="the first worker")
        child.process = other.process  # it has a process, and its port answers
        assert not child.check_ready()
        folder.mkdir()
        (folder / str(child.pid)).touch()
        assert child.check_ready()
        child.forget()
        assert list(folder.iterdir()) == []
    finally:
        other.kill()


def test_each_of_two_workers_is_known_to_serve_and_one_goes_on_alone(home: Home) -> None:
    create_home(home)
    rooms = Rooms(home, environ={})
    rooms.publish_snapshot()
    rooms.close()
    addresses = Addresses(gateway_port=free_port())
    specs = [spec for spec in plan_children(home, addresses, 2) if spec.name.startswith("gateway")]
    assert {spec.port for spec in specs} == {addresses.gateway_port}
    workers = [Child(spec, logs=home.logs) for spec in specs]
    try:
        for worker in workers:
            worker.start(time.monotonic())
        for worker in workers:
            wait_until(worker.check_ready, what=worker.spec.name)
        assert {path.name for path in home.ready.iterdir()} == {str(worker.pid) for worker in workers}
        workers[0].kill()
        workers[0].forget()
        assert not workers[0].check_ready()
        assert [path.name for path in home.ready.iterdir()] == [str(workers[1].pid)]
        wait_until(
            lambda: answers_ok("127.0.0.1", addresses.gateway_port, "/readyz"), what="the other worker"
        )
        workers[1].ask_to_stop()
        wait_until(lambda: workers[1].exit_status() is not None, what="the end")
        assert list(home.ready.iterdir()) == []
    finally:
        for worker in workers:
            worker.kill()
