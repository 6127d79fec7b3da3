"""An engine process: hosts models of this home, all that `prod` names or those of one deployment. Heavy, so nothing
else imports it.
"""

import logging
from dataclasses import dataclass, field

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.logs import configure_logs
from penstock.main.embedded import ModelRooms
from penstock.main.engine_files import EngineFile, read_engine, write_engine
from penstock.main.errors import WiringBroken
from penstock.main.hosting import host_seat, host_version
from penstock.main.stopping import DRAIN_S
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.serve import serve_engine
from penstock.providers.engines.types import HostedModel
from penstock.spec.home import Home

SLOTS = 4
_log = logging.getLogger("penstock.engine")


@dataclass(kw_only=True)
class Hosting:
    """What a process is to host, and how."""

    models: list[HostedModel] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Models that are left out, and why."""
    slots: int = SLOTS
    threads: int = 1
    deployment: str | None = None


def run_engine(home: Home, *, port: int, serve: str | None = None) -> None:
    """Serve until SIGTERM; with `serve`, what the engine's file of that name says."""
    configure_logs(process=serve or "engine")
    file = None if serve is None else read_engine(home, serve)
    if serve is not None and file is None:
        raise WiringBroken(f"There is no file of an engine {serve!r} in {home.run}.")
    rooms = ModelRooms(home, keeps_running=True)
    if file is not None and file.seat is not None:
        seat = file.seat
        hosting = Hosting(
            models=[host_seat(rooms, seat)],
            slots=seat.slots or SLOTS,
            threads=seat.threads or 1,
            deployment=seat.deployment,
        )
    else:
        rooms.prepare()
        hosting = host_shared(rooms, file)
    app = EngineApp(
        hosting.models,
        internal_key=rooms.internal_key,
        n_slots=hosting.slots,
        n_threads=hosting.threads,
        failed=hosting.failed,
        deployment=hosting.deployment,
    )
    rooms.close()
    serve_engine(app, port=port, drain_s=DRAIN_S)


def host_shared(rooms: ModelRooms, file: EngineFile | None) -> Hosting:
    """Return every model that the file pins, or that `prod` names now, which is then written into the file.

    A model whose files are damaged, or that renders otherwise than at registration, is left out.
    """
    numbers = None if file is None else file.models
    if numbers is None:
        numbers = rooms.shared_models()
        if file is not None:
            write_engine(rooms.home, msgspec.structs.replace(file, models=numbers))
    hosting = Hosting()
    for name, number in numbers.items():
        try:
            hosting.models.append(host_version(rooms, f"model:{name}@{number}"))
        except PenstockError as error:
            _log.error("model left out", extra={"model": name, "reason": str(error)})
            hosting.failed[name] = error.message
    return hosting
