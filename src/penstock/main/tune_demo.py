"""`penstock tune demo`: tunes the model that ships, has a gate judge it on articles that nothing was trained on, and lets it answer
in its place where the gate passes. Says what it did and how to take it back; safe to run again.

Everything goes the way a user's own calls would go, to the Penstock that runs on the home; it is started where none does.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.main.control_client import ControlClient
from penstock.main.demo import ensure_running
from penstock.main.gate_files import read_gate_file
from penstock.main.gate_runs import run_gate
from penstock.main.home_files import create_home, read_admin_key
from penstock.main.instance import InstanceState, is_owned
from penstock.main.job_wait import Tell
from penstock.main.settings import load_settings
from penstock.main.tune_access import TuneAccess
from penstock.main.tune_demo_parts import (
    GATE,
    MODEL,
    bring_data,
    deploy_candidate,
    find_finished,
    find_prod,
    find_shipped,
    read_demo_recipe,
    tune,
    undeploy_candidate,
    wait_until_served,
)
from penstock.spec.evaluations import Comparison, GateResult, VerdictWord
from penstock.spec.home import Home
from penstock.spec.tuning import RunRecord
from penstock.tuning.runs.errors import NoRuntime
from penstock.tuning.runtimes import find_runtime, install_runtime

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TuneDemoReport:
    """What the demo did; `--json` writes exactly this."""

    base: str
    """`model:pocket@1`"""
    tuned: str
    run: str
    trained_s: float | None
    """From the run's start to its end, rows and packaging (and pauses of a resumed run) included; None: not known."""
    n_steps: int | None
    was_trained_before: bool
    verdict: VerdictWord
    gate: str
    sentences: list[str]
    shifts: list[Comparison]
    """Each figure before and after, over the cases that both answered, with the interval of the difference."""
    prod: str
    """What `model:pocket@prod` names now."""
    undo: list[str]
    """Commands that take back what was done."""
    console: str
    is_running: bool
    """Whether the console is open now: the demo used an instance that was there before it."""


def run_tune_demo(
    home: Home, say: Say, tell: Tell, *, environ: Mapping[str, str] = os.environ
) -> TuneDemoReport:
    """Run the demo on `home`. Raises `InstallFailed` where the training environment is not there and cannot be made."""
    create_home(home)
    settings = load_settings(home.settings).settings
    bring_runtime(settings.tuning.python, say, tell, environ)
    was_running = is_owned(home)
    with ensure_running(home, say) as instance:
        client = ControlClient(home)
        with TuneAccess(home, environ=environ) as access:
            base = find_shipped(client)
            record, was_there = train(client, access, base, say, tell)
        tuned = str((record.result or {})["model"])
        verdict = judge(home, client, base=base, tuned=tuned, say=say, tell=tell)
        if verdict.verdict == "pass" and find_prod(client) not in (base, tuned):
            say(f"model:{MODEL}@prod is neither of the two that were compared; it is left as it is")
        elif verdict.verdict == "pass":
            promote(home, client, instance, tuned=tuned, verdict=verdict, say=say)
        for version in (base, tuned):
            undeploy_candidate(client, version)
        prod = find_prod(client)
        report = client.get(
            "/api/v1/evaluations/compare",
            candidate=verdict.evaluations[0],
            baseline=verdict.evaluations[1],
            correction="none",
        )
    return TuneDemoReport(
        base=base,
        tuned=tuned,
        run=record.id,
        trained_s=seconds_of(record),
        n_steps=record.n_steps,
        was_trained_before=was_there,
        verdict=verdict.verdict,
        gate=verdict.id,
        sentences=[each.sentence for each in verdict.rules],
        shifts=read_shifts(report),
        prod=prod,
        undo=list_undo(home, base, tuned, verdict.id) if prod == tuned else [],
        console=instance.addresses.console_url
        if was_running
        else f"http://127.0.0.1:{settings.up.console_port}",
        is_running=was_running,
    )


