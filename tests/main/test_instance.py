"""Owning a home, its key files and its ports: also when several want them at once."""

import fcntl
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.main.errors import HomeInUse, HomeUnusable, NotRunning, PortTaken
from penstock.main.home_files import create_home, read_internal_key, write_once
from penstock.main.instance import (
    Addresses,
    InstanceState,
    find_addresses,
    is_owned,
    own_home,
    require_instance,
    running_instance,
    write_state,
)
from penstock.main.ports import choose_port
from penstock.main.settings import UpSettings
from penstock.main.up import UpOptions, choose_addresses
from penstock.spec.home import Home


def state_of(addresses: Addresses) -> InstanceState:
    return InstanceState(
        pid=os.getpid(), started_ns=1, status="ready", addresses=addresses, workers=1, version="test"
    )


def test_a_home_has_one_owner_who_is_named(home: Home) -> None:
    create_home(home)
    with own_home(home) as note:
        note(Addresses(gateway_port=4711))
        with pytest.raises(
            HomeInUse, match=rf"process {os.getpid()}, since .* gateway on port 4711"
        ) as caught:
            own_home(home).__enter__()
        assert caught.value.exit_code == 4
        assert is_owned(home)
    assert not is_owned(home)
    with own_home(home):
        pass


def test_who_only_looks_does_not_keep_an_owner_out(home: Home) -> None:
    create_home(home)
    home.lock.touch()
    with home.lock.open("rb") as onlooker:
        fcntl.flock(onlooker, fcntl.LOCK_SH)

        def pass_by(_seconds: float) -> None:
            fcntl.flock(onlooker, fcntl.LOCK_UN)

        with own_home(home, sleep=pass_by):
            assert is_owned(home)


def test_a_home_that_was_open_to_others_is_made_private(home: Home) -> None:
    home.root.chmod(0o755)
    create_home(home)
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


def test_state_left_by_a_killed_owner_is_not_believed(home: Home) -> None:
    create_home(home)
    write_state(home, state_of(Addresses(gateway_port=4711)))
    assert running_instance(home) is None
    assert find_addresses(home) == Addresses()
    with pytest.raises(NotRunning, match="penstock up"):
        require_instance(home)
    with own_home(home):
        assert find_addresses(home).gateway_port == 4711


def test_damaged_state_is_no_state(home: Home) -> None:
    create_home(home)
    home.state.write_text('{"pid": ')
    with own_home(home):
        assert running_instance(home) is None


def test_a_key_file_is_written_once_and_is_private(home: Home) -> None:
    create_home(home)
    first = read_internal_key(home)
    create_home(home)
    assert read_internal_key(home) == first
    assert stat.S_IMODE(home.internal_key.stat().st_mode) == 0o600
    assert len(home.internal_key.read_text().splitlines()) == 1


def test_of_many_writers_of_a_key_file_one_wins(home: Home) -> None:
    home.run.mkdir()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda number: write_once(home.internal_key, f"key-{number}\n"), range(64)))
    assert made.count(True) == 1
    assert home.internal_key.read_text() == f"key-{made.index(True)}\n"
    assert list(home.run.iterdir()) == [home.internal_key]


def test_a_home_that_cannot_be_made_is_told(home: Home) -> None:
    place = home.root / "file"
    place.write_text("")
    with pytest.raises(HomeUnusable, match="--home"):
        create_home(Home(root=place / "home"))


def test_a_taken_port_is_told_with_the_option_to_change_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as a gateway of another home would
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"Port {port} on 127.0.0.1 is taken.*--console-port") as caught:
            choose_port("127.0.0.1", port, option="--console-port")
    assert caught.value.exit_code == 2


def test_a_port_that_is_chosen_for_later_is_none_that_the_system_gives_away_meanwhile() -> None:
    begin = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = [choose_port("127.0.0.1", 0, option="--port") for _ in range(30)]
    assert all(port < max(begin, 32_000) for port in chosen)


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(PortTaken, match="cannot both"):
        choose_addresses(UpSettings(), UpOptions(port=4999, console_port=4999))


def test_the_command_line_wins_over_the_settings() -> None:
    up = UpSettings(port=0, console_port=0, workers=3)
    addresses, workers = choose_addresses(up, UpOptions())
    assert (workers, addresses.host) == (3, "127.0.0.1")
    assert (
        len({addresses.gateway_port, addresses.console_port, addresses.apps_port, addresses.engine_port}) == 4
    )
    _, workers = choose_addresses(up, UpOptions(workers=2))
    assert workers == 2


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:4600"), ("::1", "http://[::1]:4600")]
)
def test_addresses_are_ones_that_can_be_opened(host: str, url: str) -> None:
    assert Addresses(host=host).gateway_url == url
