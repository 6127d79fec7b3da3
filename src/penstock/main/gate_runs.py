"""Runs the evaluations that a gate needs, candidate first, and has control judge them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.late import late_imports
from penstock.main.control_client import ControlClient
from penstock.main.gate_files import GateFile, side_of
from penstock.spec.evaluations import EvaluationSpec, GateResult
from penstock.spec.home import Home

with late_imports():
    from penstock.evals.running import control_run
    from penstock.main import job_wait, local_runs

GATES = "/api/v1/gates"
EVALUATIONS = "/api/v1/evaluations"
_POLL_S = 0.3
_NO_SUCH_VERSION = {"PS-2101", "PS-2102", "PS-2103"}
"""Unknown asset, version, alias: a baseline that does not exist yet is a verdict, not a failure of the command."""


def run_gate(
    home: Home,
    file: GateFile,
    *,
    candidate: str | None = None,
    baseline: str | None = None,
    tell: job_wait.Tell,
    sleep: Callable[[float], None] = time.sleep,
) -> GateResult:
    """Return the stored verdict. `candidate` and `baseline` take the place of those that the file names.

    Raises `NotRunning` without a running Penstock, and what starting an evaluation raises.
    """
    client = ControlClient(home)
    wanted, against = candidate or file.spec.candidate, baseline or file.spec.baseline
    ours = _run_side(client, home, side_of(file.spec, wanted), _labelled(tell, "candidate"), sleep)
    theirs, problem = None, None
    if against is not None:
        try:
            theirs = _run_side(client, home, side_of(file.spec, against), _labelled(tell, "baseline"), sleep)
        except PenstockError as error:
            if error.code not in _NO_SUCH_VERSION:
                raise
            problem = f"the baseline {against} does not exist: {error.message.rstrip('.')}"
    body = {
        "gate": msgspec.to_builtins(file.members),
        "candidate": ours,
        "baseline": theirs,
        "baseline_problem": problem,
    }
    result: GateResult = msgspec.convert(client.post(GATES, body, timeout_s=300.0), GateResult, strict=False)
    return result


def _run_side(
    client: ControlClient,
    home: Home,
    side: EvaluationSpec | str,
    tell: job_wait.Tell,
    sleep: Callable[[float], None],
) -> str:
    """Return the id of the side's evaluation once it is at rest."""
    if isinstance(side, str):
        return side
    if control_run.needs_local(side):
        return str(local_runs.run_local(side, home=home, tell=tell).record["id"])
    record: dict[str, Any] = client.post(EVALUATIONS, {"spec": msgspec.to_builtins(side)})
    while record["state"] in {"queued", "running"}:
        asked = (record.get("n_cases") or 0) * side.repeats
        done = record.get("n_outputs", 0)
        tell(done / asked if asked else None, f"{done} of {asked} answers" if asked else "reading cases")
        sleep(_POLL_S)
        record = client.get(f"{EVALUATIONS}/{record['id']}")
    return str(record["id"])


def _labelled(tell: job_wait.Tell, label: str) -> job_wait.Tell:
    return lambda share, text: tell(share, f"{label}: {text}")
