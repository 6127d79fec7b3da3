"""Starts the trainer's process and watches it to its end: events, memory, time, and what a death means.

The trainer has a process group of its own and dies with the process that started it (it is sent SIGTERM then, and
writes a checkpoint). Its end is told in words: exit status 3 means that a fault stands in the events, a SIGKILL from
nowhere means the kernel ran out of memory when the trainer was large, and everything else is a crash that is tried
again from the last checkpoint.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.spec.tuning import RunEvent, RunFault
from penstock.tuning.runs.events import read_events
from penstock.tuning.runs.folder import RunFolder
from penstock.tuning.trainer.events import cut_torn_line

POLL_S = 0.25
DISK_EVERY = 8
"""Looks at the process to one look at its folder."""
STOP_S = 120.0
"""How long a trainer that was asked to stop may take to write its checkpoint."""
FAULT_STATUS = 3
_PR_SET_PDEATHSIG = 1
FAULTS: tuple[RunFault, ...] = ("nan_loss", "out_of_memory", "disk_full", "budget", "data_changed", "trainer")


@dataclass(frozen=True, kw_only=True)
class TrainerEnd:
    """How one start of the trainer ended."""

    reason: str
    """`done`, `early`, `budget`, `stopped` as the trainer says, or `fault`, or `crash`."""
    fault: RunFault | None = None
    text: str = ""
    best: str | None = None
    """Path of the best checkpoint below the run's folder."""
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainerCommand:
    """How the trainer is started."""

    argv: Sequence[str]
    env: Mapping[str, str]
    max_memory_bytes: int | None = None
    """It is ended when it holds more."""
    max_disk_bytes: int | None = None
    """The run is ended when its folder holds more."""


@dataclass
class _Seen:
    """What the events have said so far in this start."""

    after: int
    ended: RunEvent | None = None
    fault: RunEvent | None = None
    best: str | None = None
    peak_bytes: int = 0
    looks: int = 0
    over_s: float = 0.0
    log_start: int = 0
    """Where in the log this start begins: what earlier ones said is not why this one died."""


