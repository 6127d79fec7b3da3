"""`penstock knowledge source`: add, list, show, edit, pause, resume, remove, test, run.

Works on the control tables, whether Penstock runs or not; only `run` needs it running.
"""

from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.knowledge_ingested import print_ingested
from penstock.cli.objects import SetOption, merge, read_setting
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.knowledge.sources.settings import split_lists
from penstock.knowledge.sources.types import KIND_NAMES, SourceRow, Trial
from penstock.main.instance import require_instance

with late_imports():
    from penstock.knowledge.sources import catalogue, schedules
    from penstock.knowledge.sources import running as scans
    from penstock.main import knowledge_rooms, submitting

app = noun_app(
    "Where documents come from: add, list, show, edit, pause, resume, remove, test, run. "
    f"Kinds: {', '.join(KIND_NAMES)}."
)
BaseArgument = Annotated[str, typer.Argument(metavar="NAME", help="The knowledge base.")]
SourceArgument = Annotated[str, typer.Argument(help="The source.")]
ScheduleOption = Annotated[
    str | None, typer.Option(help="When it is read again: 1h, '30 3 * * 1-5 Europe/Berlin'; '' for never.")
]
PrefixOption = Annotated[str | None, typer.Option(help="Stands before the paths of its documents.")]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option("--unset", help="A setting that goes back to its default. May be repeated."),
]
_COLUMNS = ("source", "kind", "location", "state", "live", "unreadable", "left out", "next", "last")


@app.command(
    epilog="Example: penstock knowledge source add handbook wiki web https://wiki.example/docs/ --schedule 1d"
)
def add(
    name: BaseArgument,
    source: SourceArgument,
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KIND_NAMES)}.")],
    location: Annotated[
        str, typer.Argument(help="Folder, file or pattern, address of a page, store or database.")
    ],
    *,
    sets: SetOption = None,
    schedule: ScheduleOption = None,
    prefix: PrefixOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Add a source to a knowledge base, which is made with its first one. Read it with `run`."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    settings = {**_settings(kind, sets), "location": location}
    if prefix is not None:
        settings["prefix"] = prefix
    found = rooms.sources.add(name, source, kind, settings, schedule=schedule or None)
    _print_source(found, as_json=as_json)
    if not as_json:
        print(f"read it now: penstock knowledge source run {name} {source}")


