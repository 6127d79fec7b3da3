"""Tests reach this machine and nothing beyond it."""

import socket
import threading

import pytest

from tests.conftest import NetworkDenied, is_local


@pytest.mark.parametrize(
    "address", [("192.0.2.1", 80), ("example.com", 443), ("2001:db8::1", 80, 0, 0), (b"10.0.0.1", 1)]
)
def test_a_connection_beyond_this_machine_is_refused(address: tuple[object, ...]) -> None:
    for name in ("connect", "connect_ex"):
        with socket.socket() as client, pytest.raises(NetworkDenied):
            getattr(client, name)(address)


def test_names_of_other_machines_are_not_looked_up() -> None:
    with pytest.raises(NetworkDenied):
        socket.getaddrinfo("example.com", 443)
    with pytest.raises(NetworkDenied):
        socket.create_connection(("example.com", 443), timeout=1)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            server.accept()[0].close()

        answering = threading.Thread(target=answer)
        answering.start()
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5):
            pass
        answering.join()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        ("/run/socket", True),
        (("127.evil.com", 1), False),
        (("localhost.evil.com", 1), False),
    ],
)
def test_a_name_that_only_looks_local_is_not(address: object, expected: bool) -> None:
    assert is_local(address) is expected
