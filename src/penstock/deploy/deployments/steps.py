"""What one look at a deployment leads to, and what is made of its specification. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.deploy.deployments.errors import EngineDidNotStart
from penstock.deploy.deployments.queries import Stored
from penstock.deploy.deployments.rows import adapters_of_seat
from penstock.deploy.deployments.types import Generation, Leaving, SeatSpec, Standing
from penstock.spec.tuning import DeploymentSpec, DeploymentState

EARLY_DEATHS = 3
"""An engine that dies this often while it starts is given up."""
LOST = "lost"
"""Key of an error that says which alias cannot be found; it goes when the alias is found again."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one look at a deployment led to."""

    state: DeploymentState
    standing: Standing
    kind: str = ""
    """Of the event to note; empty for none."""
    text: str = ""
    detail: Any = None
    is_gone: bool = False


def as_going(standing: Standing, other: Standing) -> Standing:
    """Return `standing` with what only the service says as it is in `other`."""
    return msgspec.structs.replace(standing, is_going=other.is_going)


def failed(standing: Standing, text: str, error: PenstockError) -> Step:
    """Return the step by which what was asked for is given up."""
    return Step(
        state="failed" if standing.serving is None else "ready",
        standing=standing,
        kind="refused" if standing.serving is not None else "failed",
        text=text,
        detail=error.as_dict(),
    )


def lost(item: Stored, serving: Generation, error: PenstockError) -> Step:
    """Return the step that tells that an alias is gone."""
    return Step(
        state=item.state,
        standing=msgspec.structs.replace(item.standing, error={**error.as_dict(), LOST: item.spec.model}),
        kind="lost",
        text=f"{item.spec.model} cannot be found, {serving.model.label} goes on: {error.message}",
        detail=error.as_dict(),
    )


def leaving_now(generation: Generation, now_ns: int) -> Leaving:
    """Return what ends a generation that takes no new calls."""
    return Leaving(version=generation.model.label, seats=generation.seats, since_ns=now_ns)


def nothing_left(now_ns: int) -> Leaving:
    """Return what has a snapshot written though nothing leaves."""
    return Leaving(version="", seats=(), since_ns=now_ns)


def seat_names(spec: DeploymentSpec, number: int, n_adapters: int) -> list[str]:
    """Return the names of the processes that a specification asks for."""
    if spec.url:
        return []
    count = spec.replicas + (n_adapters if spec.strict_adapters else 0)
    first = f"engine-{spec.name}~{number}"  # no name of a deployment holds a ~
    return [first if each == 1 else f"{first}~{each}" for each in range(1, count + 1)]


def seat_specs(deployment: str, generation: Generation) -> list[SeatSpec]:
    """Return the processes of a generation as they were asked for when it was taken up."""
    return [
        SeatSpec(
            child=name,
            deployment=deployment,
            engine="vllm" if generation.engine == "vllm" else "embedded",
            model=generation.model,
            served_name=generation.served_name,
            adapters=adapters_of_seat(generation, number),
            context_length=generation.context_length,
            slots=generation.slots,
            threads=generation.threads,
        )
        for number, name in enumerate(generation.seats)
    ]


def ended_at_once(name: str, last_words: str) -> EngineDidNotStart:
    """Return the error of a process that does not stay."""
    return EngineDidNotStart(
        f"{name} ended {EARLY_DEATHS} times before it was ready. Its log ends:\n{last_words}",
        hint="penstock deploy logs NAME shows more of it.",
    )


def not_in_time(names: Sequence[str], waited_s: float) -> EngineDidNotStart:
    """Return the error of processes that do not get ready."""
    return EngineDidNotStart(
        f"{', '.join(names)} is not ready after {waited_s:.0f} s.",
        hint="penstock deploy logs NAME shows its log.",
    )
