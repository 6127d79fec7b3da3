"""Runs `compress_process` for whoever asks, tells its progress, and ends it when the asker gives up."""

import json
import os
import subprocess
import sys
import threading
from typing import Any

from penstock.base.errors import (
    BugError,
    CallerError,
    ConflictError,
    PenstockError,
    PolicyError,
    UpstreamError,
)
from penstock.main.job_wait import Tell
from penstock.spec.home import Home
from penstock.tuning.compress.errors import MeasuringFailed

_BY_FAULT: dict[str, type[PenstockError]] = {
    "1": CallerError,
    "2": PolicyError,
    "3": ConflictError,
    "4": UpstreamError,
    "9": BugError,
}
_NOISE = 2000
_OWN = frozenset({"message", "hint", "self"})


def run_child(home: Home, asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Return the result of one request. Raises the child's error with its code; whatever `tell` raises ends the child."""
    command = [sys.executable, "-m", "penstock.main.compress_process", str(home.root), str(os.getpid())]
    result: dict[str, Any] | None = None
    error: dict[str, Any] = {}
    noise: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        reader = threading.Thread(target=_drain, args=(process.stderr, noise), daemon=True)
        reader.start()
        try:
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            for line in process.stdout:
                told = _read(line)
                if "progress" in told:
                    tell(told["progress"], str(told.get("message", "")))
                result = told.get("result", result)
                error = told.get("error", error)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            reader.join()
    if error:
        raise _as_error(error)
    if result is None:
        code = process.returncode
        died = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        last = "".join(noise).strip()[-_NOISE:].rpartition("\n")[2]
        raise MeasuringFailed(
            f"The process that does the work {died}{f': {last}' if last else '.'}",
            hint="Signal 9 without a cause of yours is what running out of memory looks like: name fewer versions at once."
            if code == -9
            else None,
        )
    return result


def _drain(stream: Any, into: list[str]) -> None:
    for line in stream:
        into.append(line)
        del into[:-50]


def _as_error(told: dict[str, Any]) -> PenstockError:
    """Return the error as the child raised it: fault, code, text and fields."""
    code = str(told.get("code", BugError.code))
    kind = _BY_FAULT.get(code[3:4], BugError)
    known: type[PenstockError] = type(kind.__name__, (kind,), {"code": code})
    fields = {name: value for name, value in (told.get("fields") or {}).items() if name not in _OWN}
    return known(str(told.get("message", "")), hint=told.get("hint"), **fields)


def _read(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
