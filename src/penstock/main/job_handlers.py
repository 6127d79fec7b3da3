"""What the job worker can do: pull a model, ingest a folder. Both end with a new snapshot for the gateways."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.jobs.context import JobContext
from penstock.jobs.worker import Handler
from penstock.main.home_files import request_restart
from penstock.main.job_kinds import KNOWLEDGE_INGEST, MODEL_PULL
from penstock.main.wiring import Installation


def create_handlers(installation: Installation) -> Mapping[str, Handler]:
    """Return the handlers by kind of job."""
    return {
        MODEL_PULL: lambda ctx, spec: pull_model(installation, ctx, spec),
        KNOWLEDGE_INGEST: lambda ctx, spec: ingest_knowledge(installation, ctx, spec),
    }


def pull_model(installation: Installation, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Pull `{name, source}`; a new version makes the engine start again to host it.

    What was live before is journaled, so that a run taken over after the pull still sees the change.
    """
    name, source = _text(spec, "name"), _text(spec, "source")
    ctx.log(f"pulling {source} as model:{name}")
    before = ctx.step("live version", {"name": name}, lambda: _live_digest(installation, name))
    pulled = installation.models.pull(name, source, progress=_progress(ctx))
    if before != _live_digest(installation, name):
        request_restart(installation.home, "engine")
    installation.publish_snapshot()
    ctx.log(f"model:{name}@{pulled.number} is there" + ("" if pulled.is_new else " already"))
    return {
        "model": f"model:{name}@{pulled.number}",
        "digest": pulled.digest,
        "is_new": pulled.is_new,
        "parity": msgspec.to_builtins(dict(pulled.parity)),
    }


def ingest_knowledge(installation: Installation, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Ingest `{name, folder}`, then let an app of that name answer from it."""
    name, folder = _text(spec, "name"), _text(spec, "folder")
    embedder = installation.embedder.id
    ctx.log(f"ingesting {folder} into knowledge:{name}, embedded by {embedder}")
    report = installation.knowledge.ingest(
        name, Path(folder), ctx, allow_mass_deletion=bool(spec.get("allow_mass_deletion", False))
    )
    for dropped in report.dropped[:200]:
        ctx.log(f"left out: {dropped.path}: {dropped.reason}")
    declaration = installation.choose_app(name)
    if installation.find_version("model", declaration.model) is None:
        ctx.log(f"no app was made: there is no model:{declaration.model}")
        app = None
    else:
        app = installation.register_app(declaration, report).label
    installation.publish_snapshot()
    return {"report": report.as_dict(), "app": app}


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
