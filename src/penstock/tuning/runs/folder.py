"""The folder of one run: what lies where, who holds it, and what may go once the run is over."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.tuning.runs.errors import RunActive
from penstock.tuning.runs.events import EVENTS

LOG_BYTES = 16 * 1024 * 1024
WAIT_S = 20.0
"""How long a trainer that lost its parent may take to write its checkpoint before it is killed."""


class RunFolder:
    """Paths of one run below `HOME/tuning`."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.root = root
        self.path = root / run_id

    @property
    def spec(self) -> Path:
        """What the trainer is started with."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """What the trainer tells."""
        return self.path / EVENTS

    @property
    def log(self) -> Path:
        """What the trainer and its libraries print."""
        return self.path / "trainer.log"

    @property
    def checkpoints(self) -> Path:
        """One folder each, `step-N`; `best` points to one."""
        return self.path / "checkpoints"

    @property
    def out(self) -> Path:
        """The trained model or adapter."""
        return self.path / "out"

    @property
    def base(self) -> Path:
        """The base's weights: a link to where runs of the same base share them."""
        return self.path / "base"

    @property
    def data(self) -> Path:
        """Rows as token ids."""
        return self.path / "data"

    @property
    def lock(self) -> Path:
        """Held by whoever drives the run, and by the trainer that it started; holds that one's process id."""
        return self.path / "run.lock"

    def shared_base(self, digest: str) -> Path:
        """Return where the weights of a base lie for all runs that begin from it."""
        return self.root / "bases" / digest.removeprefix("sha256:")[:16]

    def is_held(self) -> bool:
        """Whether some process drives or trains this run right now."""
        try:
            file = self.lock.open("rb+")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def hold(
        self,
        run_id: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        kill: Callable[[int], None] | None = None,
    ) -> Iterator[int]:
        """Hold the run; yield the lock's descriptor, which a trainer inherits and so keeps.

        A trainer whose parent was killed is given time to end by itself, then killed. Raises `RunActive` when
        another process still holds the run after that.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        end = monotonic() + WAIT_S
        has_killed = False
        with self.lock.open("a+b") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
                if monotonic() > end:
                    if has_killed or (pid := self._trainer_pid()) is None:
                        raise RunActive(
                            f"Another process works on run {run_id}.", hint=f"`penstock tune show {run_id}`"
                        )
                    (kill or _kill)(pid)
                    has_killed, end = True, monotonic() + WAIT_S
                sleep(0.1)
            yield file.fileno()

    def note_trainer(self, pid: int) -> None:
        """Remember the trainer's process, for whoever takes over."""
        self.lock.write_text(f"{pid} {_started(pid)}\n", encoding="ascii")

    def _trainer_pid(self) -> int | None:
        """Return the trainer's process id, if that very process still runs."""
        try:
            pid, _, started = self.lock.read_text(encoding="ascii").strip().partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        return int(pid) if pid.isdigit() and started and started == _started(int(pid)) else None

    def rotate_log(self) -> None:
        """Keep one older log beside the present one."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def prune(self) -> None:
        """Remove what a finished run does not need: rows, checkpoints and packaged weights. Events and logs stay."""
        for folder in (self.data, self.checkpoints, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        if self.base.is_symlink():
            self.base.unlink()
        else:
            shutil.rmtree(self.base, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.path, ignore_errors=True)

    def size_bytes(self) -> int:
        """Return what lies here; links count nothing."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += (Path(folder) / name).lstat().st_size
                except OSError:  # it went away meanwhile
                    continue
        return total

    def last_words(self, n_lines: int = 12, *, after: int = 0) -> str:
        """Return the end of the trainer's log, for a person to read; nothing of its first `after` bytes."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(after, self.log.stat().st_size - 8192))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "\n".join(line[:400] for line in lines[-n_lines:])


def _started(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks: with its id that names one process for good."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, 9)
    except (ProcessLookupError, PermissionError):
        return
