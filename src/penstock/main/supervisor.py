"""Keeps the processes of one home running: starts them, restarts them, stops them in order.

Knows processes only by their specs; what they do is not its business, so it stays light. A child that
dies comes back after a growing pause; one that holds for a while starts again from the shortest pause.
"""

import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from penstock.base.clock import now_ns
from penstock.main.children import Child, ChildSpec
from penstock.main.errors import ChildFailed
from penstock.main.home_files import restart_folder
from penstock.main.instance import (
    Addresses,
    ChildState,
    ChildStatus,
    InstanceState,
    InstanceStatus,
    write_state,
)
from penstock.spec.home import Home

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0
LONGEST_DOUBLING = 10
STEADY_S = 30.0
"""A child that ran this long without dying starts again from the shortest pause."""
EARLY_DEATHS = 3
"""A vital child that dies this often, never steady in between, stops the start."""
TICK_S = 0.05
_LOG = logging.getLogger("penstock.supervisor")
_STAGE = re.compile("[-~]")


class Supervisor:
    """Runs children until it is told to stop."""

    def __init__(
        self,
        *,
        home: Home,
        addresses: Addresses,
        workers: int,
        version: str,
        children: Sequence[ChildSpec],
        say: Callable[[str], None],
        start_deadline_s: float = 180.0,
        find_engines: Callable[[], Sequence[ChildSpec]] = tuple,
    ) -> None:
        """`find_engines` gives the processes that are meant to run beside `children` at this moment; it is asked again
        and again, and must be quick. A child that ends again and again is told at once; the deadline is for
        one that lives and does not answer: a busy machine takes more than a minute to import what control needs."""
        self.home = home
        self.addresses = addresses
        self.workers = workers
        self.version = version
        self.children = [Child(spec, logs=home.logs) for spec in children]
        self.started_ns = now_ns()
        self._say = say
        self._find_engines = find_engines
        self._engines: dict[str, Child] = {}
        """Those of `children` that come and go."""
        self._start_deadline_s = start_deadline_s
        self._stop = threading.Event()
        self._hurry = False
        self._status: InstanceStatus = "starting"
        self._written: InstanceState | None = None
        self._is_unwritable = False

    def run(self, on_ready: Callable[[], object]) -> None:
        """Start all, call `on_ready` once when all are ready, keep them running until asked to stop.

        Raises `ChildFailed` when a vital child cannot be brought up at all. Whatever happens, no child
        is left running on return.
        """
        with self._signals():
            try:
                self._start(on_ready)
                while not self._stop.wait(TICK_S):
                    self._tick()
            finally:
                self._shut_down()

    def ask_to_stop(self) -> None:
        """Begin the orderly end; a second call ends it at once."""
        self._hurry = self._stop.is_set()
        self._stop.set()

    def _start(self, on_ready: Callable[[], object]) -> None:
        begin = time.monotonic()
        late_said = False
        while not self._stop.wait(TICK_S / 2):
            self._tick()
            self._refuse_hopeless(time.monotonic() - begin)
            waiting = [child for child in self.children if not child.is_ready]
            if not waiting:
                self._note("ready")
                on_ready()
                return
            if not late_said and time.monotonic() - begin > min(self._start_deadline_s / 6, 10.0):
                late_said = True
                self._say(f"still waiting for {', '.join(child.spec.name for child in waiting)} …")
            is_late = time.monotonic() - begin > self._start_deadline_s / 2
            if not any(child.spec.is_vital for child in waiting) and (self._all_dead(waiting) or is_late):
                for child in waiting:
                    what = "does not start" if self._all_dead([child]) else "is not ready yet"
                    self._say(f"{child.spec.name} {what}; going on without it. See {child.log_path}")
                self._note("ready")
                on_ready()
                return

    def _all_dead(self, children: list[Child]) -> bool:
        return all(child.n_early_deaths >= EARLY_DEATHS for child in children)

    def _refuse_hopeless(self, waited_s: float) -> None:
        for child in self.children:
            if not child.spec.is_vital or child.is_ready:
                continue
            if child.n_early_deaths >= EARLY_DEATHS or waited_s > self._start_deadline_s:
                why = "ended at once" if child.n_early_deaths else f"is not ready after {waited_s:.0f} s"
                raise ChildFailed(
                    f"The {child.spec.name} process {why}. Its log ends:\n{child.last_words()}",
                    hint=f"The whole log: {child.log_path}",
                    child=child.spec.name,
                )

    def _tick(self) -> None:
        now = time.monotonic()
        self._follow_engines(now)
        for child in reversed(self.children):  # control takes longest to start
            if child.leaves_by_s is not None:
                continue
            self._reap(child, now)
            if child.next_start_s is not None and now >= child.next_start_s:
                self._start_child(child, now)
            elif (
                child.process is not None
                and not child.is_ready
                and child.check_ready()
                and child.n_starts > 1
            ):
                self._say(f"{child.spec.name} is back")
        self._serve_restart_requests()
        self._note(self._status)

    def _follow_engines(self, now: float) -> None:
        """Take up processes that are meant to run now, and let those end that are not."""
        wanted = {spec.name: spec for spec in self._find_engines()}
        for name, child in list(self._engines.items()):
            if child.leaves_by_s is None and wanted.get(name) != child.spec:
                child.leaves_by_s = now + child.spec.drain_s
                child.next_start_s = None
                child.ask_to_stop()
            if child.leaves_by_s is None:
                continue
            if child.process is not None and child.exit_status() is None:
                if now > child.leaves_by_s:
                    child.kill()
                    self._say(f"{name} had not stopped yet and was killed")
                continue
            child.forget()
            del self._engines[name]
            self.children.remove(child)
        for name, spec in wanted.items():
            if name not in self._engines:
                child = self._engines[name] = Child(spec, logs=self.home.logs)
                # before control, so that they end after the gateways and before it
                at = next(
                    (i for i, each in enumerate(self.children) if _stage(each) == "control"),
                    len(self.children),
                )
                self.children.insert(at, child)

    def _start_child(self, child: Child, now: float) -> None:
        try:
            child.start(now)
        except (OSError, subprocess.SubprocessError) as error:  # no memory, no room for its log …
            self._plan_return(child, now, f"could not be started ({error})")
            return
        if child.n_starts > 1:
            _LOG.info("child restarted", extra={"child": child.spec.name, "n_starts": child.n_starts})

    def _reap(self, child: Child, now: float) -> None:
        status = child.exit_status()
        if status is None:
            return
        was_ready = child.is_ready
        child.forget()
        if was_ready and now - child.started_s >= STEADY_S:
            child.n_early_deaths = 0
        self._plan_return(child, now, f"ended ({describe_exit(status)})")

    def _plan_return(self, child: Child, now: float, what: str) -> None:
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(child.n_early_deaths, LONGEST_DOUBLING))
        child.n_early_deaths += 1
        child.next_start_s = now + pause
        self._say(f"{child.spec.name} {what}; starting it again in {pause:.2g} s")
        _LOG.warning("child down", extra={"child": child.spec.name, "what": what, "pause_s": pause})

    def _serve_restart_requests(self) -> None:
        """Stop each child for which a file lies in `run/restart`; `_tick` then starts it again at once."""
        folder = restart_folder(self.home)
        try:
            wanted = [path for path in folder.iterdir() if not path.name.startswith(".")]
        except OSError:
            return
        for path in wanted:
            try:
                path.unlink(missing_ok=True)
            except OSError:  # not a request, or one that would be served for ever
                continue
            for child in self.children:
                if child.spec.name == path.name and child.process is not None:
                    self._say(f"restarting {child.spec.name} to take up what changed")
                    child.ask_to_stop()
                    self._await_end([child])
                    child.forget()
                    child.next_start_s = time.monotonic()

    def _note(self, status: InstanceStatus) -> None:
        """Keep `state.json` true. What cannot be written now is tried again at the next tick."""
        self._status = status
        state = InstanceState(
            pid=os.getpid(),
            started_ns=self.started_ns,
            status=status,
            addresses=self.addresses,
            workers=self.workers,
            version=self.version,
            children=[
                ChildState(
                    name=child.spec.name,
                    pid=child.pid,
                    status=_child_status(child, status),
                    n_restarts=max(0, child.n_starts - 1),
                )
                for child in self.children
            ],
        )
        if state == self._written:
            return
        try:
            write_state(self.home, state)
        except OSError as error:
            if not self._is_unwritable:
                self._say(f"{self.home.state} cannot be written ({error.strerror}); all goes on without it")
            self._is_unwritable = True
            return
        self._written = state
        self._is_unwritable = False

    def _shut_down(self) -> None:
        """Stop gateways first so that no call is left without its apps, engine and collector."""
        self._note("stopping")
        remaining = list(self.children)
        while remaining:
            stage = [child for child in remaining if _stage(child) == _stage(remaining[0])]
            for child in stage:
                child.ask_to_stop()
            self._await_end(stage)
            remaining = [child for child in remaining if child not in stage]
        self._note("stopping")

    def _await_end(self, children: list[Child]) -> None:
        end = time.monotonic() + max(child.spec.drain_s for child in children)
        while any(child.pid is not None for child in children):
            if self._hurry or time.monotonic() > end:
                for child in children:
                    if child.pid is not None:
                        child.kill()
                        self._say(f"{child.spec.name} had not stopped yet and was killed")
            time.sleep(TICK_S / 2)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT while inside (main thread only; elsewhere nothing is installed)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.ask_to_stop()

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def describe_exit(status: int) -> str:
    """Return an exit status in words: `exit 3` or `killed by SIGKILL`."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _stage(child: Child) -> str:
    return _STAGE.split(child.spec.name)[0]


def _child_status(child: Child, instance: InstanceStatus) -> ChildStatus:
    if child.pid is None:
        return "stopped" if instance == "stopping" else "waiting"
    return "ready" if child.is_ready else "starting"
