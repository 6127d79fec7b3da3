"""What the job worker can do: pull a model, ingest and build knowledge."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.jobs.context import JobContext
from penstock.jobs.worker import Handler
from penstock.main.engine_files import read_engine, read_shared
from penstock.main.instance import is_owned
from penstock.main.job_kinds import KNOWLEDGE_BUILD, KNOWLEDGE_INGEST, MODEL_PULL
from penstock.main.knowledge_jobs import build_knowledge, ingest_knowledge
from penstock.main.wiring import Installation
from penstock.spec.home import Home

HOSTED_WITHIN_S = 60.0
POLL_S = 0.2


def create_handlers(installation: Installation) -> Mapping[str, Handler]:
    """Return the handlers by kind of job."""
    return {
        MODEL_PULL: lambda ctx, spec: pull_model(installation, ctx, spec),
        KNOWLEDGE_INGEST: lambda ctx, spec: ingest_knowledge(installation, ctx, spec),
        KNOWLEDGE_BUILD: lambda ctx, spec: build_knowledge(installation, ctx, spec),
    }


def pull_model(installation: Installation, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Pull `{name, source}`; a new version makes the engine start again to host it.

    What was live before is journaled, so that a run taken over after the pull still sees the change.
    """
    name, source = _text(spec, "name"), _text(spec, "source")
    ctx.log(f"pulling {source} as model:{name}")
    before = ctx.step("live version", {"name": name}, lambda: _live_digest(installation, name))
    pulled = installation.models.pull(name, source, progress=_progress(ctx))
    installation.publish_snapshot()
    if before != _live_digest(installation, name):
        ctx.progress(0.95, "the engine takes it up")
        wait_until_hosted(installation.home, name, pulled.number, ctx)
    ctx.log(f"model:{name}@{pulled.number} is there" + ("" if pulled.is_new else " already"))
    return {
        "model": f"model:{name}@{pulled.number}",
        "digest": pulled.digest,
        "is_new": pulled.is_new,
        "is_live": pulled.is_live,
        "parity": msgspec.to_builtins(dict(pulled.parity)),
    }


def wait_until_hosted(
    home: Home, name: str, number: int, ctx: JobContext, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait, within bounds, until the shared engine hosts a version, so that who pulled it can ask it at once."""
    for _ in range(int(HOSTED_WITHIN_S / POLL_S)):
        shared = read_shared(home) if is_owned(home) else None
        if shared is None:
            return
        file = read_engine(home, shared.child)
        hosted = (file.models or {}).get(name) if file is not None else None
        if hosted == number and not shared.leaving:
            ctx.log(f"the engine hosts model:{name}@{number}")
            return
        if shared.refused.get(name) == number:
            break
        ctx.check_cancelled()
        sleep(POLL_S)
    ctx.log(f"the engine does not host model:{name}@{number}: `penstock doctor` says more")


def _live_digest(installation: Installation, name: str) -> str | None:
    version = installation.find_version("model", name)
    return None if version is None else version.digest


def _progress(ctx: JobContext) -> Callable[[float, str], None]:
    return ctx.progress


def _text(spec: dict[str, Any], name: str) -> str:
    value = spec.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"The job's spec needs a text {name!r}.")
    return value
