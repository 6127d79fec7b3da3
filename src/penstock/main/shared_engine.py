"""Lets the engine that hosts what `prod` names follow `prod`, without a call that fails.

A process that hosts the new versions is started beside the present one and proven; then the snapshot names it, and the
former one ends when no gateway works with a snapshot that names it. A version that is not what was registered never
takes traffic: what was there before goes on, and the refusal is told.
"""

import logging
import threading
from collections.abc import Callable, Mapping

import msgspec

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError, UpstreamError
from penstock.deploy.deployments.ports import Gateways
from penstock.deploy.deployments.reconciler import DRAIN_LIMIT_S
from penstock.deploy.deployments.steps import EARLY_DEATHS
from penstock.main.embedded import ModelRooms
from penstock.main.engine_calls import EngineCalls
from penstock.main.engine_files import (
    RETRY_S,
    SHARED,
    EngineFile,
    SharedEngine,
    find_port,
    list_engines,
    read_engine,
    read_shared,
    remove_engine,
    write_engine,
    write_shared,
)
from penstock.main.engine_proofs import EngineProver
from penstock.main.engine_seats import look_at
from penstock.main.instance import is_owned
from penstock.main.model_versions import pinned_model

TICK_S = 0.5
START_S = 120.0
MAX_LEAVING = 2
"""So many former engines may still have calls while the next one is started: each holds its models in memory."""
SYSTEM = "penstock"
_log = logging.getLogger("penstock.deployments")


