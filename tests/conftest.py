"""What every test gets: a home of its own, no network beyond loopback, and databases on request."""

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from penstock.spec.home import Home
from tests.fixtures.ports import free_port

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.control",
    "tests.fixtures.tune_runtime",
    "tests.fixtures.spreading",
]

# How long an example takes is the machine's affair. `make test` draws the same examples each time, so that whether a change
# may land is no matter of luck; `pytest` alone draws new ones, and what it finds becomes an `@example`.
settings.register_profile("seeking", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("seeking"), derandomize=True, database=None)
settings.load_profile("seeking")


class NetworkDenied(AssertionError):
    """A test tried to reach beyond this machine."""


def is_local(address: Any) -> bool:
    """Return whether a socket address stays on this machine (paths of Unix sockets do)."""
    if not isinstance(address, tuple):
        return True
    return is_local_host(address[0])


def is_local_host(host: Any) -> bool:
    """Return whether a host name or address is this machine; None and "" stand for it."""
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    if text in {"", "localhost", socket.gethostname()}:
        return True
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


@pytest.fixture(autouse=True, scope="session")
def _deny_network() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        real = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, _real: Any = real) -> Any:
            if not is_local(address):
                raise NetworkDenied(f"tests may not connect to {address!r}")
            return _real(self, address)

        patch.setattr(socket.socket, name, guarded)
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if not is_local_host(host):
            raise NetworkDenied(f"tests may not look up {host!r}")
        return look_up(host, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


@pytest.fixture
def unused_tcp_port() -> int:
    """A port for a server that starts later; in the place of pytest-asyncio's, which others may be given meanwhile."""
    return free_port()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty Penstock home."""
    root = tmp_path / "home"
    root.mkdir()
    return Home(root=root)
