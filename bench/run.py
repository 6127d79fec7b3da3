"""Run every benchmark in turn (`make bench`), or those named: `python bench/run.py relay startup`.

Each benchmark is a script of its own beside this file; it compares with a floor or a peer in the same run
and appends to `bench/results/`. Exit code 1 if one of them failed to run; figures are not judged here.
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ORDER = ("startup", "relay", "gateway", "streams", "soak", "ingest", "engine", "retrieval", "knowledge")


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; return the exit code."""
    known = {path.stem for path in HERE.glob("*.py")} - {
        "run",
        "record",
        "stage",
        "fill",
        "words",
        "knowledge_peers",
        "scoring_ragas",
        "training_worker",
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; known: {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    chosen = names or [name for name in ORDER if name in known] + sorted(known - set(ORDER))
    failed = []
    for name in chosen:
        print(f"== {name}", flush=True)
        begun = time.perf_counter()
        run = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")], cwd=HERE.parent, timeout=1800, check=False
        )
        print(
            f"== {name}: {'done' if run.returncode == 0 else 'FAILED'} in {time.perf_counter() - begun:.0f} s"
        )
        if run.returncode:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
