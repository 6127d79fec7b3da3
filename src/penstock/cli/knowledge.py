"""`penstock knowledge`: ingest, list, search."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.knowledge_apply import apply
from penstock.cli.knowledge_document import app as document_app
from penstock.cli.knowledge_erase import register as register_erasing
from penstock.cli.knowledge_generations import register as register_generations
from penstock.cli.knowledge_ingested import print_ingested
from penstock.cli.knowledge_quality import register as register_quality
from penstock.cli.knowledge_questions import app as question_app
from penstock.cli.knowledge_source import app as source_app
from penstock.cli.knowledge_tune import register as register_tune
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.cli.progress import ProgressLine
from penstock.spec.assets import parse_asset_ref
from penstock.spec.knowledge import ChosenScope

with late_imports():
    from penstock.knowledge.retrieval import filters
    from penstock.main import knowledge_rooms, submitting

app = noun_app("Knowledge bases: ingest, list, search; where their documents come from.")
app.add_typer(source_app, name="source")
app.add_typer(document_app, name="document")
app.add_typer(question_app, name="question")
app.command(epilog="Example: penstock knowledge apply handbook.toml --check")(apply)
register_generations(app)
register_tune(app)
register_quality(app)
register_erasing(app)


@app.command(epilog="Example: penstock knowledge ingest handbook ./documents")
def ingest(
    *,
    name: Annotated[str, typer.Argument(help="The knowledge base; an app of this name answers from it.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of documents; without it all sources of the base are read.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Read this source alone; may be repeated.")
    ] = None,
    allow_mass_deletion: Annotated[
        bool, typer.Option("--allow-mass-deletion", help="Even if most documents vanished.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the job to end.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a knowledge base hold exactly what its sources hold. Only what changed is read again."""
    opened = open_home(home, as_json=as_json)
    parse_asset_ref(f"knowledge:{name}")
    rooms = knowledge_rooms.KnowledgeRooms(opened)
    if folder is not None:
        folder = _check_folder(folder)
    elif not rooms.sources.list_sources(name):
        raise InvalidInput(
            f"knowledge:{name} has no source yet.",
            hint=f"penstock knowledge ingest {name} FOLDER, or penstock knowledge source add {name} …",
            param="folder",
        )
    job = submitting.submit_ingest(
        rooms, name, folder, sources=source, allow_mass_deletion=allow_mass_deletion
    )
    if not wait:
        print_json({"job": job.id}) if as_json else print(f"job {job.id}")
        return
    with ProgressLine(f"ingest {name}", quiet=as_json) as line:
        result = submitting.follow(rooms, job, line.tell).result or {}
    if as_json:
        print_json({"job": job.id, **result})
        return
    print_ingested(name, result)


def _check_folder(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InvalidInput(
            f"The folder {str(folder)!r} {what}.", hint="Name a folder that holds documents.", param="folder"
        )
    return folder


@app.command("list", epilog="Example: penstock knowledge list")
def list_bases(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List knowledge bases."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    rows = [{**asdict(base), "updated": time_text(base.updated_ns)} for base in rooms.knowledge.list_bases()]
    columns = ("name", "version", "n_documents", "n_passages", "embedder", "source", "updated")
    print_rows(rows, columns, as_json=as_json, empty="None yet: penstock knowledge ingest NAME FOLDER")


@app.command(epilog="Example: penstock knowledge show handbook")
def show(
    name: Annotated[str, typer.Argument(help="The knowledge base.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one knowledge base: what is live, its recipe, its sources, what could not be read."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    tracks = rooms.knowledge.list_tracks(name)
    (base,) = [each for each in rooms.knowledge.list_bases() if each.name == name]
    sources = rooms.sources.list_sources(name)
    unreadable = sum(each.counts.get("unreadable", 0) for each in sources)
    record = {
        **asdict(base),
        "updated": time_text(base.updated_ns),
        "recipe": tracks[0].recipe,
        "tracks": [each.name for each in tracks],
        "sources": [f"{each.name} ({each.kind})" for each in sources],
        "unreadable": unreadable if sources else rooms.knowledge.count_unreadable(name),
    }
    print_record(record, as_json=as_json)


@app.command(epilog='Example: penstock knowledge search handbook "how long should I sleep" -k 3')
def search(
    name: Annotated[str, typer.Argument(help="The knowledge base.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="How many passages.")] = 5,
    *,
    track: Annotated[
        str | None, typer.Option(help="A track or a generation; without it what is live.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Filter, such as 'language:de modified:>2026-01-01 -tag:draft'.")
    ] = None,
    principal: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            "--principal",
            help="Only what this principal may read, such as user:ada; may be repeated.",
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find the best passages. While Penstock does not run, by words alone."""
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json))
    scope = ChosenScope(conditions=[filters.read_filter(where)] if where else [], principals=principal)
    found = rooms.knowledge.retrieve(name, query, k, scope=scope, generation=track)
    rooms.close()
    if as_json:
        print_json(found)
        return
    for note in (found.note, found.shortfall):
        if note:
            typer.echo(f"note: {note}", err=True)
    rows = [
        {"score": hit.score, "document": hit.document, "section": hit.section, "text": hit.text}
        for hit in found.hits
    ]
    print_rows(rows, ("score", "document", "section", "text"), as_json=False, empty="Nothing found.")
