"""Keeps a crawl out of the network that Penstock runs in: every address is resolved first, and only then called.

The check is on the address that the connection is then made to, so that a name which resolves to something else a
moment later gains nothing. Addresses that tell a cloud machine its own credentials are refused whatever is allowed.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from penstock.knowledge.sources.errors import ForbiddenAddress, InvalidSource, ItemUnavailable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
_METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
_EMBEDDING = tuple(
    ipaddress.IPv6Network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")
)
"""Their last 32 bits are an IPv4 address: NAT64, local NAT64, IPv4-compatible, SIIT."""
_NEVER_GLOBAL = tuple(
    ipaddress.IPv6Network(each) for each in (*("::/96", "::ffff:0:0:0/96"), "64:ff9b:1::/48", "fec0::/10")
)


class AddressGuard:
    """Decides by name and number which hosts may be called."""

    def __init__(self, allow_private: Sequence[str] = (), *, resolve: Resolve | None = None) -> None:
        """`allow_private` holds hosts as addresses of pages name them, and networks such as `10.0.0.0/8`, that may be
        called though they are private."""
        self._names: set[str] = set()
        self._networks: list[IpNetwork] = []
        for each in allow_private:
            if "/" not in each:
                self._names.add(_host_name(each))
                continue
            try:
                self._networks.append(ipaddress.ip_network(each, strict=False))
            except ValueError:
                raise InvalidSource(
                    f"`allow_private` has {each!r}; it takes host names, addresses and networks."
                ) from None
        self._resolve = resolve or resolve_host

    def choose_address(self, host: str, port: int) -> str:
        """Return the address to connect to. Raises `ForbiddenAddress` when any it resolves to may not be called,
        `ItemUnavailable` when it does not resolve."""
        try:
            found = list(dict.fromkeys(self._resolve(host, port)))
        except (OSError, UnicodeError) as error:
            raise ItemUnavailable(f"The host {host!r} cannot be found: {error}.") from error
        if not found:
            raise ItemUnavailable(f"The host {host!r} cannot be found.")
        for text in found:
            address = ipaddress.ip_address(text.partition("%")[0])
            if not self._may_call(host, address):
                is_open = _embedded(address) not in _METADATA
                raise ForbiddenAddress(
                    f"{host!r} is at {address}, inside a private network.",
                    hint=f"If that is meant, name it in the source: allow_private = [{host!r}]."
                    if is_open
                    else "A cloud tells a machine its credentials there; it is never read.",
                    host=host,
                )
        return found[0]

    def _may_call(self, host: str, address: IpAddress) -> bool:
        meant = _embedded(address)
        name = _host_name(host)
        if meant in _METADATA:
            return False
        if name in self._names:
            return True
        for network in self._networks:
            if any(each.version == network.version and each in network for each in (address, meant)):
                return True
        is_odd = any(address.version == 6 and address in network for network in _NEVER_GLOBAL)
        return meant.is_global and not meant.is_multicast and not is_odd


def check_literal(url: str, allow_private: Sequence[str]) -> None:
    """Raise `ForbiddenAddress` for an address of a page whose host is a number, or this machine, that may not be called."""
    try:
        host = urlsplit(url).hostname or ""
        literal = "127.0.0.1" if _host_name(host) == "localhost" else str(ipaddress.ip_address(host))
    except ValueError:
        return
    AddressGuard(allow_private, resolve=lambda _host, _port: [literal]).choose_address(host, 0)


def _host_name(text: str) -> str:
    return text.strip().strip("[]").lower().rstrip(".")


def _embedded(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inside = address.ipv4_mapped or address.sixtofour
    if inside is None and address.teredo is not None:
        inside = address.teredo[1]
    if inside is None and any(address in network for network in _EMBEDDING):
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inside or address


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, as the system knows them."""
    found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]
