"""`penstock limit`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from typing import Annotated, Any

import typer

from penstock.cli import objects
from penstock.cli.objects import CheckOption, FromOption, NameArgument, NoteOption, SetOption, UnsetOption
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app

app = noun_app("Limits and budgets: list, show, create, edit, delete.")

ScopeOption = Annotated[str | None, typer.Option(help="all, project, key, user, route or model.")]
MatchOption = Annotated[str | None, typer.Option(help="Which of them.  [default: each has its own counter]")]
UnitOption = Annotated[str | None, typer.Option(help="requests, tokens or usd.")]
AmountOption = Annotated[str | None, typer.Option(help="How much in a window.")]
WindowOption = Annotated[str | None, typer.Option(help="minute, hour, day, week or month, in UTC.")]
ActionOption = Annotated[str | None, typer.Option(help="refuse or warn.  [default: refuse]")]


@app.command("list", epilog="Example: penstock limit list")
def list_limits(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List limit rules, from penstock.toml and the control tables."""
    views = objects.open_rooms(home, as_json=as_json).configuration.list("limit")
    rows = [
        {
            "limit": view.name,
            "origin": view.owner,
            "for": _subject(view.row),
            "amount": f"{view.row['amount']} {view.row['unit']} a {view.row['window']}",
            "action": view.row.get("action", "refuse"),
        }
        for view in views
    ]
    objects.list_objects(views, rows, ("limit", "origin", "for", "amount", "action"), as_json=as_json)


@app.command(epilog="Example: penstock limit show team")
def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one limit rule, with its owner."""
    objects.show_object(objects.open_rooms(home, as_json=as_json), "limit", name, as_json=as_json)


@app.command(
    epilog="Example: penstock limit create team --scope project --unit usd --amount 50 --window month"
)
def create(
    name: NameArgument,
    *,
    scope: ScopeOption = None,
    match: MatchOption = None,
    unit: UnitOption = None,
    amount: AmountOption = None,
    window: WindowOption = None,
    action: ActionOption = None,
    sets: SetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create a limit rule in the control tables."""
    content = objects.read_content(
        sets,
        source,
        {"scope": scope, "match": match, "unit": unit, "amount": amount, "window": window, "action": action},
    )
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.create_object(rooms, "limit", name, content, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock limit edit team --amount 80")
def edit(
    name: NameArgument,
    *,
    scope: ScopeOption = None,
    match: MatchOption = None,
    unit: UnitOption = None,
    amount: AmountOption = None,
    window: WindowOption = None,
    action: ActionOption = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a limit rule of the control tables; what is not named stays."""
    changes = objects.read_content(
        sets,
        source,
        {"scope": scope, "match": match, "unit": unit, "amount": amount, "window": window, "action": action},
    )
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.edit_object(rooms, "limit", name, changes, unset=unset, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock limit delete team")
def delete(
    name: NameArgument,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Delete a limit rule of the control tables."""
    objects.delete_object(
        objects.open_rooms(home, as_json=as_json), "limit", name, note=note, as_json=as_json
    )


def _subject(row: Any) -> str:
    if row["scope"] == "all":
        return "all calls"
    return f"{row['scope']} {row['match']}" if row.get("match") else f"each {row['scope']}"
