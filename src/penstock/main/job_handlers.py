"""What the job worker can do: pull a model, ingest and build knowledge."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.jobs.context import JobContext
from penstock.jobs.worker import Handler
from penstock.main.home_files import request_restart
from penstock.main.job_kinds import KNOWLEDGE_BUILD, KNOWLEDGE_INGEST, MODEL_PULL
from penstock.main.knowledge_jobs import build_knowledge, ingest_knowledge
from penstock.main.wiring import Installation


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
