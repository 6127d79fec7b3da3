"""Runs the tests that failed in a whole run once more, each alone: `python -m tests.second_run FILE`.

A whole run has thousands of tests beside each other on a machine that may be slow; this tells what is broken from what was
disturbed. Both are printed. More than `MOST` failures are never put down to chance, nor is a failure that comes again.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

MOST = 5


def judge(failed: list[str], passes_alone: Callable[[str], bool]) -> int:
    """Print how each failed test did alone and return the exit code: 0 only where each passed."""
    if not failed:
        print("The whole run failed and named no test: nothing to run once more.")
        return 1
    if len(failed) > MOST:
        print(f"{len(failed)} tests failed: more than {MOST} are not put down to chance.")
        return 1
    again = [name for name in failed if not passes_alone(name)]
    for name in failed:
        how = "FAILED AGAIN" if name in again else "passed"
        print(f"failed in the whole run, {how} alone: {name}")
    return 1 if again else 0


def passes_alone(name: str) -> bool:
    """Run one test in a process of its own."""
    print(f"once more, alone: {name}", flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", name], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(judge(Path(sys.argv[1]).read_text().splitlines(), passes_alone))
