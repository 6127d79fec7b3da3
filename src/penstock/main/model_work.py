"""Works on weights for a command: pulls (on a home where nothing runs), exports.

The converter and the inference engine that proves it are heavy, so they are loaded in a process of their own:
`python -m penstock.main.model_process` is that process; it prints progress and result as JSON lines.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from penstock.main.errors import JobFailed
from penstock.main.job_wait import Tell
from penstock.main.rooms import Rooms


def pull_here(rooms: Rooms, name: str, source: str, tell: Tell) -> dict[str, Any]:
    """Return what the job would: model, digest, whether it is new, parity. Raises `JobFailed`."""
    return _work(rooms, f"model:{name} was not pulled", tell, "pull", name, source)


def export_here(rooms: Rooms, ref: str, folder: Path, tell: Tell) -> dict[str, Any]:
    """Write a version in Hugging Face layout with its card; return model, digest, folder, sizes by file."""
    return _work(rooms, f"{ref} was not exported", tell, "export", ref, str(folder))


def _work(rooms: Rooms, failure: str, tell: Tell, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "penstock.main.model_process", str(rooms.home.root), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        result: dict[str, Any] | None = None
        error: dict[str, Any] = {}
        for line in process.stdout:
            told = _read(line)
            if "progress" in told:
                tell(told["progress"], str(told.get("message", "")))
            result = told.get("result", result)
            error = told.get("error", error)
        noise = process.stderr.read()
    if result is None:
        reason = error.get("message") or noise.strip().rpartition("\n")[2] or "no reason given"
        raise JobFailed(f"{failure}: {reason}", hint=error.get("hint"))
    return result


def _read(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
