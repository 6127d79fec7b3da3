"""Addresses that calls are never sent to, however they were named: cloud machines hand out their credentials there.

Private and loopback addresses are none of them: models are served there. Pure: looks up no name.
"""

import ipaddress
import socket

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
METADATA_NAMES = frozenset({"metadata", "metadata.goog", "metadata.google.internal", "instance-data"})
"""Names under which clouds serve metadata within their networks."""
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle Cloud
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google Cloud
    )
)
"""Metadata services whose addresses are not link-local."""
_NAT64 = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96"))
"""Networks whose addresses stand for the IPv4 address in their last four bytes."""


def is_forbidden_name(host: str) -> bool:
    """Return whether a host that somebody wrote is one that calls are never sent to, as far as its name tells."""
    if host.rstrip(".").lower() in METADATA_NAMES:
        return True
    address = literal_address(host)
    return address is not None and is_forbidden(address)


def is_forbidden_peer(peer: object) -> bool:
    """Return whether a socket's peer name is one that calls are never sent to; what is no address is none."""
    if not isinstance(peer, tuple) or not peer:
        return False
    try:
        return is_forbidden(ipaddress.ip_address(str(peer[0])))
    except ValueError:
        return False


def is_forbidden(address: IPAddress) -> bool:
    """Return whether calls are never sent to an address: link-local, of many, of none, or a metadata service."""
    if isinstance(address, ipaddress.IPv6Address):
        if not address.is_loopback and any(
            inner != address and is_forbidden(inner) for inner in _inner(address)
        ):
            return True
        address = ipaddress.IPv6Address(int(address))  # without a scope: networks know none
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return True
    return any(address in network for network in _METADATA if network.version == address.version)


def is_public(address: IPAddress) -> bool:
    """Return whether an address, and each it may lead to, is one of the open internet."""
    meant: list[IPAddress] = [*_inner(address)] if isinstance(address, ipaddress.IPv6Address) else []
    return all(one.is_global and not one.is_multicast for one in meant or [address])


def literal_address(host: str) -> IPAddress | None:
    """Return the address that a host is in one of the forms that resolvers take, or None for a name."""
    address: IPAddress
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:  # the old forms that resolvers still take: 2852039166, 0xa9fea9fe, 169.254.43518
            address = ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _inner(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address may lead to."""
    found = [inner for inner in (address.ipv4_mapped, address.sixtofour) if inner is not None]
    plain = ipaddress.IPv6Address(int(address))
    if any(plain in network for network in _NAT64):
        found.append(ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF))
    return found
