"""The supervisor, over real processes that stand in for the real ones."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from penstock.main.children import ChildSpec
from penstock.main.errors import ChildFailed
from penstock.main.home_files import create_home, request_restart, restart_folder
from penstock.main.instance import Addresses, InstanceState, read_state
from penstock.main.supervisor import Supervisor, describe_exit
from penstock.spec.home import Home
from tests.fixtures.ports import free_port
from tests.main.fleet import is_alive, stand_in, wait_until


class Fleet:
    """A supervisor that runs in a thread."""

    def __init__(self, home: Home, children: list[ChildSpec], engines: list[ChildSpec]) -> None:
        create_home(home)
        self.home = home
        self.said: list[str] = []
        self.ready = threading.Event()
        self.supervisor = Supervisor(
            home=home,
            addresses=Addresses(),
            workers=1,
            version="test",
            children=children,
            say=self.said.append,
            find_engines=lambda: list(engines),
        )
        self.thread = threading.Thread(target=self.supervisor.run, args=(self.ready.set,))

    def pid(self, name: str) -> int:
        pid = next(child.pid for child in self.state.children if child.name == name)
        assert pid is not None
        return pid

    def pid_now(self, name: str) -> int:
        pid = next(child.pid for child in self.supervisor.children if child.spec.name == name)
        assert pid is not None
        return pid

    @property
    def state(self) -> InstanceState:
        state = read_state(self.home)
        assert state is not None
        return state


@contextmanager
def fleet(home: Home, *children: ChildSpec, engines: list[ChildSpec] | None = None) -> Iterator[Fleet]:
    running = Fleet(home, list(children), [] if engines is None else engines)
    running.thread.start()
    try:
        assert running.ready.wait(240), running.said
        yield running
    finally:
        running.supervisor.ask_to_stop()
        running.thread.join(240)
    assert not running.thread.is_alive()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def test_engines_start_and_end_as_they_are_meant_to_run_and_nothing_else_is_touched(
    home: Home, notes: Path
) -> None:
    engines = [stand_in("engine", free_port(), notes, is_vital=False)]
    with fleet(home, stand_in("control", free_port(), notes), engines=engines) as running:
        first, control = running.pid("engine"), running.pid("control")
        engines.append(stand_in("engine-live~1", free_port(), notes, is_vital=False))
        wait_until(
            lambda: (
                [(child.name, child.status) for child in running.state.children]
                == [("engine", "ready"), ("engine-live~1", "ready"), ("control", "ready")]
            ),
            what="the new engine",
        )
        del engines[0]
        wait_until(
            lambda: [child.name for child in running.state.children] == ["engine-live~1", "control"],
            what="the first one to end",
        )
        assert not is_alive(first)
        assert running.pid("control") == control
        os.kill(running.pid("engine-live~1"), signal.SIGKILL)
        wait_until(lambda: "engine-live~1 is back" in running.said, what="its return")
    assert [line for line in notes.read_text().splitlines() if line.endswith(" stop")] == [
        "engine stop",
        "engine-live~1 stop",
        "control stop",
    ]


def test_an_engine_that_does_not_end_is_killed_while_the_others_are_seen_to(home: Home, notes: Path) -> None:
    deaf = stand_in("engine", free_port(), notes, "deaf", is_vital=False, drain_s=0.3)
    engines = [deaf]
    with fleet(home, stand_in("control", free_port(), notes), engines=engines) as running:
        pid = running.pid("engine")
        engines.clear()
        os.kill(running.pid("control"), signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), what="its end")
        wait_until(lambda: "control is back" in running.said, what="the return of control")
        assert any("engine had not stopped yet and was killed" in line for line in running.said)


def test_a_killed_child_comes_back_and_it_is_said(home: Home, notes: Path) -> None:
    with fleet(
        home, stand_in("gateway-1", free_port(), notes), stand_in("control", free_port(), notes)
    ) as running:
        first, other = running.pid("gateway-1"), running.pid("control")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: "gateway-1 is back" in running.said, what="the return")
        assert running.pid("gateway-1") != first
        assert running.pid("control") == other
        assert any("killed by SIGKILL" in line for line in running.said)
        assert [child.n_restarts for child in running.state.children] == [1, 0]


def test_children_stop_in_order_and_nothing_is_left(home: Home, notes: Path) -> None:
    names = ["gateway-1", "gateway-2", "apps", "engine", "control"]
    with fleet(home, *(stand_in(name, free_port(), notes) for name in names)) as running:
        pids = [running.pid(name) for name in names]
    stops = [line.split()[0] for line in notes.read_text().splitlines() if line.endswith(" stop")]
    assert sorted(stops[:2]) == ["gateway-1", "gateway-2"]
    assert stops[2:] == ["apps", "engine", "control"]
    assert not any(is_alive(pid) for pid in pids)
    assert running.state.status == "stopping"
    assert all(child.pid is None for child in running.state.children)


def test_a_child_that_ignores_sigterm_is_killed_after_its_time(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("control", free_port(), notes, "deaf", drain_s=0.2)) as running:
        pid = running.pid("control")
    assert not is_alive(pid)
    assert any("control had not stopped yet and was killed" in line for line in running.said)


def test_a_second_request_to_stop_does_not_wait(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("control", free_port(), notes, "deaf", drain_s=3600)) as running:
        running.supervisor.ask_to_stop()
        running.supervisor.ask_to_stop()
        running.thread.join(240)
        assert not running.thread.is_alive()


def test_a_vital_child_that_never_starts_stops_the_start_with_its_last_words(home: Home, notes: Path) -> None:
    create_home(home)
    broken = ChildSpec(
        name="control",
        command=("sh", "-c", "echo the disk is on fire >&2; exit 7"),
        host="127.0.0.1",
        port=free_port(),
    )
    healthy = stand_in("gateway-1", free_port(), notes)
    supervisor = Supervisor(
        home=home,
        addresses=Addresses(),
        workers=1,
        version="test",
        children=[healthy, broken],
        say=lambda _: None,
    )
    with pytest.raises(ChildFailed, match="the disk is on fire"):
        supervisor.run(lambda: None)
    state = read_state(home)
    assert state is not None
    assert all(child.pid is None for child in state.children)


def test_a_child_that_is_not_vital_does_not_hold_up_the_others(home: Home, notes: Path) -> None:
    broken = ChildSpec(name="engine", command=("false",), host="127.0.0.1", port=free_port(), is_vital=False)
    with fleet(home, stand_in("gateway-1", free_port(), notes), broken) as running:
        assert running.state.status == "ready"
        assert any("going on without it" in line for line in running.said)


def test_a_restart_can_be_asked_for_by_name(home: Home, notes: Path) -> None:
    with fleet(
        home, stand_in("engine", free_port(), notes), stand_in("control", free_port(), notes)
    ) as running:
        first = running.pid("engine")
        request_restart(home, "engine")
        request_restart(home, "no-such-child")
        wait_until(lambda: "engine is back" in running.said, what="the restart")
        assert running.pid("engine") != first
    assert "engine stop" in notes.read_text()


def test_a_child_that_dies_right_after_it_was_ready_waits_longer_each_time(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("apps", free_port(), notes)) as running:
        for number in (1, 2):
            os.kill(running.pid("apps"), signal.SIGKILL)
            wait_until(lambda n=number: running.said.count("apps is back") == n, what="the return")
            wait_until(lambda: running.state.children[0].status == "ready", what="its state")
    pauses = [line.rpartition(" in ")[2] for line in running.said if "starting it again" in line]
    assert pauses == ["0.25 s", "0.5 s"]


def test_a_crash_loop_never_ends_the_supervisor(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("apps", free_port(), notes)) as running:
        running.supervisor.children[0].n_early_deaths = 5000
        os.kill(running.pid("apps"), signal.SIGKILL)
        wait_until(lambda: any("in 15 s" in line for line in running.said), what="the longest pause")
        assert running.thread.is_alive()


def test_a_state_that_cannot_be_written_stops_nothing_and_is_said_once(home: Home, notes: Path) -> None:
    children = [stand_in(name, free_port(), notes) for name in ("gateway-1", "control")]
    with fleet(home, *children) as running:
        pids = [child.pid for child in running.supervisor.children]
        home.state.unlink()
        home.state.mkdir()
        os.kill(running.pid_now("control"), signal.SIGKILL)
        wait_until(lambda: "control is back" in running.said, what="the return")
        assert running.supervisor.children[0].pid == pids[0]
        home.state.rmdir()
        wait_until(lambda: read_state(home), what="the state to be written again")
        assert running.state.status == "ready"
        home.state.unlink()
        home.state.mkdir()
    assert "gateway-1 stop" in notes.read_text()
    assert sum("cannot be written" in line for line in running.said) == 2


def test_a_child_that_cannot_even_be_started_is_tried_again(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("apps", free_port(), notes)) as running:
        log = home.logs / "apps.log"
        log.unlink()
        log.mkdir()
        os.kill(running.pid("apps"), signal.SIGKILL)
        wait_until(lambda: any("could not be started" in line for line in running.said), what="the refusal")
        log.rmdir()
        wait_until(lambda: "apps is back" in running.said, what="the return")


def test_what_is_no_restart_request_is_left_alone(home: Home, notes: Path) -> None:
    with fleet(home, stand_in("apps", free_port(), notes)) as running:
        (restart_folder(home) / "aaa").mkdir()
        request_restart(home, "apps")
        wait_until(lambda: "apps is back" in running.said, what="the restart")


def test_children_end_with_a_supervisor_that_is_killed(home: Home, notes: Path) -> None:
    create_home(home)
    children = [f"gateway-1:{free_port()}", f"control:{free_port()}"]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.main.supervise", str(home.root), str(notes), *children],
        stdout=subprocess.PIPE,
        cwd=root,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        state = read_state(home)
        assert state is not None
        pids = [child.pid for child in state.children]
        process.kill()
        process.wait()
        wait_until(lambda: not any(is_alive(pid or 0) for pid in pids), what="the children's end")


def test_an_exit_is_told_in_words() -> None:
    assert [describe_exit(status) for status in (3, -9, -250)] == [
        "exit 3",
        "killed by SIGKILL",
        "killed by signal 250",
    ]
