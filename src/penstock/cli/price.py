"""`penstock price`: list, show, create, edit, delete. Works whether Penstock runs or not."""

from typing import Annotated, Any

import typer

from penstock.cli import objects
from penstock.cli.object_commands import ObjectCommands
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


def _read_options(
    *, per_input: InputOption = None, per_output: OutputOption = None, per_request: RequestOption = None
) -> dict[str, Any]:
    return {"input_uncached": per_input, "output_text": per_output, "usd_per_request": per_request}


_commands = ObjectCommands(kind="price", read_options=_read_options, argument=ModelArgument)
_commands.add_show(app, "Show one price, with its owner.", example="local/llama")
_commands.add_create(
    app,
    "Set a price in the control tables; other usage classes with --set, such as --set input_cache_read=0.02.",
    example="local/llama* --input 0.20 --output 0.60",
)
_commands.add_edit(
    app,
    "Change a price of the control tables; classes that are not named stay.",
    example="local/llama* --output 0.80",
)
_commands.add_delete(app, "Delete a price of the control tables.", example="local/llama*")
