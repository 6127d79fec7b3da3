"""What is kept of a deployment beside its specification, and what its engines tell. No behaviour."""

from typing import Any, Literal

import msgspec

from penstock.spec.routes import RouteKind
from penstock.spec.tuning import EngineKind

SeatStatus = Literal["missing", "starting", "ready", "waiting"]
"""`waiting`: it has died and starts again after a pause."""


class PinnedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version as the registry holds it, as far as serving goes."""

    asset: str
    """`model:NAME`"""
    number: int
    digest: str
    kind: RouteKind
    context_length: int

    @property
    def label(self) -> str:
        """`model:NAME@NUMBER`"""
        return f"{self.asset}@{self.number}"

    @property
    def name(self) -> str:
        """Of the asset, without `model:`."""
        return self.asset.partition(":")[2]

    @property
    def short(self) -> str:
        """Twelve hex characters of the digest."""
        return self.digest.removeprefix("sha256:")[:12]

    @property
    def stamp(self) -> str:
        """`NUMBER@sha256:…` as spans carry it."""
        return f"{self.number}@sha256:{self.short}"


class Generation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one deployment, with the processes that serve it. A change makes a new one."""

    number: int
    model: PinnedModel
    engine: EngineKind = "embedded"
    adapters: tuple[PinnedModel, ...] = ()
    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    """How its processes were started and proven: a specification that is only asked for changes nothing of it."""
    seats: tuple[str, ...] = ()
    """Names of its processes, as the supervisor knows them; empty for a server that runs elsewhere."""
    is_strict: bool = False
    """Each adapter has a process of its own: the last of the seats, in the order of the adapters."""
    url: str | None = None
    """Of such a server, ending in `/v1`."""
    served_name: str = ""
    """Under which the engine knows the model."""
    secret: str | None = None
    began_ns: int = 0
    proof: dict[str, Any] | None = None
    n_tries: int = 0
    """How often its proof broke off because the engine went away."""


class Leaving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Processes that take no new calls and end when no gateway works with a snapshot that names them."""

    version: str
    seats: tuple[str, ...]
    since_ns: int
    snapshot_ns: int | None = None
    """When the first snapshot without them was written; None until it is."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a deployment is: the column `content`. Every step of the reconciler goes from one to the next."""

    applied: int = 0
    """The epoch of the specification that was taken up last, well or badly."""
    serving: Generation | None = None
    coming: Generation | None = None
    """Being started or proven."""
    leaving: tuple[Leaving, ...] = ()
    previous: PinnedModel | None = None
    """What served before, for a rollback."""
    previous_adapters: tuple[PinnedModel, ...] = ()
    previous_context: int | None = None
    """What it was served with."""
    error: dict[str, Any] | None = None
    refused: str | None = None
    """Digest of the version that did not get to serve last, so that following an alias does not try it for ever."""
    swaps: int = 0
    is_going: bool = False
    """It was deleted, and goes when its processes have ended."""
    last_number: int = 0


class SeatSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine process that is to run."""

    child: str
    deployment: str
    engine: Literal["embedded", "vllm"]
    model: PinnedModel
    served_name: str
    adapters: tuple[PinnedModel, ...] = ()
    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None


class SeatState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an engine process is now."""

    status: SeatStatus
    url: str | None = None
    """Base address, ending in `/v1`."""
    pid: int | None = None
    n_restarts: int = 0
    last_words: str = ""
    """The end of its log, where it has died."""


class DeploymentEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a deployment."""

    id: int
    deployment: str
    kind: str
    """created, changed, starting, proving, proven, refused, swapped, ready, failed, leaving, stopped, crashed, lost, back,
    rolled-back, deleted, gone"""
    text: str
    detail: dict[str, Any] = {}
    actor: str
    at_ns: int
