"""`deploy.deployments.ports.Seats` over the engines' files and what the supervisor says of its children."""

from collections.abc import Sequence

import msgspec

from penstock.deploy.deployments.types import SeatSpec, SeatState
from penstock.main.embedded import ModelRooms
from penstock.main.engine_files import (
    EngineFile,
    find_port,
    list_engines,
    read_engine,
    remove_engine,
    write_engine,
)
from penstock.main.instance import read_state
from penstock.main.vllm_command import vllm_command
from penstock.spec.home import Home

_LAST_BYTES = 4096
_LAST_LINES = 8


class EngineSeats:
    """Processes of one home. Safe from several threads: each change is one file."""

    def __init__(self, home: Home, installation: ModelRooms | None = None) -> None:
        """`installation` is needed to start programs that read a model's files by themselves."""
        self._home = home
        self._installation = installation

    def put(self, seat: SeatSpec) -> None:
        """See to it that this process runs. Asked again, nothing happens."""
        known = read_engine(self._home, seat.child)
        if known is not None and known.seat == seat:
            return
        file = EngineFile(child=seat.child, port=find_port() if known is None else known.port, seat=seat)
        if seat.engine == "vllm":
            assert self._installation is not None
            command, environ = vllm_command(self._installation, seat, file.port)
            file = msgspec.structs.replace(file, command=command, environ=environ)
        write_engine(self._home, file)

    def drop(self, child: str) -> None:
        """See to it that no process of this name runs."""
        remove_engine(self._home, child)

    def look(self, child: str) -> SeatState:
        """Return how it is."""
        return look_at(self._home, child)

    def names(self, deployment: str) -> Sequence[str]:
        """Return the processes of a deployment that are meant to run."""
        return [
            file.child
            for file in list_engines(self._home)
            if file.seat is not None and file.seat.deployment == deployment
        ]


def look_at(home: Home, child: str) -> SeatState:
    """Return how an engine process is, by its file and the supervisor's last word."""
    file = read_engine(home, child)
    if file is None:
        return SeatState(status="missing")
    url = f"http://127.0.0.1:{file.port}/v1"
    state = read_state(home)
    found = next((each for each in state.children if each.name == child), None) if state is not None else None
    if found is None:
        return SeatState(status="starting", url=url)
    return SeatState(
        status="starting" if found.status == "stopped" else found.status,
        url=url,
        pid=found.pid,
        n_restarts=found.n_restarts,
        last_words=last_words(home, child) if found.n_restarts else "",
    )


def last_words(home: Home, child: str, *, n_lines: int = _LAST_LINES, n_bytes: int = _LAST_BYTES) -> str:
    """Return the end of a process's log."""
    path = home.logs / f"{child}.log"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - n_bytes))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(line[:2000] for line in lines[-n_lines:])
