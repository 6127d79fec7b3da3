"""Deployments of one home, joined: what REST, pages and commands work on, and the two threads behind them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.deploy.deployments.reconciler import Reconciler
from penstock.deploy.deployments.service import DeploymentService
from penstock.deploy.followed import have_followed
from penstock.deploy.snapshots import read_snapshot
from penstock.main.embedded import ModelRooms
from penstock.main.engine_metrics import EngineNumbers
from penstock.main.engine_proofs import EngineProver
from penstock.main.engine_seats import EngineSeats
from penstock.main.model_versions import RegisteredModels
from penstock.main.shared_engine import SharedEngineKeeper


class HomeGateways:
    """`deploy.deployments.ports.Gateways` over the snapshot of one home."""

    def __init__(self, rooms: ModelRooms) -> None:
        self._rooms = rooms

    def publish(self, *, actor: str, note: str) -> int:
        """Write the snapshot of what stands now and return when the present one was written."""
        self._rooms.publish_snapshot(actor=actor, note=note)
        return read_snapshot(self._rooms.home.snapshot).written_ns

    def have_followed(self, snapshot_ns: int) -> bool:
        """Return whether no gateway works with a snapshot older than that any more."""
        home = self._rooms.home
        return have_followed(home.ready, home.followed, snapshot_ns)

    def route_owner(self, route: str) -> str | None:
        """Return who keeps a route when a deployment must not."""
        owner = self._rooms.plan().owners.get(("route", route))
        if owner in {"settings", "database", "environment", "built in"}:
            return str(owner)
        for kind in ("app", "knowledge"):
            if any(asset.name == route for asset in self._rooms.registry.list_assets(kind)):
                return f"{kind}:{route}"
        return None


@dataclass(frozen=True, kw_only=True)
class Deploying:
    """All of it."""

    service: DeploymentService
    loops: Sequence[Callable[[threading.Event], None]]
    find_warning: Callable[[], str | None]
    numbers: EngineNumbers
    """What engine processes count."""


def create_deploying(rooms: ModelRooms) -> Deploying:
    """Return the service and the loops of a home's deployments. Only control runs the loops."""
    versions, seats, gateways = RegisteredModels(rooms), EngineSeats(rooms.home, rooms), HomeGateways(rooms)
    numbers = EngineNumbers(rooms.home, lambda: rooms.internal_key)
    prover = EngineProver(rooms)
    keeper = SharedEngineKeeper(rooms, prover=prover, gateways=gateways)
    reconciler = Reconciler(rooms.engine, versions=versions, seats=seats, prover=prover, gateways=gateways)
    return Deploying(
        service=DeploymentService(rooms.engine, versions, seats, gateways, ask_engine=numbers.ask),
        loops=(reconciler.run, keeper.run),
        find_warning=keeper.find_warning,
        numbers=numbers,
    )
