"""Appends a benchmark's result to `bench/results/<bench>.jsonl`, with machine, versions and command."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def describe_machine() -> dict[str, Any]:
    """Return processor, core count, memory and kernel: what a figure depends on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory_kb = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), None
    )
    return {
        "processor": model,
        "n_cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1e6, 1) if memory_kb else None,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
    }


def describe_versions(*packages: str) -> dict[str, str | None]:
    """Return the versions of Python, Penstock and `packages`; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("penstock", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def record_result(bench: str, results: dict[str, Any], *, packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """Append one entry, print it, and return it."""
    entry = {
        "bench": bench,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": describe_machine(),
        "versions": describe_versions(*packages),
        "load_average": round(os.getloadavg()[0], 2),
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{bench}.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    print(json.dumps(entry["results"], indent=2))
    return entry


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
