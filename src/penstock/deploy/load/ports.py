"""What load tests need of other rooms; joined in `main`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.deploy.load.mixes import Material
from penstock.deploy.load.types import LoadSpec

Ending = tuple[Literal["stopped", "failed"], str]


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """What is known of a target before it is asked."""

    is_known: bool
    """Whether gateways were told of it. Apps and versions may be asked though they are not routes."""
    is_hosted: bool
    """Whether a call can leave for a provider that is not of this installation."""
    providers: tuple[str, ...] = ()
    prices: tuple[float, float] | None = None
    """Dollars of a prompt token and of a completion token, of the dearest target; None: unknown."""
    versions: Mapping[str, str] | None = None
    """What its name stands for now, by asset."""
    max_in_flight: int | None = None


class Targets(Protocol):
    """Knows routes and prices."""

    def describe(self, name: str) -> TargetFacts:
        """Return what is known; never raises for an unknown name."""

    def suggest(self, name: str) -> str | None:
        """Return a hint for a name that is unknown."""


class Materials(Protocol):
    """Reads prompts of datasets and lengths of recorded traffic."""

    def read(self, spec: LoadSpec) -> Mapping[str, Material]:
        """Return what each class of the mix draws from; raise `NothingToAsk`, `NotFound`."""


class LoadJobs(Protocol):
    """Background jobs."""

    def submit(self, test_id: str) -> str:
        """Queue the run of a test and return the job's id."""

    def ending(self, job_id: str) -> Ending | None:
        """Return how a job has ended without telling; None while it has not."""

    def cancel(self, job_id: str) -> None:
        """End a job at its next step."""
