"""What the machine says of this process: memory, parent, and the lock that keeps two trainers off one run."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from .faults import TrainingFault

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_mb() -> float | None:
    """Return the memory that this process holds now; None where the system does not say.

    Without pages of mapped files: those of the rows stay only as long as nobody needs the memory.
    """
    try:
        resident, of_files = Path("/proc/self/statm").read_text().split()[1:3]
        return round((int(resident) - int(of_files)) * _PAGE_MB, 1)
    except (OSError, ValueError, IndexError):
        return None


def peak_gpu_mb(device: Any) -> float | None:
    """Return the most that was allocated on the GPU; None without one."""
    if device.type != "cuda":
        return None
    import torch

    return round(float(torch.cuda.max_memory_allocated(device)) / 1e6, 1)


def lock_run(
    folder: Path,
    *,
    wait_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> IO[str]:
    """Hold the run's folder until the returned file is closed. A trainer that is on its way out is waited for.

    Raises `TrainingFault` if another one holds it for longer.
    """
    file = (folder / ".trainer.lock").open("a+")
    until = clock() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock() >= until:
                file.close()
                raise TrainingFault("trainer", "Another trainer works on this run.") from None
            sleep(0.2)
        else:
            return file
