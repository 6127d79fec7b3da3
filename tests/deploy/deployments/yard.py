"""Deployments without machines: registry, processes, proofs and gateways that do as the tests say."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import NotFound, PenstockError
from penstock.deploy.deployments.errors import DeploymentInvalid
from penstock.deploy.deployments.queries import Stored, get_deployment
from penstock.deploy.deployments.reconciler import Reconciler
from penstock.deploy.deployments.service import DeploymentService
from penstock.deploy.deployments.types import Generation, PinnedModel, SeatSpec, SeatState
from penstock.spec.tuning import DeploymentSpec


class Killed(BaseException):
    """What stands for kill -9: nothing catches it."""


def model(number: int, *, name: str = "pocket") -> PinnedModel:
    return PinnedModel(
        asset=f"model:{name}",
        number=number,
        digest=f"sha256:{name.encode().hex()[:8]:0<60}{number:04d}",
        kind="chat",
        context_length=256,
    )


@dataclass
class Yard:
    """All ports at once. Public members are set by the tests."""

    engine: Engine
    aliases: dict[str, int] = field(default_factory=lambda: {"prod": 1})
    unservable: set[int] = field(default_factory=set)
    running: dict[str, SeatSpec] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    is_starting: bool = False
    lost: set[str] = field(default_factory=set)
    """Aliases that are not there."""
    n_pins: int = 0
    fault_of: str | None = None
    """The deployment whose proofs end in what nobody foresaw."""
    held: threading.Event | None = None
    """Proofs of `held_names` wait for it."""
    held_names: set[str] = field(default_factory=lambda: {"aaa"})
    reached: threading.Event = field(default_factory=threading.Event)
    proof_error: PenstockError | None = None
    proofs: list[str] = field(default_factory=list)
    published: list[int] = field(default_factory=list)
    followed_ns: int = 10**30
    """Gateways have followed snapshots up to here."""
    owners: dict[str, str] = field(default_factory=dict)
    now_ns: int = 1_000
    die_at: int | None = None
    """After so many effects from now on, the process is killed."""

    def __post_init__(self) -> None:
        self.service = DeploymentService(self.engine, self, self, self, clock=self.clock)

    def reconciler(self) -> Reconciler:
        """Return a reconciler that has seen nothing, as after a start."""
        return Reconciler(
            self.engine, versions=self, seats=self, prover=self, gateways=self, clock=self.clock
        )

    def settle(self, *, limit: int = 50) -> Reconciler:
        """Look until nothing is left to be done."""
        worker = self.reconciler()
        for _ in range(limit):
            if not worker.look_once():
                return worker
        raise AssertionError("it never comes to rest")

    def stored(self, name: str) -> Stored:
        with self.engine.connect() as connection:
            found = get_deployment(connection, name)
        assert found is not None
        return found

    def deploy(self, name: str = "live", **members: Any) -> None:
        spec = DeploymentSpec(name=name, **{"model": "model:pocket@1", **members})
        self.service.deploy(spec, actor="mira")

    def kinds(self, name: str = "live") -> list[str]:
        return [each.kind for each in reversed(self.service.events(name, limit=1000).rows)]

    # -- the ports

    def clock(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def pin(self, reference: str) -> PinnedModel:
        asset, _, tail = reference.partition("@")
        self.n_pins += 1
        if tail in self.lost:
            raise NotFound(f"There is no alias {tail!r}.")
        number = int(tail) if tail.isdigit() else self.aliases[tail or "prod"]
        return model(number, name=asset.partition(":")[2])

    def check_servable(
        self, spec: DeploymentSpec, model: PinnedModel, adapters: Sequence[PinnedModel]
    ) -> None:
        if model.number in self.unservable:
            raise DeploymentInvalid(f"{model.label} cannot be served.")

    def put(self, seat: SeatSpec) -> None:
        if self.running.get(seat.child) != seat:
            self._act()
            self.running[seat.child] = seat

    def drop(self, child: str) -> None:
        if child in self.running:
            self._act()
            del self.running[child]

    def look(self, child: str) -> SeatState:
        if child not in self.running:
            return SeatState(status="missing")
        status = "starting" if self.is_starting else "ready"
        return SeatState(
            status=status,  # type: ignore[arg-type]
            url=f"http://127.0.0.1/{child}/v1",
            n_restarts=self.restarts.get(child, 0),
        )

    def names(self, deployment: str) -> Sequence[str]:
        return [name for name, seat in self.running.items() if seat.deployment == deployment]

    def prove(self, spec: DeploymentSpec, generation: Generation, urls: Sequence[str]) -> Mapping[str, Any]:
        self._act()
        self.proofs.append(generation.model.label)
        if spec.name == self.fault_of:
            raise TypeError("no number")
        if self.held is not None and spec.name in self.held_names:
            self.reached.set()
            assert self.held.wait(240)
        if self.proof_error is not None:
            raise self.proof_error
        return {"engines": [{"passed": True} for _ in urls]}

    def publish(self, *, actor: str, note: str) -> int:
        self._act()
        self.published.append(self.clock())
        return self.published[-1]

    def have_followed(self, snapshot_ns: int) -> bool:
        return snapshot_ns <= self.followed_ns

    def route_owner(self, route: str) -> str | None:
        return self.owners.get(route)

    def _act(self) -> None:
        if self.die_at is not None:
            self.die_at -= 1
            if self.die_at < 0:
                raise Killed
