"""`penstock knowledge`: rebuild, tracks, switch, rollback, drop, verify, prune.

Works on the control tables and index files, whether Penstock runs or not; only building embeds, and needs it running.
`register(app)` adds the verbs to the noun.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import SetOption, command_line_actor, merge, read_setting
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.knowledge.generations.types import KEEP
from penstock.main.instance import require_instance

with late_imports():
    from penstock.knowledge import recipes
    from penstock.knowledge.generations import running as builds
    from penstock.knowledge.index import types as index_types
    from penstock.main import knowledge_rooms, submitting

BaseArgument = Annotated[str, typer.Argument(metavar="NAME", help="The knowledge base.")]
TrackOption = Annotated[str | None, typer.Option(help="A track; without it what is live.")]
MAX_RECIPE_BYTES = 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the verbs to `penstock knowledge`."""
    example = "Example: penstock knowledge"
    app.command(epilog=f"{example} rebuild handbook --as short --set chunk.size=96")(rebuild)
    app.command(epilog=f"{example} tracks handbook")(tracks)
    app.command(epilog=f"{example} switch handbook short --evidence cmp_01j")(switch)
    app.command(epilog=f"{example} rollback handbook --reason 'worse on long questions'")(rollback)
    app.command(epilog=f"{example} drop handbook short")(drop)
    app.command(epilog=f"{example} verify handbook --deep")(verify)
    app.command(epilog=f"{example} prune handbook --keep 3 --cache")(prune)


def rebuild(
    name: BaseArgument,
    *,
    as_track: Annotated[
        str | None, typer.Option("--as", help="Build a recipe beside what is live, as this candidate.")
    ] = None,
    track: TrackOption = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="File with the candidate's recipe as TOML; the rest is as what is live."),
    ] = None,
    sets: SetOption = None,
    note: Annotated[str, typer.Option(help="What the candidate is for.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Build a candidate beside what is live; without --as, write an index anew from the truth."""
    if as_track is None and (recipe is not None or sets or note):
        raise InvalidInput(
            "A recipe is built beside what is live.",
            hint="Give the candidate a name: --as NAME.",
            param="--as",
        )
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    chosen = None
    if as_track is not None:
        changes = {} if recipe is None else _read_recipe(recipe)
        for text in sets or ():
            merge(changes, read_setting(text))
        chosen = recipes.change_recipe(rooms.knowledge.live_recipe(name), changes)
    else:
        rooms.knowledge.live_recipe(name)
    require_instance(rooms.home)
    job = builds.submit_build(rooms.jobs, name, track=as_track or track, recipe=chosen, note=note)
    if not wait:
        print_json({"job": job.id}) if as_json else print(f"job {job.id}")
        return
    with ProgressLine(f"rebuild {name}", quiet=as_json) as line:
        result = submitting.follow(rooms, job, line.tell).result or {}
    if as_json:
        print_json({"job": job.id, **result})
    elif as_track is None:
        print(f"the index of {result['generation']} was written anew")
    else:
        print(
            f"{as_track}: {result['n_passages']} passages of {result['n_documents']} documents, "
            f"{result.get('n_embedded', 0)} embedded by {result['embedder']}"
        )
        print(f"compare it: penstock knowledge compare {name} {as_track} --questions …")


def tracks(name: BaseArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the recipes that are kept up to date: live, previous, then candidates."""
    found = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).knowledge.list_tracks(name)
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "track": each.name,
            "documents": each.n_documents,
            "passages": each.n_passages,
            "embedder": each.embedder,
            "recipe": _differences(each.recipe),
            "updated": time_text(each.updated_ns),
            "version": each.version,
            "note": each.note,
        }
        for each in found
    ]
    columns = ("track", "documents", "passages", "embedder", "recipe", "version", "updated", "note")
    print_rows(rows, columns, as_json=False)


def switch(
    name: BaseArgument,
    track: Annotated[str, typer.Argument(help="The candidate that goes live.")],
    *,
    evidence: Annotated[
        str | None, typer.Option(help="Id of a comparison that passed: penstock knowledge compare.")
    ] = None,
    override: Annotated[
        str | None, typer.Option(help="Why it goes live without such evidence; recorded.")
    ] = None,
    note: Annotated[str, typer.Option(help="Kept with the track.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a candidate live in one step; what was live stays as `previous`, kept up to date."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    report = rooms.knowledge.switch(
        name,
        track,
        evidence=None if evidence is None else {"comparison": evidence},
        override_reason=override,
        actor=command_line_actor(),
        note=note,
    )
    rooms.publish_snapshot(actor=command_line_actor(), note=f"switch knowledge {name}")
    if as_json:
        print_json(report)
        return
    print(f"live: {track} ({report.version or report.generation})")
    print(f"back: penstock knowledge rollback {name}")


def rollback(
    name: BaseArgument,
    *,
    reason: Annotated[str, typer.Option(help="Recorded with the move.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make what was live before the last switch live again, over the documents of now. Needs nothing running."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    report = rooms.knowledge.rollback(name, actor=command_line_actor(), reason=reason)
    rooms.publish_snapshot(actor=command_line_actor(), note=f"roll back knowledge {name}")
    print_json(report) if as_json else print(f"live: {report.version or report.generation}")


def drop(
    name: BaseArgument,
    track: Annotated[str, typer.Argument(help="A candidate, or previous.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Forget a candidate, or the way back. `prune` then deletes what was made for it."""
    knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).knowledge.drop(name, track)
    print_json({"base": name, "dropped": track}) if as_json else print(f"dropped {track}")


def verify(
    name: BaseArgument,
    *,
    track: TrackOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every blob, and more vectors.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write indexes anew where a check of them failed.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hold tables, blobs, vectors and indexes against each other. Ends with 1 when a check failed."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    findings = rooms.knowledge.verify(name, track=track, deep=deep)
    if repair:
        broken = {
            each.check.partition(":")[0]
            for each in findings
            if each.state == "failed" and (": index:" in each.check or each.check.endswith(": vectors"))
        }
        for each in sorted(broken):
            rooms.knowledge.rebuild(name, track=each)
        if broken:
            findings = rooms.knowledge.verify(name, track=track, deep=deep)
    rooms.close()
    _print_findings(findings, as_json=as_json)
    if any(each.state == "failed" for each in findings):
        raise typer.Exit(1)


def prune(
    name: BaseArgument,
    *,
    keep: Annotated[int, typer.Option(min=0, help="Newest generations kept besides those of tracks.")] = KEEP,
    cache: Annotated[
        bool, typer.Option("--cache", help="Vectors of texts that no passage has any more, too.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Delete generations, document versions, parses, bytes and index files that nothing refers to."""
    report = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).knowledge.prune(
        name, keep=keep, cache=cache
    )
    print_record(msgspec.structs.asdict(report), as_json=as_json)


def _print_findings(findings: list[index_types.Finding], *, as_json: bool) -> None:
    if as_json:
        print_json(findings)
        return
    rows = [
        {"state": each.state, "check": each.check, "found": each.message, "advice": each.advice}
        for each in findings
    ]
    print_rows(rows, ("state", "check", "found", "advice"), as_json=False)


def _read_recipe(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_RECIPE_BYTES:
            raise InvalidInput(f"{str(file)!r} is too large for a recipe.", param="--recipe")
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{str(file)!r} cannot be read: {error}", param="--recipe") from error


def _differences(recipe: dict[str, Any]) -> str:
    """Return what is not at its default, as `--set` takes it."""
    told = [f"{part}.{key}={value}" for part, values in recipe.items() for key, value in values.items()]
    return " ".join(told) or "defaults"
