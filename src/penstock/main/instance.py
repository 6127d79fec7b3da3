"""The running instance of a home: who owns it, on which ports, in which state.

The owner holds a lock on `run/up.lock` for as long as it lives, so a killed owner is never mistaken for a
running one. What it says of itself stands in `run/state.json`.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Literal

import msgspec

from penstock.base.clock import iso_from_ns, now_ns
from penstock.base.files import write_atomic
from penstock.main.errors import HomeInUse, NotRunning
from penstock.spec.home import Home

GATEWAY_PORT = 4600
CONSOLE_PORT = 4601
APPS_PORT = 4602
ENGINE_PORT = 4603
SHARED_FILE = "shared.json"
"""In `HOME/run`: which process hosts what `prod` names. Engines come and go, see `engine_files`."""
LOCK_TRIES = 6
LOCK_PAUSE_S = 0.02

InstanceStatus = Literal["starting", "ready", "stopping"]
ChildStatus = Literal["starting", "ready", "waiting", "stopped"]


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the processes of a home listen. Apps and engine are on loopback, whatever `host` is."""

    host: str = "127.0.0.1"
    gateway_port: int = GATEWAY_PORT
    console_port: int = CONSOLE_PORT
    apps_port: int = APPS_PORT
    engine_port: int = ENGINE_PORT

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway, without `/v1`."""
        return f"http://{_reachable(self.host)}:{self.gateway_port}"

    @property
    def console_url(self) -> str:
        """Base URL of the console and the REST API."""
        return f"http://{_reachable(self.host)}:{self.console_port}"

    @property
    def apps_url(self) -> str:
        """Base URL of the apps process."""
        return f"http://127.0.0.1:{self.apps_port}"

    @property
    def engine_url(self) -> str:
        """Base URL of the embedded engine."""
        return f"http://127.0.0.1:{self.engine_port}"


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process as `state.json` shows it."""

    name: str
    pid: int | None
    status: ChildStatus
    n_restarts: int = 0


class InstanceState(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor writes to `run/state.json`."""

    pid: int
    started_ns: int
    status: InstanceStatus
    addresses: Addresses
    workers: int
    version: str
    children: list[ChildState] = []


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the lock file: enough to name the owner before `state.json` is there."""

    pid: int
    since_ns: int
    addresses: Addresses | None = None


class _SharedPort(msgspec.Struct):
    port: int


def write_state(home: Home, state: InstanceState) -> None:
    """Replace `run/state.json`."""
    write_atomic(home.state, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n", mode=0o600)


def read_state(home: Home) -> InstanceState | None:
    """Return what the last supervisor wrote, or None; it may be long gone."""
    try:
        return msgspec.json.decode(home.state.read_bytes(), type=InstanceState)
    except (OSError, msgspec.DecodeError):
        return None


def is_owned(home: Home) -> bool:
    """Return whether a supervisor holds this home now."""
    try:
        with home.lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def running_instance(home: Home) -> InstanceState | None:
    """Return the instance that runs on this home now, or None. The engine's port is that of the process that hosts
    now what `prod` names."""
    state = read_state(home) if is_owned(home) else None
    if state is None or (port := shared_port(home)) is None:
        return state
    addresses = msgspec.structs.replace(state.addresses, engine_port=port)
    return msgspec.structs.replace(state, addresses=addresses)


def shared_port(home: Home) -> int | None:
    """Return the port of the engine that hosts what `prod` names; None where nobody said."""
    try:
        return msgspec.json.decode((home.run / SHARED_FILE).read_bytes(), type=_SharedPort).port
    except (OSError, msgspec.DecodeError):
        return None


def require_instance(home: Home) -> InstanceState:
    """Return the running instance; raise `NotRunning` that says how to start one."""
    found = running_instance(home)
    if found is None:
        raise NotRunning(
            f"No Penstock runs on {home.root}.", hint=f"Start it: penstock up --home {home.root}"
        )
    return found


def find_addresses(home: Home) -> Addresses:
    """Return where this home's processes listen: of the running instance, else the usual ports."""
    found = running_instance(home)
    return found.addresses if found else Addresses()


def wait_until_ready(
    home: Home, *, deadline_s: float, sleep: Callable[[float], None] = time.sleep
) -> InstanceState:
    """Wait for the instance on this home to be ready and return its state."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = running_instance(home)
        if found and found.status == "ready":
            return found
        sleep(0.05)
    raise NotRunning(
        f"Penstock on {home.root} is not ready after {deadline_s:.0f} s.", hint=f"See {home.logs}."
    )


@contextmanager
def own_home(
    home: Home, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Callable[[Addresses], None]]:
    """Hold this home as its one supervisor; yields a function that notes the addresses for others to read.

    Raises `HomeInUse` that names the present owner.
    """
    with home.lock.open("ab+") as file:
        _take_lock(home, file, sleep)
        owner = _Owner(pid=os.getpid(), since_ns=now_ns())
        _note_owner(file, owner)
        yield lambda addresses: _note_owner(file, msgspec.structs.replace(owner, addresses=addresses))


def _take_lock(home: Home, file: IO[bytes], sleep: Callable[[float], None]) -> None:
    """Take the lock, trying again for a moment: who only looks whether it is held holds it for an instant."""
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if not tries_left:
                raise _home_in_use(home, file) from error
        sleep(LOCK_PAUSE_S)


def _note_owner(file: IO[bytes], owner: _Owner) -> None:
    file.truncate(0)
    file.write(msgspec.json.encode(owner))
    file.flush()


def _home_in_use(home: Home, file: IO[bytes]) -> HomeInUse:
    file.seek(0)
    try:
        owner = msgspec.json.decode(file.read(), type=_Owner)
    except msgspec.DecodeError:  # it was taken this very moment
        return HomeInUse(f"Another `penstock up` is starting on {home.root}.", hint="Use that one.")
    since = iso_from_ns(owner.since_ns)[:19].replace("T", " ")
    where = ""
    if owner.addresses is not None:
        where = f", gateway on port {owner.addresses.gateway_port}, console on {owner.addresses.console_url}"
    return HomeInUse(
        f"{home.root} is already running: process {owner.pid}, since {since} UTC{where}.",
        hint=f"Use it, stop it with `kill {owner.pid}`, or start on another --home.",
        pid=owner.pid,
        since=since,
        gateway_port=owner.addresses.gateway_port if owner.addresses else None,
        console_port=owner.addresses.console_port if owner.addresses else None,
    )


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
