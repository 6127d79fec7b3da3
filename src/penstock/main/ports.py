"""Finds out before anything starts whether the ports are there to be used."""

import errno
import random
import socket

from penstock.main.errors import PortTaken

_QUIET = range(20_000, 32_000)
"""Below what Linux gives to programs that ask for any port: there a chosen one stays free until its server starts."""
_N_TRIES = 50


def choose_port(host: str, port: int, *, option: str) -> int:
    """Return `port` if it is free on `host`, or a free one for 0.

    The probe does not share addresses, so it also sees a gateway that does. Raises `PortTaken`.
    """
    for candidate in random.sample(_QUIET, _N_TRIES) if port == 0 else ():
        try:
            return _probe(host, candidate, option)
        except PortTaken:
            continue
    return _probe(host, port, option)


def _probe(host: str, port: int, option: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise _port_error(error, host, port, option) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _port_error(error: OSError, host: str, port: int, option: str) -> PortTaken:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"Port {port} on {host} is taken by another program.",
            hint=f"Stop that program (`ss -ltnp 'sport = :{port}'` names it) or choose another port: {option} PORT.",
            host=host,
            port=port,
        )
    return PortTaken(
        f"Port {port} on {host} cannot be used: {error.strerror}.",
        hint=f"Choose another: {option} PORT.",
        host=host,
        port=port,
    )
