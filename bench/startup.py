"""Import time, processor time of commands, time until `penstock up` is ready, and resident memory of each process.

Floor: an interpreter that imports nothing (`python -c pass`) in the same run, runs interleaved.
"""

import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from record import record_result

N_IMPORTS = 15
N_STARTS = 5
N_COMMANDS = 7
COMMANDS = (
    "--version",
    "--help",
    "traces --help",
    "tune --help",
    "knowledge --help",
    "traces fields",
    "key list",
)
"""The last two do their work on a home that does not run."""


def time_command(*arguments: str) -> float:
    """Return wall seconds of one run."""
    begun = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def command_cpu_s(words: str, home: Path) -> float:
    """Return the least processor seconds, of several runs, that `penstock` takes for `words` on `home`."""
    least = float("inf")
    for _ in range(N_COMMANDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "penstock.cli", *words.split()],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PENSTOCK_HOME": str(home)},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(port: int) -> bool:
    """Return whether `/readyz` on `port` says 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def resident_mb(pid: int) -> tuple[float, float]:
    """Return resident and private (unique) memory of a process in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    return sizes["Rss"] / 1024, (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024


def measure_start(home: Path) -> dict[str, Any]:
    """Start `penstock up` on `home`, wait for both ports, read memory, stop it."""
    port, console = free_port(), free_port()
    command = [sys.executable, "-m", "penstock.cli", "up", "--home", str(home)]
    command += ["--port", str(port), "--console-port", str(console)]
    begun = time.perf_counter()
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=output) as process,
    ):
        try:
            while not (is_ready(port) and is_ready(console)):
                if process.poll() is not None or time.perf_counter() - begun > 60:
                    output.seek(0)
                    raise SystemExit(f"penstock up did not become ready:\n{output.read().decode()[-2000:]}")
                time.sleep(0.01)
            ready_s = time.perf_counter() - begun
            time.sleep(2)
            memory = {}
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    words = (entry / "cmdline").read_text().split("\0")
                except (OSError, IndexError):
                    continue
                if parent == process.pid and "penstock.cli" in words:
                    name = words[words.index("penstock.cli") + 1]
                    memory[name] = dict(
                        zip(("rss_mb", "private_mb"), resident_mb(int(entry.name)), strict=True)
                    )
            memory["supervisor"] = dict(zip(("rss_mb", "private_mb"), resident_mb(process.pid), strict=True))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
    return {"ready_s": ready_s, "memory": memory}


def main() -> None:
    """Measure and record. Compiled modules are kept, as on any user's machine."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    time_command(sys.executable, "-c", "import penstock")
    floor, ours = [], []
    for _ in range(N_IMPORTS):
        floor.append(time_command(sys.executable, "-c", "pass"))
        ours.append(time_command(sys.executable, "-c", "import penstock"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PENSTOCK_HOME", None)
        commands = {words: command_cpu_s(words, Path(folder) / "other") for words in COMMANDS}
        starts = [measure_start(Path(folder) / "home") for _ in range(N_STARTS)]
    added = statistics.median(mine - base for mine, base in zip(ours, floor, strict=True))
    record_result(
        "startup",
        {
            "interpreter_s": round(statistics.median(floor), 4),
            "import_added_s": round(added, 4),
            "command_cpu_s": {words: round(seconds, 3) for words, seconds in commands.items()},
            "up_first_ready_s": round(starts[0]["ready_s"], 3),
            "up_again_ready_s": round(statistics.median(start["ready_s"] for start in starts[1:]), 3),
            "memory": {
                name: {kind: round(value, 1) for kind, value in sizes.items()}
                for name, sizes in starts[-1]["memory"].items()
            },
        },
    )


if __name__ == "__main__":
    print(json.dumps({"runs": N_STARTS}))
    main()
