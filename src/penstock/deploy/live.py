"""What a running installation is doing right now, as pages ask for it. The composition root knows where to look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.spec.routes import FaultKind, Provider, Route, Target
from penstock.store.counters import Counter


@dataclass(frozen=True, kw_only=True)
class TargetState:
    """One target as the gateways of this machine see it."""

    circuit: Literal["closed", "open", "half-open"]
    free_in_s: float
    """Seconds until an open circuit lets a call through; 0 when it does."""
    in_flight: int
    latency_s: float | None
    """Seconds to the first content, lately; None when nothing is known lately."""
    is_resting: bool
    """Whether the target asked to be left alone and the time is not over."""
    last_fault: FaultKind | None
    n_good: int
    n_bad: int
    """Outcomes within the window of the breaker; both 0 for a route without one."""


@dataclass(frozen=True, kw_only=True)
class ProviderKey:
    """Where a provider's key comes from and whether it is there. Never the key."""

    state: Literal["present", "missing", "not needed"]
    source: str
    """Name of the variable or the secret, or why none is needed."""


class LiveState(Protocol):
    """Reads what gateways share. Every method may be called from any thread and answers at once."""

    def target(self, route: Route, target: Target, provider: Provider) -> TargetState | None:
        """Return how a target is; None when no gateway of this machine has asked it since the start."""
        ...

    def counters(self) -> Sequence[Counter] | None:
        """Return the counters of limits with their windows; None when they cannot be read."""
        ...

    def provider_key(self, provider: Provider) -> ProviderKey:
        """Return whether the provider's key is there."""
        ...


class NothingLive:
    """Of an installation that nobody runs: nothing is known."""

    def target(
        self,
        route: Route,  # noqa: ARG002  # the port's names
        target: Target,  # noqa: ARG002  # see above
        provider: Provider,  # noqa: ARG002  # see above
    ) -> TargetState | None:
        """Return None."""
        return None

    def counters(self) -> Sequence[Counter] | None:
        """Return None."""
        return None

    def provider_key(self, provider: Provider) -> ProviderKey:
        """Return what the row alone says."""
        source = provider.secret or provider.api_key_env
        if provider.local or provider.auth == "none" or source is None:
            return ProviderKey(state="not needed", source="no key")
        return ProviderKey(state="missing", source=source)
