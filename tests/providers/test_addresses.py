"""Where calls are never sent to, whatever it is called: link-local addresses and metadata services."""

import asyncio
import contextlib
import ipaddress
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers.addresses import is_forbidden, is_forbidden_name, is_forbidden_peer
from penstock.providers.errors import AddressForbidden, ConnectFailed
from penstock.providers.transport import Upstreams, parse_base_url

HEAD = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(
    "peer",
    [
        ("169.254.169.254", 80),
        ("fe80::1%eth0", 80, 0, 2),
        ("fd00:ec2::254", 80, 0, 0),
        ("fd20:ce::254", 80, 0, 0),
        ("100.100.100.200", 80),
        ("168.63.129.16", 80),
        ("192.0.0.192", 80),
        ("::ffff:169.254.169.254", 80, 0, 0),
        ("64:ff9b::a9fe:a9fe", 80, 0, 0),
        ("64:ff9b:1::a9fe:a9fe", 80, 0, 0),
        ("2002:a9fe:a9fe::1", 80, 0, 0),
        ("::169.254.169.254", 80, 0, 0),
        ("0.0.0.0", 80),
        ("::", 80, 0, 0),
        ("224.0.0.1", 80),
    ],
)
def test_peers_that_hand_out_credentials_are_forbidden(peer: tuple[Any, ...]) -> None:
    assert is_forbidden_peer(peer)


@pytest.mark.parametrize(
    "peer",
    [
        ("127.0.0.1", 80),
        ("10.0.0.5", 80),
        ("192.168.1.9", 80),
        ("100.64.0.1", 80),
        ("::1", 80, 0, 0),
        ("fd12:3456::1", 80, 0, 0),
        ("::ffff:10.0.0.5", 80, 0, 0),
        ("64:ff9b::808:808", 80, 0, 0),
        ("2606:4700::1", 443, 0, 0),
        None,
        "",
        "/run/model.sock",
        (),
    ],
)
def test_private_loopback_and_public_peers_are_not(peer: Any) -> None:
    assert not is_forbidden_peer(peer)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_behind_ipv6(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::"):
        assert is_forbidden(ipaddress.IPv6Address(f"{prefix}{address}")) == is_forbidden(address)


def test_names_of_metadata_services_are_forbidden_and_others_are_not() -> None:
    assert all(map(is_forbidden_name, ("metadata", "METADATA.google.internal.", "0xa9fea9fe")))
    assert not any(map(is_forbidden_name, ("metadata.example", "localhost", "169.254.169.254.example", "")))


async def test_a_name_that_leads_to_a_forbidden_address_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received: list[bytes] = []
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            received.append(await reader.read())
        writer.close()
        gone.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    origin = parse_base_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    peers: list[tuple[Any, ...]] = []

    class Link:
        """A transport whose other end says that it is somewhere else."""

        def __init__(self, inner: asyncio.Transport) -> None:
            self.inner = inner

        def get_extra_info(self, name: str) -> Any:
            peers.append(("169.254.169.254", 80))
            return peers[-1] if name == "peername" else None

        def abort(self) -> None:
            self.inner.abort()

    async def connect_elsewhere(*args: Any, **options: Any) -> Any:
        inner, protocol = await connect(*args, **options)
        return Link(inner), protocol

    monkeypatch.setattr(loop, "create_connection", connect_elsewhere)
    upstreams = Upstreams()
    written: list[None] = []
    with pytest.raises(AddressForbidden, match="never sent to") as refused:
        await upstreams.send(
            origin,
            HEAD,
            b"{}",
            connect_s=60,
            first_byte_s=60,
            deadline=time.monotonic() + 60,
            on_write=lambda: written.append(None),
        )
    assert isinstance(refused.value, ConnectFailed)  # so that another target may serve the call
    await asyncio.wait_for(gone.wait(), 120)
    assert (b"".join(received), written, len(peers)) == (b"", [], 1)
    server.close()
    await upstreams.close()
