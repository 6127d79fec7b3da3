"""An engine process: hosts models of this home, all that `prod` names or those of one deployment. Heavy, so nothing
else imports it.
"""

import logging
from dataclasses import dataclass, field

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import PenstockError
from penstock.base.logs import configure_logs
from penstock.main.embedded import ModelRooms
from penstock.main.engine_files import (
    RETRY_S,
    EngineFile,
    read_engine,
    read_shared,
    write_engine,
    write_shared,
)
from penstock.main.errors import WiringBroken
from penstock.main.first_proofs import Begun, FirstProofs
from penstock.main.hosting import host_seat
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

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a model is not hosted."""
        _log.error("model left out", extra={"model": name, "reason": reason})
        self.failed[name] = reason


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
    """Return every model that the file pins; without any, those that `prod` names now, which are then written there.

    A model whose files are damaged, or that renders or answers otherwise than at registration, is left out. At the
    first start the version before it takes its place, if there is one that proves.
    """
    proofs, hosting = FirstProofs(rooms), Hosting()
    if file is None or file.models is not None:
        numbers = rooms.shared_models() if file is None or file.models is None else file.models
        for name, number in numbers.items():
            try:
                hosting.models.append(proofs.host(name, number))
            except PenstockError as error:
                hosting.leave_out(name, error.message)
        return hosting
    _begin(rooms, file, hosting, proofs)
    return hosting


def _begin(rooms: ModelRooms, file: EngineFile, hosting: Hosting, proofs: FirstProofs) -> None:
    """Choose what an installation that has served nothing yet begins with, and write it down.

    What is refused is written before what is hosted: while a file names no models, nobody else writes either.
    """
    numbers: dict[str, int] = {}
    refused: dict[str, Begun] = {}
    prod = rooms.shared_models()
    for name, number in prod.items():
        begun = proofs.begin(name, number)
        if begun.refused is not None:
            refused[name] = begun
            _log.error("prod is refused", extra={"model": f"{name}@{number}", "reason": begun.refused})
        if begun.hosted is None or begun.number is None:
            hosting.leave_out(name, begun.refused or "no version of it is served")
            continue
        hosting.models.append(begun.hosted)
        numbers[name] = begun.number
    shared = read_shared(rooms.home)
    if refused and shared is not None:
        again_ns = now_ns() + int(RETRY_S * 1e9)
        write_shared(
            rooms.home,
            msgspec.structs.replace(
                shared,
                refused={name: prod[name] for name in refused},
                reasons={name: each.refused or "" for name, each in refused.items()},
                again_ns={name: again_ns for name, each in refused.items() if not each.is_for_good},
            ),
        )
    write_engine(rooms.home, msgspec.structs.replace(file, models=numbers))
    if not refused:
        return
    try:
        rooms.publish_snapshot(note="the engine begins with what was proven")
    except PenstockError as error:  # such as damaged settings: what was published before stays
        _log.error("the snapshot stays", extra={"reason": error.message})
