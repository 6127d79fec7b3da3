"""What the reconciler of deployments needs of other rooms and of the machine."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock.deploy.deployments.types import Generation, PinnedModel, SeatSpec, SeatState
from penstock.spec.tuning import DeploymentSpec


class ModelVersions(Protocol):
    """The registry, as far as serving goes."""

    def pin(self, reference: str) -> PinnedModel:
        """Return the version that `model:NAME[@…]` names now; raise what the registry raises."""
        ...

    def check_servable(
        self, spec: DeploymentSpec, model: PinnedModel, adapters: Sequence[PinnedModel]
    ) -> None:
        """Raise a `PenstockError` when this engine cannot serve this version with these adapters."""
        ...


class Seats(Protocol):
    """Engine processes under the supervisor."""

    def put(self, seat: SeatSpec) -> None:
        """See to it that this process runs. Asked again, nothing happens."""
        ...

    def drop(self, child: str) -> None:
        """See to it that no process of this name runs: it finishes what is under way, within bounds."""
        ...

    def look(self, child: str) -> SeatState:
        """Return how it is."""
        ...

    def names(self, deployment: str) -> Sequence[str]:
        """Return the processes of a deployment that are meant to run."""
        ...


class Prover(Protocol):
    """Holds what an engine serves against what was registered."""

    def prove(self, spec: DeploymentSpec, generation: Generation, urls: Sequence[str]) -> Mapping[str, Any]:
        """Return the proof, one entry a process.

        Raises `ProofFailed`, with what was found in its fields, and `UpstreamError` when the engine went away.
        """
        ...


class Gateways(Protocol):
    """What calls go through."""

    def publish(self, *, actor: str, note: str) -> int:
        """Write the snapshot of what stands now and return when the present one was written."""
        ...

    def have_followed(self, snapshot_ns: int) -> bool:
        """Return whether no gateway works with a snapshot older than that any more, not even for a call under way."""
        ...

    def route_owner(self, route: str) -> str | None:
        """Return who keeps a route (`settings`, `database` …) when a deployment must not; None when it may."""
        ...
