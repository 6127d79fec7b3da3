"""A running Penstock with a home of its own, and its command line as a person would use it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.main.instance import wait_until_ready
from penstock.spec.home import Home


class Shell:
    """Runs commands on one home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def __call__(self, *words: str, expect: int = 0) -> Any:
        """Return what a command prints with `--json`, its error where it prints nothing else."""
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", *words, "--home", str(self.home.root), "--json"],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout) if done.stdout else done.stderr


@contextmanager
def open_shell(folder: Path) -> Iterator[Shell]:
    """Start Penstock on a new home in `folder`, and end it afterwards."""
    home = Home(root=folder / "home")
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [
                *(sys.executable, "-m", "penstock.cli", "up", "--home", str(home.root)),
                *("--port", "0", "--console-port", "0"),
            ],
            stdout=log,
            stderr=log,
        )

    def sleep_while_it_lives(seconds: float) -> None:
        assert up.poll() is None, (folder / "up.log").read_text()
        time.sleep(seconds)

    try:
        wait_until_ready(home, deadline_s=300, sleep=sleep_while_it_lives)
        yield Shell(home)
    finally:
        up.terminate()
        up.wait(60)
