"""`penstock knowledge document`: list, show, versions. Works whether Penstock runs or not."""

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any, get_args

import typer

from penstock.base.digest import short_digest
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.knowledge.sources.types import ItemRow, ItemState

with late_imports():
    from penstock.main import knowledge_rooms

app = noun_app("Documents of a knowledge base: list, show, versions.")
BaseArgument = Annotated[str, typer.Argument(metavar="NAME", help="The knowledge base.")]
PathArgument = Annotated[str, typer.Argument(help="The document's path in the base.")]


@app.command("list", epilog="Example: penstock knowledge document list handbook --state unreadable")
def list_documents(
    name: BaseArgument,
    *,
    state: Annotated[
        list[str] | None, typer.Option(help="live, unreadable, left_out or gone. May be repeated.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Of this source alone.")] = None,
    text: Annotated[str | None, typer.Option(help="With this in their path.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List everything that the sources hold: documents, and what was left out, with why."""
    for each in state or ():
        if each not in get_args(ItemState):
            raise InvalidInput(f"{each!r} is no state.", hint=f"Use {', '.join(get_args(ItemState))}.")
    sources = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources
    found = list(islice(sources.iterate_items(name, source=source, states=state or (), text=text), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "path": row.path,
            "source": row.source,
            "state": row.state,
            "bytes": row.size_bytes,
            "changed": time_text(row.changed_ns),
            "reason": _reason(row),
        }
        for row in found
    ]
    columns = ("path", "source", "state", "bytes", "changed", "reason")
    print_rows(rows, columns, as_json=False, empty="Nothing yet: penstock knowledge source run NAME")


@app.command(epilog="Example: penstock knowledge document show handbook sleep.md")
def show(
    name: BaseArgument, path: PathArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Show one document: where it is from, its properties, what is wrong with it."""
    found = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.document(name, path)
    if as_json:
        print_json(found)
        return
    record: dict[str, object] = {"path": found.path, "versions": len(found.versions)}
    if found.item is not None:
        item = found.item
        record |= {"source": item.source, "state": item.state, "bytes": item.size_bytes or "–"}
        record |= {"reason": item.reason} if item.reason else {}
        record |= {"was": item.moved_from} if item.moved_from else {}
        record |= {"first seen": time_text(item.first_seen_ns), "last seen": time_text(item.last_seen_ns)}
        record |= _properties(item.properties)
    live = next((version for version in found.versions if version.is_live), None)
    if live is not None:
        record |= {"live": live.id, "title": live.title or "–", "passages": live.n_passages}
        for number, problem in enumerate(live.problems, start=1):
            record[f"problem {number}"] = problem
    errors = [version for version in found.versions if version.error]
    if errors:
        record["error"] = errors[0].error
    print_record(record, as_json=False)


def _reason(row: ItemRow) -> str:
    if row.reason:
        return row.reason
    if row.state == "live" and row.properties.get("readers") == []:
        return "nobody may read it: its list of readers is empty"
    return f"was {row.moved_from}" if row.moved_from else ""


def _properties(given: Mapping[str, Any]) -> dict[str, object]:
    """Return what a source tells of a document, as a person reads it."""
    shown = dict(given)
    if shown.get("readers") == []:
        shown["readers"] = "nobody"
    if (modified_ns := shown.pop("modified_ns", None)) is not None:
        shown["modified"] = time_text(modified_ns)
    return shown


@app.command(epilog="Example: penstock knowledge document versions handbook sleep.md")
def versions(
    name: BaseArgument, path: PathArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """List the versions of a document, newest first."""
    found = (
        knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json)).sources.document(name, path).versions
    )
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "version": row.id,
            "live": "live" if row.is_live else "",
            "content": short_digest(row.digest),
            "bytes": row.size_bytes,
            "passages": row.n_passages,
            "read": time_text(row.created_ns),
            "error": row.error or "",
        }
        for row in found
    ]
    columns = ("version", "live", "content", "bytes", "passages", "read", "error")
    print_rows(rows, columns, as_json=False, empty="No version was read yet.")