class TrainerDrive:
    """One start of the trainer. Use from one thread."""

    def __init__(
        self,
        folder: RunFolder,
        command: TrainerCommand,
        *,
        on_event: Callable[[RunEvent], None],
        check: Callable[[], None],
        poll_s: float = POLL_S,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check` is asked again and again; what it raises stops the trainer, with a checkpoint, and is raised."""
        self._folder = folder
        self._command = command
        self._on_event = on_event
        self._check = check
        self._poll_s = poll_s
        self._sleep = sleep
        self._monotonic = monotonic

    def run(self, lock: int) -> TrainerEnd:
        """Start the trainer, wait for its end and return how it ended; `lock` is passed on to it."""
        self._folder.rotate_log()
        seen = _Seen(after=cut_torn_line(self._folder.events))
        with self._folder.log.open("ab") as log:
            seen.log_start = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                list(self._command.argv),
                cwd=self._folder.path,
                env=dict(self._command.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one call that takes no lock
            )
        self._folder.note_trainer(process.pid)
        over: tuple[RunFault, str] | None = None
        try:
            while process.poll() is None:
                self._take(seen)
                self._check()
                over = self._hold_to_bounds(process, seen, over)
                self._sleep(self._poll_s)
        except BaseException:
            self._stop(process)
            self._take(seen)
            raise
        finally:
            _kill_group(process.pid)  # helpers that it may have left
        self._take(seen)
        return _read_end(process.returncode, seen, over, self._folder)

    def _take(self, seen: _Seen) -> None:
        while True:
            page = read_events(self._folder.events, after=seen.after, limit=1000)
            seen.after = page.next_after
            for event in page.rows:
                if event.kind == "ended":
                    seen.ended = event
                elif event.kind == "fault":
                    seen.fault = event
                elif event.kind == "best":
                    seen.best = str(event.detail.get("path") or "") or seen.best
                self._on_event(event)
            if len(page.rows) < 1000:
                return

    def _hold_to_bounds(
        self, process: subprocess.Popen[bytes], seen: _Seen, over: tuple[RunFault, str] | None
    ) -> tuple[RunFault, str] | None:
        """Ask a trainer over its bounds to stop, once; kill one that does not."""
        if over is None:
            over = self._over(process, seen)
            seen.over_s = self._monotonic()
        elif self._monotonic() > seen.over_s + STOP_S:
            _kill_group(process.pid)
        return over

    def _over(self, process: subprocess.Popen[bytes], seen: _Seen) -> tuple[RunFault, str] | None:
        """Return what the trainer holds too much of, having asked it to stop."""
        held = resident_bytes(process.pid)
        seen.peak_bytes = max(seen.peak_bytes, held or 0)
        bound = self._command.max_memory_bytes
        if bound is not None and held is not None and held > bound:
            process.send_signal(signal.SIGTERM)
            return "out_of_memory", f"the trainer held {_size(held)}, and {_size(bound)} are allowed"
        disk, seen.looks = self._command.max_disk_bytes, seen.looks + 1
        if disk is None or seen.looks % DISK_EVERY:
            return None
        if (used := self._folder.size_bytes()) > disk:
            process.send_signal(signal.SIGTERM)
            return "disk_full", f"the run's folder holds {_size(used)}, and {_size(disk)} are allowed"
        return None

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask for a checkpoint and wait for it; kill a trainer that does not end."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        end = self._monotonic() + STOP_S
        while process.poll() is None and self._monotonic() < end:
            self._sleep(self._poll_s)
        if process.poll() is None:
            _kill_group(process.pid)
            process.wait()


def resident_bytes(pid: int) -> int | None:
    """Return what a process holds in memory, mapped files left out; None where that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return None


def _read_end(
    status: int,
    seen: _Seen,
    over: tuple[RunFault, str] | None,
    folder: RunFolder,
) -> TrainerEnd:
    best, peak = seen.best, seen.peak_bytes or None
    if over is not None:
        return TrainerEnd(reason="fault", fault=over[0], text=over[1], best=best, peak_bytes=peak)
    reason = "" if seen.ended is None else str(seen.ended.detail.get("reason") or "done")
    if seen.ended is not None and (status == 0 or (status == FAULT_STATUS and reason == "budget")):
        best = str(seen.ended.detail.get("best") or "") or best
        return TrainerEnd(reason=reason, best=best, peak_bytes=peak)
    if seen.fault is not None and status > 0:
        told = seen.fault.detail.get("fault")
        fault: RunFault = told if told in FAULTS else "trainer"
        text = seen.fault.text or "the trainer found a fault"
        is_final = status == FAULT_STATUS
        return TrainerEnd(
            reason="fault" if is_final else "crash", fault=fault, text=text, best=best, peak_bytes=peak
        )
    fault, text = _death(status, peak, folder.last_words(after=seen.log_start))
    return TrainerEnd(reason="crash", fault=fault, text=text, best=best, peak_bytes=peak)


def _death(status: int, peak: int | None, words: str) -> tuple[RunFault, str]:
    if "MemoryError" in words or "out of memory" in words.lower() or "can't allocate memory" in words.lower():
        return "out_of_memory", f"it ran out of memory: {_last_line(words)}"
    if "No space left on device" in words:
        return "disk_full", "no space was left on the disk"
    if status == -signal.SIGKILL:
        total = memory_bytes()
        if peak is not None and total is not None and peak > total * 0.6:
            return (
                "out_of_memory",
                f"the kernel killed it; it held {_size(peak)} of the machine's {_size(total)}",
            )
        return "killed", "it was killed (SIGKILL)"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return "killed", f"it was ended by {name}"
    return "trainer", f"it ended with status {status}: {_last_line(words)}"


def memory_bytes() -> int | None:
    """Return the memory that this process may use: the machine's, or its control group's where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text(encoding="ascii")))
    return total


def free_memory_bytes() -> int | None:
    """Return the memory that nobody needs right now; None where that cannot be read."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
                total = memory_bytes()
                return free if total is None else min(free, total)
    return None


def _last_line(words: str) -> str:
    return words.strip().rpartition("\n")[2][:400] or "it said nothing"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _die_with_parent() -> Callable[[], None] | None:
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
