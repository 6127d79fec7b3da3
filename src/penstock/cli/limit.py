"""`penstock limit`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from typing import Annotated, Any

import typer

from penstock.cli import objects
from penstock.cli.object_commands import ObjectCommands
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


def _read_options(
    *,
    scope: ScopeOption = None,
    match: MatchOption = None,
    unit: UnitOption = None,
    amount: AmountOption = None,
    window: WindowOption = None,
    action: ActionOption = None,
) -> dict[str, Any]:
    what = {"scope": scope, "match": match, "unit": unit}
    return {**what, "amount": amount, "window": window, "action": action}


_commands = ObjectCommands(kind="limit", read_options=_read_options)
_commands.add_show(app, "Show one limit rule, with its owner.", example="team")
_commands.add_create(
    app,
    "Create a limit rule in the control tables.",
    example="team --scope project --unit usd --amount 50 --window month",
)
_commands.add_edit(
    app, "Change a limit rule of the control tables; what is not named stays.", example="team --amount 80"
)
_commands.add_delete(app, "Delete a limit rule of the control tables.", example="team")


def _subject(row: Any) -> str:
    if row["scope"] == "all":
        return "all calls"
    return f"{row['scope']} {row['match']}" if row.get("match") else f"each {row['scope']}"
