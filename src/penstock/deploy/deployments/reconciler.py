"""Makes deployments be as they were asked for, one small step at a time.

Each step looks at what is there (the row, the processes, what gateways work with), does one thing that may be done
twice, and writes down how far it is. Killed anywhere, the next look goes on from there. What may take its time (writing
a model out for an engine, a proof) is done beside the others, so a slow engine holds up no other.

The order of a change is what makes it safe: start the new beside the old, prove it, let it serve in the same breath in
which the old stops being named, wait until no gateway works with a snapshot that names the old, then end the old.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import PenstockError, UpstreamError
from penstock.deploy.deployments import queries
from penstock.deploy.deployments.errors import EngineDidNotStart
from penstock.deploy.deployments.ports import Gateways, ModelVersions, Prover, Seats
from penstock.deploy.deployments.queries import Stored
from penstock.deploy.deployments.rows import route_name
from penstock.deploy.deployments.steps import (
    EARLY_DEATHS,
    LOST,
    Step,
    as_going,
    ended_at_once,
    failed,
    leaving_now,
    lost,
    not_in_time,
    nothing_left,
    seat_names,
    seat_specs,
)
from penstock.deploy.deployments.types import Generation

SYSTEM = "penstock"
TICK_S = 0.25
START_S = {"embedded": 120.0, "vllm": 1800.0, "server": 30.0}
DRAIN_LIMIT_S = 600.0
"""How long processes that are to end wait for calls under way; after that they end all the same, which is told."""
PROOF_TRIES = 3
ODD_TRIES = 3
"""So often may a step fail for a reason that nobody foresaw before what comes is given up."""
LOST_PAUSE_S = 30.0
"""Before an alias that cannot be found is looked for again."""
_log = logging.getLogger("penstock.deployments")


class Reconciler:
    """Runs in one thread of one process of an installation."""

    def __init__(
        self,
        engine: Engine,
        *,
        versions: ModelVersions,
        seats: Seats,
        prover: Prover,
        gateways: Gateways,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._engine = engine
        self._versions = versions
        self._seats = seats
        self._prover = prover
        self._gateways = gateways
        self._clock = clock
        self._restarts: dict[str, int] = {}
        """Seats that serve, and how often they had come back when last looked at."""
        self._odd: dict[tuple[str, int], int] = {}
        """How often a step of a deployment's epoch failed for a reason that nobody foresaw."""
        self._lost: dict[str, int] = {}
        """Deployments whose alias could not be found, and when."""
        self._busy: set[str] = set()
        """Deployments that a thread of their own works on."""

    def run(self, stop: threading.Event) -> None:
        """Look at all deployments again and again until `stop` is set. What comes is started and proven in threads
        beside this one, one a deployment."""
        while not stop.wait(TICK_S):
            busy = set(
                self._busy
            )  # before the list: what a thread has just left is read anew in the next round
            try:
                stored = self._list()
            except (
                Exception
            ):  # the edge of this thread: ended, nothing would be deployed until the next start
                _log.exception("deployments could not be looked at, it goes on")
                continue
            for item in stored:
                if item.name in busy:
                    continue
                if item.standing.coming is None:
                    self._look_safely(item)
                    continue
                self._busy.add(item.name)
                threading.Thread(
                    target=self._look_alone, args=(item,), name=f"deploying {item.name}", daemon=True
                ).start()

    def look_once(self) -> bool:
        """Take one step of each deployment that is not as it should be; return whether there was one."""
        worked = False
        for item in self._list():
            worked = self._look_safely(item) or worked
        return worked

    def _list(self) -> Sequence[Stored]:
        with self._engine.connect() as connection:
            return queries.list_deployments(connection)

    def _look_alone(self, item: Stored) -> None:
        try:
            self._look_safely(item)
        finally:
            self._busy.discard(item.name)

    def _look_safely(self, item: Stored) -> bool:
        """Take one step of a deployment; whatever happens to it happens to no other."""
        try:
            return self._look(item)
        except PenstockError as error:  # such as a registry that does not answer; the next look tries again
            _log.warning(
                "a deployment could not be seen to", extra={"deployment": item.name, "reason": str(error)}
            )
        except Exception as error:
            _log.exception("a deployment could not be seen to", extra={"deployment": item.name})
            return self._bear(item, error)
        return False

    def _bear(self, item: Stored, error: Exception) -> bool:
        """Count what nobody foresaw; give up what comes when it goes on like that."""
        tried = self._odd[item.name, item.epoch] = self._odd.get((item.name, item.epoch), 0) + 1
        coming = item.standing.coming
        if tried < ODD_TRIES or coming is None:
            return False
        told = EngineDidNotStart(
            f"{coming.model.label} could not be started and proven: {type(error).__name__}: {error}",
            hint="The log of control says where. Ask for it again once that is mended.",
        )
        try:
            self._write(item, self._give_up(item, coming, told))
        except Exception:
            _log.exception("a deployment could not be given up", extra={"deployment": item.name})
            return False
        return True

    def _look(self, item: Stored) -> bool:
        standing = item.standing
        self._tell_crashes(item)
        for make in (self._publish, self._end_leaving, self._go, self._take_up, self._start, self._follow):
            step = make(item)
            if step is not None:
                self._write(item, step)
                return True
        self._keep(item.name, standing.serving)
        return False

    def _write(self, item: Stored, step: Step) -> None:
        with self._engine.begin() as connection:
            now = queries.get_deployment(connection, item.name, for_update=True)
            if now is None or as_going(now.standing, item.standing) != item.standing:
                return  # somebody else was faster; the next look goes by what stands now
            if step.is_gone and now.epoch == item.epoch:
                queries.delete_deployment(connection, item.name)
            else:
                # whether it is to go, only the service says
                standing = msgspec.structs.replace(step.standing, is_going=now.standing.is_going)
                state = now.state if now.standing.is_going else step.state
                queries.update_deployment(
                    connection, replace(now, state=state, standing=standing, updated_ns=self._clock())
                )
            if step.kind:
                detail = msgspec.to_builtins(step.detail or {})
                queries.insert_event(
                    connection,
                    item.name,
                    step.kind,
                    step.text,
                    detail=detail,
                    actor=SYSTEM,
                    at_ns=self._clock(),
                )
                _log.info(step.kind, extra={"deployment": item.name, "what": step.text})

    # -- the end of what leaves

    def _publish(self, item: Stored) -> Step | None:
        """Write the snapshot that no longer names what leaves."""
        standing = item.standing
        if all(each.snapshot_ns is not None for each in standing.leaving):
            return None
        written = self._gateways.publish(actor=SYSTEM, note=f"deployment {item.name}")
        leaving = tuple(
            each
            if each.snapshot_ns is not None
            else msgspec.structs.replace(each, snapshot_ns=written, since_ns=self._clock())
            for each in standing.leaving
        )
        return Step(state=item.state, standing=msgspec.structs.replace(standing, leaving=leaving))

    def _end_leaving(self, item: Stored) -> Step | None:
        """End processes that no gateway needs any more."""
        standing, now = item.standing, self._clock()
        for each in standing.leaving:
            assert each.snapshot_ns is not None
            is_late = now - each.since_ns > DRAIN_LIMIT_S * 1e9
            if not is_late and not self._gateways.have_followed(each.snapshot_ns):
                continue
            for seat in each.seats:
                self._seats.drop(seat)
                self._restarts.pop(seat, None)
            left = tuple(other for other in standing.leaving if other is not each)
            text = f"{each.version} ended" + (", though calls to it were still under way" if is_late else "")
            return Step(
                state=item.state,
                standing=msgspec.structs.replace(standing, leaving=left),
                kind="stopped" if each.seats else "",
                text=text,
            )
        return None

    def _go(self, item: Stored) -> Step | None:
        """Let a deployment that was deleted leave, and forget it when everything of it has ended."""
        standing = item.standing
        if not standing.is_going:
            return None
        if standing.coming is not None:
            self._drop(standing.coming)
            return Step(state="draining", standing=msgspec.structs.replace(standing, coming=None))
        if standing.serving is not None:
            leaving = leaving_now(standing.serving, self._clock())
            changed = msgspec.structs.replace(standing, serving=None, leaving=(*standing.leaving, leaving))
            text = f"{standing.serving.model.label} takes no new calls"
            return Step(state="draining", standing=changed, kind="leaving", text=text)
        if standing.leaving:
            return None
        for seat in self._seats.names(item.name):  # of a start that was killed before it was written down
            self._seats.drop(seat)
        return Step(
            state="stopped", standing=standing, kind="gone", text="nothing of it runs any more", is_gone=True
        )

    # -- what comes

    def _take_up(self, item: Stored) -> Step | None:
        """Turn what is asked for into a generation to be started, unless that very thing serves or comes already."""
        standing, spec = item.standing, item.spec
        if standing.is_going or standing.applied == item.epoch:
            return None
        if standing.coming is not None:  # overtaken before it served
            self._drop(standing.coming)
            return Step(state=item.state, standing=msgspec.structs.replace(standing, coming=None))
        model = None
        try:
            model = self._versions.pin(spec.model)
            adapters = tuple(self._versions.pin(each) for each in spec.adapters)
            self._versions.check_servable(spec, model, adapters)
        except PenstockError as error:
            refused = None if model is None else model.digest
            changed = msgspec.structs.replace(
                standing, applied=item.epoch, error=error.as_dict(), refused=refused
            )
            return failed(changed, f"{spec.model} cannot be served: {error.message}", error)
        number = standing.last_number + 1
        coming = Generation(
            number=number,
            model=model,
            engine=spec.engine,
            adapters=adapters,
            context_length=spec.context_length,
            slots=spec.slots,
            threads=spec.threads,
            seats=tuple(seat_names(spec, number, len(adapters))),
            is_strict=spec.strict_adapters and bool(adapters),
            url=spec.url,
            served_name=spec.served_name or spec.name,
            secret=spec.secret,
            began_ns=self._clock(),
        )
        changed = msgspec.structs.replace(
            standing, applied=item.epoch, coming=coming, last_number=number, error=None, refused=None
        )
        return Step(
            state="starting" if standing.serving is None else "ready",
            standing=changed,
            kind="starting",
            text=f"{model.label} is being started" if coming.seats else f"{model.label} is being looked for",
            detail={"digest": model.digest, "seats": coming.seats},
        )

    def _start(self, item: Stored) -> Step | None:
        """Bring up what comes, prove it, and let it serve."""
        standing, coming = item.standing, item.standing.coming
        if coming is None:
            return None
        for seat in seat_specs(item.name, coming):
            self._seats.put(seat)
        states = {name: self._seats.look(name) for name in coming.seats}
        for name, state in states.items():
            if state.n_restarts >= EARLY_DEATHS:
                return self._give_up(item, coming, ended_at_once(name, state.last_words))
        if any(state.status != "ready" for state in states.values()):
            waited_s = (self._clock() - coming.began_ns) / 1e9
            if waited_s <= START_S[coming.engine]:
                return None
            return self._give_up(item, coming, not_in_time(sorted(states), waited_s))
        if item.state == "starting":
            return Step(
                state="proving",
                standing=standing,
                kind="proving",
                text=f"{coming.model.label} runs and is being proven",
            )
        return self._prove(item, coming, [state.url for state in states.values() if state.url])

    def _prove(self, item: Stored, coming: Generation, urls: Sequence[str]) -> Step:
        try:
            proof = self._prover.prove(item.spec, coming, [coming.url] if coming.url else urls)
        except UpstreamError as error:  # it went away; the supervisor brings it back
            if coming.n_tries + 1 >= PROOF_TRIES:
                return self._give_up(item, coming, error)
            tried = msgspec.structs.replace(coming, n_tries=coming.n_tries + 1)
            return Step(
                state=item.state,
                standing=msgspec.structs.replace(item.standing, coming=tried),
                kind="proving",
                text=f"the proof of {coming.model.label} broke off: {error.message}",
            )
        except PenstockError as error:
            return self._give_up(item, coming, error)
        return self._let_serve(item, msgspec.structs.replace(coming, proof=dict(proof)))

    def _let_serve(self, item: Stored, proven: Generation) -> Step:
        standing = item.standing
        before = standing.serving
        leaving = standing.leaving
        # also where nothing leaves: the snapshot that names the new one has still to be written
        leaving = (*leaving, leaving_now(before, self._clock()) if before else nothing_left(self._clock()))
        is_other = before is not None and before.model.digest != proven.model.digest
        changed = msgspec.structs.replace(
            standing,
            serving=proven,
            coming=None,
            leaving=leaving,
            previous=before.model if before is not None and is_other else standing.previous,
            previous_adapters=before.adapters
            if before is not None and is_other
            else standing.previous_adapters,
            previous_context=before.context_length
            if before is not None and is_other
            else standing.previous_context,
            swaps=standing.swaps + (before is not None),
            error=None,
        )
        what = f"{proven.model.label} is proven and answers as {route_name(item.spec)!r}"
        if before is not None:
            what += f" in the place of {before.model.label}"
        return Step(
            state="ready",
            standing=changed,
            kind="swapped" if before is not None else "ready",
            text=what,
            detail={"proof": proven.proof},
        )

    def _give_up(self, item: Stored, coming: Generation, error: PenstockError) -> Step:
        self._drop(coming)
        changed = msgspec.structs.replace(
            item.standing, coming=None, error=error.as_dict(), refused=coming.model.digest
        )
        return failed(changed, f"{coming.model.label} takes no traffic: {error.message}", error)

    def _follow(self, item: Stored) -> Step | None:
        """Take up a moved alias."""
        standing, spec = item.standing, item.spec
        if not spec.follow or standing.is_going or standing.coming is not None or standing.serving is None:
            return None
        lost_ns = self._lost.get(item.name)
        if lost_ns is not None and self._clock() - lost_ns < LOST_PAUSE_S * 1e9:
            return None
        was_lost = standing.error is not None and LOST in standing.error
        try:
            model = self._versions.pin(spec.model)
        except PenstockError as error:
            self._lost[item.name] = self._clock()
            return None if was_lost else lost(item, standing.serving, error)
        self._lost.pop(item.name, None)
        if model.digest in (standing.serving.model.digest, standing.refused):
            if not was_lost:
                return None
            changed = msgspec.structs.replace(standing, error=None)
            return Step(state=item.state, standing=changed, kind="back", text=f"{spec.model} is found again")
        text = f"{spec.model} is {model.label} now"
        return Step(
            state=item.state,
            standing=msgspec.structs.replace(standing, applied=0),
            kind="changed",
            text=text,
        )

    # -- what serves

    def _keep(self, name: str, serving: Generation | None) -> None:
        """See to it that what serves is meant to run, also after somebody emptied the folder of the instance."""
        if serving is not None:
            for seat in seat_specs(name, serving):
                self._seats.put(seat)

    def _tell_crashes(self, item: Stored) -> None:
        serving = item.standing.serving
        for name in serving.seats if serving is not None else ():
            state = self._seats.look(name)
            before = self._restarts.get(name)
            self._restarts[name] = state.n_restarts
            if before is None or state.n_restarts == before:
                continue
            # written without a step: what is asked for and what serves has not changed
            with self._engine.begin() as connection:
                queries.insert_event(
                    connection,
                    item.name,
                    "crashed",
                    f"{name} died and was started again",
                    detail={"seat": name, "n_restarts": state.n_restarts, "last_words": state.last_words},
                    actor=SYSTEM,
                    at_ns=self._clock(),
                )

    def _drop(self, generation: Generation) -> None:
        for seat in generation.seats:
            self._seats.drop(seat)