def bring_runtime(setting: str | None, say: Say, tell: Tell, environ: Mapping[str, str]) -> None:
    """Make the training environment where there is none. A broken name of one is told, not mended."""
    try:
        place = find_runtime(setting, environ)
    except NoRuntime:
        if setting or environ.get("PENSTOCK_TUNE_PYTHON"):
            raise
        say(
            "making the training environment: torch and its libraries, once, apart from Penstock's own packages"
        )
        place = install_runtime(tell, environ=environ)
    say(f"training with {place.python}")


def train(
    client: ControlClient, access: TuneAccess, base: str, say: Say, tell: Tell
) -> tuple[RunRecord, bool]:
    """Return the run that made the tuned version, and whether it was there before."""
    data = bring_data(client, say)
    recipe = read_demo_recipe(base)
    if (done := find_finished(access, recipe, data)) is not None:
        say(f"{done.id} has tuned {base} from these very rows before: {(done.result or {})['model']}")
        return done, True
    say(f"tuning {base} with low-rank adapters; it answers nobody until a gate has passed it")
    record = tune(access, recipe, say, tell)
    taken = seconds_of(record)
    told = "" if taken is None else f" in {taken:.0f} s"
    say(f"{record.id}: {record.n_steps} steps{told}, registered as {(record.result or {})['model']}")
    return record, False


def judge(home: Home, client: ControlClient, *, base: str, tuned: str, say: Say, tell: Tell) -> GateResult:
    """Return the gate's verdict over the tuned version against the one it was tuned from."""
    prod = find_prod(client)
    for version in {base, tuned} - {prod}:
        deploy_candidate(client, version, say)
    say(f"asking both the held-out questions, and judging {tuned} against {base} by a gate")
    result = run_gate(home, read_gate_file(GATE), candidate=tuned, baseline=base, tell=tell)
    say(f"  {result.verdict}: {result.rules[0].sentence if result.rules else result.reason}")
    return result


def promote(
    home: Home, client: ControlClient, instance: InstanceState, *, tuned: str, verdict: GateResult, say: Say
) -> None:
    """Let `prod` name the tuned version with the verdict as evidence, and wait until it answers."""
    if find_prod(client) == tuned:
        say(f"model:{MODEL}@prod is {tuned} already")
        return
    number = int(tuned.rpartition("@")[2])
    client.post(
        f"/api/v1/assets/model/{MODEL}/aliases/prod/move",
        {"number": number, "gate": verdict.id, "reason": "passed the gate of penstock tune demo"},
    )
    say(f"model:{MODEL}@prod is {tuned} now, with this verdict as evidence; waiting until it answers")
    url, key = f"{instance.addresses.gateway_url}/v1/chat/completions", read_admin_key(home)
    wait_until_served(home, tuned, lambda: ask_who_answers(url, key))


def ask_who_answers(url: str, key: str) -> str | None:
    """Ask `pocket` something and return the version that answered, as the reply's header tells it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    request = urllib.request.Request(  # noqa: S310 - our own gateway
        url,
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            told: str | None = reply.headers.get("x-penstock-version")
            return told
    except (urllib.error.URLError, TimeoutError):
        return None


def seconds_of(record: RunRecord) -> float | None:
    """Return how long the run was under way, from start to end."""
    if record.started_ns is None or record.finished_ns is None:
        return None
    return round((record.finished_ns - record.started_ns) / 1e9, 1)


def read_shifts(report: dict[str, Any]) -> list[Comparison]:
    """Return the comparisons of scores, whole ones first."""
    rows = [*report.get("comparisons", []), *report.get("slices", [])]
    return [msgspec.convert(row, Comparison, strict=False) for row in rows]


def list_undo(home: Home, base: str, tuned: str, gate: str) -> list[str]:
    """Return the commands that put the home back to what it was, and forward again."""
    if base == tuned:
        return []
    return [
        f"penstock asset rollback model:{MODEL} --alias prod --home {home.root}",
        f"penstock asset move {tuned} --alias prod --gate {gate} --home {home.root}   # forward again",
    ]
