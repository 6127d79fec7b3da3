"""What the console shows of running gateways: health from their shared file, counters from LMDB, keys by presence."""

import logging
from collections.abc import Callable, Mapping, Sequence

from penstock.deploy.live import ProviderKey, TargetState
from penstock.gateway.health import name_target
from penstock.gateway.health_reader import HealthReader
from penstock.providers.auth.errors import CredentialsUnusable
from penstock.providers.auth.port import MissingKey
from penstock.providers.auth.signers import make_signer
from penstock.spec.home import Home
from penstock.spec.routes import Provider, Route, Target
from penstock.spec.snapshot import Snapshot
from penstock.store.counters import Counter, CounterStore
from penstock.store.errors import CountersUnreadable

_log = logging.getLogger("penstock.control")


class LiveReader:
    """`deploy.live.LiveState` over the files of one home. Safe for threads."""

    def __init__(
        self, home: Home, environ: Mapping[str, str], find_snapshot: Callable[[], Snapshot | None]
    ) -> None:
        self._environ = environ
        self._find_snapshot = find_snapshot
        self._health = HealthReader(home.run / "health")
        self._counters: CounterStore | None = None
        try:
            self._counters = CounterStore(home.counters)
        except CountersUnreadable as error:
            _log.warning("the console shows no use of limits", extra={"reason": error.message})

    def target(self, route: Route, target: Target, provider: Provider) -> TargetState | None:
        """Return how a target is; None when no gateway of this machine has asked it since the start."""
        model = "*" if route.name.endswith("/*") else target.model
        found = self._health.target(name_target(provider, model), route.breaker)
        if found is None:
            return None
        good, bad = found.recent(route.breaker) if route.breaker is not None else (0.0, 0.0)
        return TargetState(
            circuit=found.state,
            free_in_s=found.free_in_s(),
            in_flight=int(found.in_flight),
            latency_s=found.latency_s or None,
            is_resting=found.is_resting,
            last_fault=found.last_fault,
            n_good=round(good),
            n_bad=round(bad),
        )

    def counters(self) -> Sequence[Counter] | None:
        """Return the counters of limits with their windows; None when they cannot be read."""
        if self._counters is None:
            return None
        try:
            return self._counters.list_counters()
        except CountersUnreadable:
            return None

    def provider_key(self, provider: Provider) -> ProviderKey:
        """Return whether the provider's key is there. A sealed secret is looked for, never opened."""
        if provider.local:
            return ProviderKey(state="not needed", source="runs here")
        if provider.auth == "none":
            return ProviderKey(state="not needed", source="no key")
        snapshot = self._find_snapshot()
        kept = dict.fromkeys(snapshot.secrets, "kept") if snapshot is not None else {}
        source = provider.secret or provider.api_key_env
        try:
            found = make_signer(provider, self._environ, kept)
        except CredentialsUnusable:  # the file or secret is there; whether it can be used is told by a call
            return ProviderKey(state="present", source=source or provider.auth)
        if isinstance(found, MissingKey):
            return ProviderKey(state="missing", source=found.variable)
        if source is None and provider.auth not in {"sigv4", "gcp"}:
            return ProviderKey(state="not needed", source="no key")
        return ProviderKey(state="present", source=source or f"the environment ({provider.auth})")

    def close(self) -> None:
        """Let go of the counters."""
        if self._counters is not None:
            self._counters.close()
