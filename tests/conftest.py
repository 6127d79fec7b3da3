"""What every test gets: a home of its own, no network beyond loopback, and databases on request."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.spec.home import Home

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.control"]

_LOOPBACK = ("127.", "::1", "localhost", "::ffff:127.")


class NetworkDenied(AssertionError):
    """A test tried to reach beyond this machine."""


def is_local(address: Any) -> bool:
    """Return whether a socket address stays on this machine (paths of Unix sockets do)."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    text = host.decode() if isinstance(host, bytes) else str(host)
    return text == "" or text.startswith(_LOOPBACK)


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
    yield
    patch.undo()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty Penstock home."""
    root = tmp_path / "home"
    root.mkdir()
    return Home(root=root)
