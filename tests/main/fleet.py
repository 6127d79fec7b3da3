"""What the supervisor's tests share: stand-in children, waiting for a condition."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from penstock.main.children import ChildSpec

SERVER = Path(__file__).with_name("child_server.py")


def stand_in(
    name: str, port: int, notes: Path, *modes: str, is_vital: bool = True, drain_s: float = 5.0
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=(sys.executable, "-S", "-E", str(SERVER), str(port), str(notes), name, *modes),
        host="127.0.0.1",
        port=port,
        is_vital=is_vital,
        drain_s=drain_s,
    )


def wait_until(condition: Callable[[], object], *, what: str, deadline_s: float = 240.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for: {what}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
