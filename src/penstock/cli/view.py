"""`penstock view`: list, show, save, delete. Works on the control tables, whether Penstock runs or not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.base.late import late_imports
from penstock.cli.objects import command_line_actor, open_rooms
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.store.spans.types import Order

with late_imports():
    from penstock.traces import views

app = noun_app("Saved views of lists: list, show, save, delete.")
NameArgument = Annotated[str, typer.Argument(help="Its name.")]


@app.command("list", epilog="Example: penstock view list")
def list_views(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all saved views."""
    rows = [_record(view) for view in _service(home, as_json=as_json).list()]
    columns = ("name", "subject", "query", "order", "columns", "updated")
    print_rows(rows, columns, as_json=as_json, empty="No views yet: penstock view save NAME 'SEARCH'")


@app.command(epilog="Example: penstock view show 'slow answers'")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one saved view."""
    print_record(_record(_service(home, as_json=as_json).get(name)), as_json=as_json)


@app.command(epilog="Example: penstock view save 'slow answers' 'kind:llm duration>5s' --order slowest")
def save(
    name: NameArgument,
    query: Annotated[str, typer.Argument(metavar="[SEARCH]", help="What it looks for.")] = "",
    *,
    spans: Annotated[bool, typer.Option("--spans", help="A view of spans, not of traces.")] = False,
    columns: Annotated[str | None, typer.Option(help="Columns to show, separated by commas.")] = None,
    order: Annotated[Order, typer.Option(help="newest, oldest, slowest, dearest or longest.")] = "newest",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Keep a search under a name, in place of the view that has it."""
    subject: views.ViewSubject = "span" if spans else "trace"
    view = views.SavedView(
        name=name,
        query=query,
        subject=subject,
        columns=tuple(columns.split(",")) if columns else (),
        order=order,
    )
    saved = _service(home, as_json=as_json).save(view, actor=command_line_actor())
    print_record(_record(saved), as_json=as_json)


@app.command(epilog="Example: penstock view delete 'slow answers'")
def delete(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a saved view."""
    _service(home, as_json=as_json).delete(name)
    if as_json:
        print_json({"deleted": name})
    else:
        print(f"{name} is forgotten.")


def _service(home: Any, *, as_json: bool) -> views.ViewService:
    return views.ViewService(open_rooms(home, as_json=as_json).engine)


def _record(view: views.SavedView) -> dict[str, Any]:
    return {
        "name": view.name,
        "subject": view.subject,
        "query": view.query,
        "order": view.order,
        "columns": list(view.columns),
        "actor": view.actor,
        "updated": time_text(view.updated_ns),
    }
