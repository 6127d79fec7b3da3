"""One supervised process: starting, watching its readiness, stopping it. The schedule is the supervisor's."""

import ctypes
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.main.stopping import PATIENCE_S

LOG_BYTES = 16 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """How one process is started and known to be ready."""

    name: str
    command: tuple[str, ...]
    """Program and arguments."""
    host: str
    port: int
    ready_path: str = "/readyz"
    ready_folder: Path | None = None
    """Where the process leaves a file named as its id once it serves. Needed where several processes share a port:
    there, any of them may answer the question whether one is ready."""
    is_vital: bool = True
    """False when the instance is of use without it, so its failure at start is only reported."""
    drain_s: float = PATIENCE_S
    """How long it may take to stop before it is killed."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What it is given beside this process's own environment."""


class Child:
    """A process started from a spec. Not thread-safe; one supervisor loop owns it."""

    def __init__(self, spec: ChildSpec, *, logs: Path) -> None:
        self.spec = spec
        self.log_path = logs / f"{spec.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.is_ready = False
        self.n_starts = 0
        self.started_s = 0.0
        self.next_start_s: float | None = 0.0
        """When to start it (again); None while it runs."""
        self.n_early_deaths = 0
        self.leaves_by_s: float | None = None
        """When it is killed if it has not ended: set for one that is no longer meant to run."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self, now_s: float) -> None:
        """Start the process in a group of its own; it ends when this process does, however that ends."""
        rotate_log(self.log_path)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environ} if self.spec.environ else None,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - one call that takes no lock
            )
        self.is_ready = False
        self.n_starts += 1
        self.started_s = now_s
        self.next_start_s = None

    def exit_status(self) -> int | None:
        """Return the exit status of a process that has ended, None while it runs or was never started."""
        return None if self.process is None else self.process.poll()

    def forget(self) -> None:
        """Drop a process that has ended, with whatever is left of its group."""
        if self.process is not None:
            signal_group(self.process.pid, signal.SIGKILL)
            if self.spec.ready_folder is not None:
                (self.spec.ready_folder / str(self.process.pid)).unlink(missing_ok=True)
            self.process = None
        self.is_ready = False

    def check_ready(self) -> bool:
        """Ask the process whether it is ready; once it was, it is not asked again."""
        folder = self.spec.ready_folder
        if folder is not None and not (folder / str(self.pid)).exists():
            return False
        if not self.is_ready and self.pid is not None:
            host = "127.0.0.1" if self.spec.host in {"0.0.0.0", ""} else self.spec.host  # noqa: S104 - compared
            self.is_ready = answers_ok(host, self.spec.port, self.spec.ready_path)
        return self.is_ready

    def ask_to_stop(self) -> None:
        """Send SIGTERM: finish what is under way, flush, end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group at once."""
        if self.process is not None:
            signal_group(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def last_words(self, n_lines: int = 5) -> str:
        """Return the end of its log, for a person to read."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - 4096))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "\n".join(line[:400] for line in lines[-n_lines:])


def answers_ok(host: str, port: int, path: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether `GET path` is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def rotate_log(path: Path) -> None:
    """Keep one older log beside the present one, so that logs cannot fill the disk."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group of `pid`, if it is still there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs first so that the kernel sends it SIGTERM when its parent dies (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_kernel
