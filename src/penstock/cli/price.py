"""`penstock price`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from typing import Annotated, Any

import typer

from penstock.cli import objects
from penstock.cli.objects import CheckOption, FromOption, NoteOption, SetOption, UnsetOption
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app

app = noun_app("Prices that you set, which win over the price table: list, show, create, edit, delete.")

ModelArgument = Annotated[
    str, typer.Argument(metavar="PROVIDER/MODEL", help="Provider and model; * may end the model.")
]
InputOption = Annotated[str | None, typer.Option("--input", help="US dollars per million input tokens.")]
OutputOption = Annotated[str | None, typer.Option("--output", help="US dollars per million output tokens.")]
RequestOption = Annotated[str | None, typer.Option("--per-request", help="US dollars for each request.")]


@app.command("list", epilog="Example: penstock price list")
def list_prices(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the prices that were set, in US dollars per million tokens."""
    views = objects.open_rooms(home, as_json=as_json).configuration.list("price")
    rows = [
        {
            "price": view.name,
            "origin": view.owner,
            "usd per million": [f"{name} {usd}" for name, usd in view.row.get("usd_per_million", {}).items()],
            "usd per request": view.row.get("usd_per_request"),
        }
        for view in views
    ]
    columns = ("price", "origin", "usd per million", "usd per request")
    objects.list_objects(views, rows, columns, as_json=as_json)


@app.command(epilog="Example: penstock price show local/llama")
def show(name: ModelArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show one price, with its owner."""
    objects.show_object(objects.open_rooms(home, as_json=as_json), "price", name, as_json=as_json)


@app.command(epilog="Example: penstock price create local/llama* --input 0.20 --output 0.60")
def create(
    name: ModelArgument,
    *,
    per_input: InputOption = None,
    per_output: OutputOption = None,
    per_request: RequestOption = None,
    sets: SetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Set a price in the control tables; other usage classes with --set, such as --set input_cache_read=0.02."""
    content = objects.read_content(sets, source, _shortcuts(per_input, per_output, per_request))
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.create_object(rooms, "price", name, content, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock price edit local/llama* --output 0.80")
def edit(
    name: ModelArgument,
    *,
    per_input: InputOption = None,
    per_output: OutputOption = None,
    per_request: RequestOption = None,
    sets: SetOption = None,
    unset: UnsetOption = None,
    source: FromOption = None,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a price of the control tables; classes that are not named stay."""
    changes = objects.read_content(sets, source, _shortcuts(per_input, per_output, per_request))
    rooms = objects.open_rooms(home, as_json=as_json)
    objects.edit_object(rooms, "price", name, changes, unset=unset, note=note, check=check, as_json=as_json)


@app.command(epilog="Example: penstock price delete local/llama*")
def delete(
    name: ModelArgument,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Delete a price of the control tables."""
    objects.delete_object(
        objects.open_rooms(home, as_json=as_json), "price", name, note=note, as_json=as_json
    )


def _shortcuts(per_input: str | None, per_output: str | None, per_request: str | None) -> dict[str, Any]:
    return {"input_uncached": per_input, "output_text": per_output, "usd_per_request": per_request}