@app.command("list", epilog="Example: penstock knowledge source list handbook")
def list_sources(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The knowledge base; without it all.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List sources with what they hold and how their last run ended."""
    found = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.list_sources(name)
    if as_json:
        print_json(found)
        return
    rows = [{"base": row.base, **_line(row)} for row in found]
    columns = _COLUMNS if name else ("base", *_COLUMNS)
    print_rows(
        rows,
        columns,
        as_json=False,
        empty="None yet: penstock knowledge source add NAME SOURCE KIND LOCATION",
    )


@app.command(epilog="Example: penstock knowledge source show handbook wiki")
def show(
    name: BaseArgument, source: SourceArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Show one source: settings, schedule, what its last scan did, and its problems."""
    _print_source(
        knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.get(name, source),
        as_json=as_json,
    )


@app.command(epilog="Example: penstock knowledge source edit handbook wiki --set depth=3 --schedule 12h")
def edit(
    name: BaseArgument,
    source: SourceArgument,
    *,
    location: Annotated[str | None, typer.Option(help="Another place of the same kind.")] = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    schedule: ScheduleOption = None,
    prefix: PrefixOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change settings or the schedule; the next run goes by them."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    kind = rooms.sources.get(name, source).kind
    settings: dict[str, Any] = {**_settings(kind, sets), **dict.fromkeys(unset or ())}
    settings.update(
        {key: text for key, text in (("location", location), ("prefix", prefix)) if text is not None}
    )
    timing: Any = msgspec.UNSET if schedule is None else schedule or None
    _print_source(rooms.sources.edit(name, source, settings, schedule=timing), as_json=as_json)


@app.command(epilog="Example: penstock knowledge source pause handbook wiki")
def pause(
    name: BaseArgument, source: SourceArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Read it no more until it is resumed; its documents stay."""
    _print_source(
        knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.pause(name, source),
        as_json=as_json,
    )


@app.command(epilog="Example: penstock knowledge source resume handbook wiki")
def resume(
    name: BaseArgument, source: SourceArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Read it again."""
    _print_source(
        knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.resume(name, source),
        as_json=as_json,
    )


@app.command(epilog="Example: penstock knowledge source remove handbook wiki --keep-documents")
def remove(
    name: BaseArgument,
    source: SourceArgument,
    *,
    keep_documents: Annotated[
        bool, typer.Option("--keep-documents", help="They stay as they are, and are never read again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Forget a source. Its documents go with the next ingest, unless they are to stay."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    row = rooms.sources.get(name, source)
    n_documents = row.counts.get("live", 0) + row.counts.get("unreadable", 0)
    if not keep_documents and not yes and n_documents:
        if as_json:
            raise InvalidInput(f"{n_documents} documents would go.", hint="Say --yes or --keep-documents.")
        typer.confirm(f"{n_documents} documents come from {source!r} and would go. Remove it?", abort=True)
    told = rooms.sources.remove(name, source, keep_documents=keep_documents)
    if as_json:
        print_json({"removed": source, "documents": n_documents, "kept": keep_documents})
    else:
        print(f"removed {source}; {n_documents} documents {told}")


@app.command("test", epilog="Example: penstock knowledge source test handbook wiki --limit 5")
def try_source(
    name: BaseArgument,
    source: SourceArgument,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Documents to look at.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Look at what a scan would find: first documents and errors. Nothing is written."""
    found = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.test(
        name, source, limit=limit
    )
    if as_json:
        print_json(found)
    else:
        print_trial(found)


@app.command(epilog="Example: penstock knowledge source run handbook wiki")
def run(
    name: BaseArgument,
    source: Annotated[
        list[str] | None, typer.Argument(help="Sources; without them all that are not paused.")
    ] = None,
    *,
    allow_mass_deletion: Annotated[
        bool, typer.Option("--allow-mass-deletion", help="Even if most documents vanished.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read sources now, and make live what they hold. Only what changed is read again."""
    opened = open_home(home, as_json=as_json)
    require_instance(opened)
    rooms = knowledge_rooms.KnowledgeRooms(opened)
    for each in source or ():
        rooms.sources.get(name, each)
    job = scans.submit_sources(rooms.jobs, name, source or None, allow_mass_deletion=allow_mass_deletion)
    if not wait:
        print_json({"job": job.id}) if as_json else print(f"job {job.id}")
        return
    with ProgressLine(f"ingest {name}", quiet=as_json) as line:
        result = submitting.follow(rooms, job, line.tell).result or {}
    if as_json:
        print_json({"job": job.id, **result})
        return
    print_ingested(name, result)
    rows = [_line(row) for row in rooms.sources.list_sources(name) if not source or row.name in source]
    print_rows(rows, _COLUMNS, as_json=False)


def print_trial(found: Trial) -> None:
    """Print what a scan would find."""
    for row in found.first:
        size = "?" if row["size_bytes"] is None else f"{row['size_bytes']:,} bytes"
        print(f"would read  {row['path']}  {size}" + (f"  {row['error']}" if row["error"] else ""))
    for dropped in found.errors:
        print(
            f"{'unreadable' if dropped.what == 'unreadable' else 'left out  '}  {dropped.path}: {dropped.reason}"
        )
    for problem in found.problems:
        print(f"problem     {problem}")
    more = " and more" if found.is_cut else ""
    print(f"{found.seen} documents, {found.left_out} left out{more}; nothing was written")


def _settings(kind: str, sets: list[str] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in sets or ():
        merge(settings, read_setting(text))
    return split_lists(settings, catalogue.find_kind(kind).settings)


def _line(row: SourceRow) -> dict[str, Any]:
    return {
        "source": row.name,
        "kind": row.kind,
        "location": row.location,
        "state": _state(row),
        "live": row.counts.get("live", 0),
        "unreadable": row.counts.get("unreadable", 0),
        "left out": row.counts.get("left_out", 0),
        "next": "paused" if row.is_paused else time_text(row.due_ns) or "–",
        "last": time_text(row.ended_ns) or "–",
    }


def _state(row: SourceRow) -> str:
    if row.is_detached:
        return "detached"
    return f"{row.state} ({row.failures} times)" if row.failures > 1 else row.state


def _print_source(row: SourceRow, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    settings = {key: value for key, value in row.settings.items() if key not in {"location", "prefix"}}
    schedule = None if row.schedule is None else str(msgspec.convert(row.schedule, schedules.Schedule))
    record = {
        **_line(row),
        "prefix": row.settings.get("prefix") or "–",
        "schedule": schedule or ("watched" if row.settings.get("watch") else "–"),
        **settings,
    }
    if row.error:
        record["error"] = row.error
    if row.outcome is not None:
        did = row.outcome
        record["last scan"] = (
            f"{did.seen} seen, {did.read} read, {did.added} added, {did.changed} changed, {did.moved} moved, "
            f"{did.gone} gone, {did.seconds:g} s"
        )
        for number, problem in enumerate(did.problems[:20], start=1):
            record[f"problem {number}"] = problem
    print_record(record, as_json=False)