class SharedEngineKeeper:
    """Runs in one thread of one process of an installation. Every step may be done twice."""

    def __init__(
        self,
        rooms: ModelRooms,
        *,
        prover: EngineProver,
        gateways: Gateways,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._rooms = rooms
        self._home = rooms.home
        self._prover = prover
        self._gateways = gateways
        self._clock = clock
        self._since_ns = 0
        """When the process that comes was asked for, as far as this thread knows."""
        self._leaving_since_ns: dict[str, int] = {}
        self._tries = 0
        self._pause_until_ns = 0

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set."""
        while not stop.wait(TICK_S):
            try:
                self.look_once()
            except PenstockError as error:  # such as tables that do not answer; the next look tries again
                _log.warning("the shared engine could not be seen to", extra={"reason": str(error)})
            except Exception:  # the edge of this thread: ended, `prod` would be followed by nobody
                _log.exception("the shared engine could not be seen to, it goes on")

    def find_warning(self) -> str | None:
        """Return what `prod` names and is not served, or None."""
        shared = read_shared(self._home)
        if shared is None or not shared.refused:
            return None
        told = [describe_refusal(shared, name) for name in sorted(shared.refused)]
        return f"{'; '.join(told)}; what was served before goes on"

    def look_once(self) -> None:
        """Take the next step, if there is one to be taken."""
        if not is_owned(self._home):
            return
        shared = read_shared(self._home)
        file = None if shared is None else read_engine(self._home, shared.child)
        if shared is None or file is None or file.models is None:  # it is only just starting
            return
        if shared.leaving:
            shared = self._end_leaving(shared)
            if 0 in shared.leaving.values() or len(shared.leaving) >= MAX_LEAVING:
                return
        prod = self._rooms.shared_models()
        refused = {
            name: number
            for name, number in shared.refused.items()
            if prod.get(name) == number and not 0 < shared.again_ns.get(name, 0) <= self._clock()
        }
        if refused != shared.refused:
            shared = msgspec.structs.replace(
                shared,
                refused=refused,
                reasons={name: why for name, why in shared.reasons.items() if name in refused},
                again_ns={name: at for name, at in shared.again_ns.items() if name in refused},
            )
            write_shared(self._home, shared)
        wanted = {
            name: file.models.get(name) if refused.get(name) == number else number
            for name, number in prod.items()
        }
        models = {name: number for name, number in wanted.items() if number is not None}
        coming = self._find_coming(shared)
        if coming is not None and coming.models != models:
            remove_engine(self._home, coming.child)  # overtaken
        elif coming is not None:
            self._bring_up(shared, file, coming)
        elif models != file.models and self._clock() >= self._pause_until_ns:
            self._start(shared, models)

    def _start(self, shared: SharedEngine, models: dict[str, int]) -> None:
        number = shared.last + 1
        child = f"{SHARED}~{number}"
        write_shared(self._home, msgspec.structs.replace(shared, last=number))
        write_engine(self._home, EngineFile(child=child, port=find_port(), role="shared", models=models))
        self._since_ns = self._clock()
        self._tries = 0
        _log.info("an engine with what prod names is being started", extra={"child": child})

    def _bring_up(self, shared: SharedEngine, file: EngineFile, coming: EngineFile) -> None:
        assert coming.models is not None
        assert file.models is not None
        changed = {name: number for name, number in coming.models.items() if file.models.get(name) != number}
        state = look_at(self._home, coming.child)
        self._since_ns = self._since_ns or self._clock()
        is_late = self._clock() - self._since_ns > START_S * 1e9
        if state.n_restarts >= EARLY_DEATHS or (is_late and state.status != "ready"):
            why = f"its engine did not start: {state.last_words or f'not ready after {START_S:.0f} s'}"
            self._refuse(shared, coming, changed, why, is_retried=True)
            return
        if state.status != "ready" or state.url is None:
            return
        try:
            told = EngineCalls(state.url, self._rooms.internal_key).demand("GET", "/engine")["failed"]
            if failed := {name: number for name, number in changed.items() if name in told}:
                self._refuse(shared, coming, failed, "; ".join(str(told[name]) for name in failed))
                return
            if lost := self._find_lost(shared, coming, told):
                self._refuse(
                    shared, coming, changed, f"beside it others did not load: {lost}", is_retried=True
                )
                return
            for name, number in changed.items():
                self._prove(shared, coming, state.url, name, number)
        except UpstreamError as error:  # it went away; the supervisor brings it back
            self._tries += 1
            if self._tries >= EARLY_DEATHS:
                self._refuse(shared, coming, changed, error.message, is_retried=True)
            return
        except _Refused:
            return
        self._switch(shared, coming)

    def _prove(self, shared: SharedEngine, coming: EngineFile, url: str, name: str, number: int) -> None:
        model = pinned_model(self._rooms.registry.resolve(f"model:{name}@{number}"))
        try:
            proof = self._prover.prove_model(url, name, model)
        except UpstreamError:
            raise
        except PenstockError as error:
            self._refuse(shared, coming, {name: number}, error.message)
            raise _Refused from error
        _log.info("proven", extra={"model": model.label, "proof": proof})

    def _find_lost(self, shared: SharedEngine, coming: EngineFile, failed: Mapping[str, object]) -> str:
        """Return which models that are served now would no longer be, and why; empty for none."""
        named = {name: failed[name] for name in coming.models or () if name in failed}
        if not named:
            return ""
        present, before = look_at(self._home, shared.child), {}
        if present.status == "ready" and present.url is not None:
            try:
                before = EngineCalls(present.url, self._rooms.internal_key).demand("GET", "/engine")["failed"]
            except UpstreamError:  # then it counts as serving all of them: nothing is given up that may work
                before = {}
        return "; ".join(f"{name}: {why}" for name, why in named.items() if name not in before)

    def _refuse(
        self,
        shared: SharedEngine,
        coming: EngineFile,
        models: dict[str, int],
        why: str,
        *,
        is_retried: bool = False,
    ) -> None:
        _log.error("versions that prod names are refused", extra={"models": models, "reason": why})
        again_ns = self._clock() + int(RETRY_S * 1e9)
        changed = msgspec.structs.replace(
            shared,
            refused={**shared.refused, **models},
            reasons={**shared.reasons, **dict.fromkeys(models, why)},
            again_ns={**shared.again_ns, **(dict.fromkeys(models, again_ns) if is_retried else {})},
        )
        write_shared(self._home, changed)
        remove_engine(self._home, coming.child)
        if (
            not models
        ):  # only fewer models were wanted: nothing to be refused, and nothing gained by trying at once
            self._pause_until_ns = again_ns

    def _switch(self, shared: SharedEngine, coming: EngineFile) -> None:
        """Let calls go to the new process. Killed in between, the next look publishes."""
        now = SharedEngine(
            child=coming.child,
            port=coming.port,
            last=shared.last,
            refused=shared.refused,
            reasons=shared.reasons,
            again_ns=shared.again_ns,
            leaving={**shared.leaving, shared.child: 0},
        )
        write_shared(self._home, now)
        self._end_leaving(now)

    def _end_leaving(self, shared: SharedEngine) -> SharedEngine:
        """Take one step of what leaves; return what stands then."""
        for child, snapshot_ns in shared.leaving.items():
            if not snapshot_ns:
                written = self._gateways.publish(actor=SYSTEM, note="the engine follows prod")
                now = msgspec.structs.replace(shared, leaving={**shared.leaving, child: written})
                write_shared(self._home, now)
                return now
            since = self._leaving_since_ns.setdefault(child, self._clock())
            is_late = self._clock() - since > DRAIN_LIMIT_S * 1e9
            if is_late or self._gateways.have_followed(snapshot_ns):
                remove_engine(self._home, child)
                leaving = {name: each for name, each in shared.leaving.items() if name != child}
                now = msgspec.structs.replace(shared, leaving=leaving)
                write_shared(self._home, now)
                self._leaving_since_ns.pop(child, None)
                return now
        return shared

    def _find_coming(self, shared: SharedEngine) -> EngineFile | None:
        for file in list_engines(self._home):
            if file.role == "shared" and file.child != shared.child and file.child not in shared.leaving:
                return file
        return None


def describe_refusal(shared: SharedEngine, name: str) -> str:
    """Return which version `prod` names is not served, and why."""
    why = shared.reasons.get(name, "it did not prove to be what was registered")
    again = " (it is tried again)" if name in shared.again_ns else ""
    return f"model:{name}@{shared.refused[name]} is prod but is not served: {why}{again}"


class _Refused(Exception):
    """A version was refused, and that is written down."""
