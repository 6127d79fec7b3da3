"""Ingests and builds of knowledge bases as durable jobs. What goes live ends with a new snapshot for the gateways."""

from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.jobs.context import JobContext
from penstock.knowledge.recipes import read_recipe
from penstock.main.wiring import Installation

SHOWN_LINES = 200


def ingest_knowledge(installation: Installation, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Ingest `{base, folder?, sources?, allow_mass_deletion?}`, then let an app of that name answer from it."""
    base = spec.get("base") or spec.get("name")
    if not isinstance(base, str) or not base:
        raise InvalidInput("The job's spec needs a text 'base'.")
    folder = spec.get("folder")
    ctx.log(f"ingesting {folder or 'its sources'} into knowledge:{base}")
    report = installation.knowledge.ingest(
        base,
        Path(folder) if folder else None,
        ctx,
        sources=spec.get("sources"),
        allow_mass_deletion=bool(spec.get("allow_mass_deletion", False)),
    )
    for note in report.notes:
        ctx.log(note)
    for dropped in report.dropped[:SHOWN_LINES]:
        ctx.log(f"left out: {dropped.path}: {dropped.reason}")
    declaration = installation.choose_app(base)
    if installation.find_version("model", declaration.model) is None:
        ctx.log(f"no app was made: there is no model:{declaration.model}")
        app = None
    else:
        app = installation.register_app(declaration, report).label
    installation.publish_snapshot()
    return {"report": report.as_dict(), "app": app}


def build_knowledge(installation: Installation, ctx: JobContext, spec: dict[str, Any]) -> dict[str, Any]:
    """Build `{base, track, recipe?, note?}` beside what is live; without a track, write the live index anew."""
    base, track = spec.get("base"), spec.get("track")
    if not isinstance(base, str) or not base:
        raise InvalidInput("The job's spec needs a text 'base'.")
    if not track or track in {"live", "previous"}:
        generation = installation.knowledge.rebuild(base, ctx, track=track)
        ctx.log(f"the index of {generation} was written anew")
        return {"base": base, "track": track or "live", "generation": generation}
    recipe = None if spec.get("recipe") is None else read_recipe(spec["recipe"])
    report = installation.knowledge.build_candidate(
        base, track, recipe, ctx, note=str(spec.get("note") or "")
    )
    for problem in report.problems[:SHOWN_LINES]:
        ctx.log(f"left out: {problem}")
    result: dict[str, Any] = msgspec.to_builtins(report)
    return result
