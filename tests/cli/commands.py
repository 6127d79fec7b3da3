"""Runs the real command: in a process of its own (`penstock`), or quicker in this one (`call`)."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from penstock.cli.app import main
from penstock.cli.faults import DebugFlag


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def penstock(*arguments: str, home: Path | None = None, **variables: str) -> Outcome:
    run = subprocess.run(
        [sys.executable, "-m", "penstock.cli", *arguments],
        capture_output=True,
        text=True,
        env=_environment(home) | variables,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(run.returncode, run.stdout, run.stderr)


def call(*arguments: str, home: Path | None = None, **variables: str) -> Outcome:
    out, err, code = io.StringIO(), io.StringIO(), 0
    DebugFlag.is_on, DebugFlag.is_json, DebugFlag.home = False, False, None
    with (
        mock.patch.dict(os.environ, _environment(home) | variables, clear=True),
        mock.patch.object(sys, "argv", ["penstock", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def _environment(home: Path | None) -> dict[str, str]:
    """Return this environment without whatever would configure providers, on `home`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_API_KEY", "_BASE_URL", "_HOST"))
    }
    return kept if home is None else {**kept, "PENSTOCK_HOME": str(home)}
