"""`penstock route`: list."""

from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_rows
from penstock.main.rooms import Rooms

app = noun_app("Names that clients put into `model`: list.")


@app.callback()
def _noun() -> None:
    """Names that clients put into `model`."""


@app.command("list", epilog="Example: penstock route list --json")
def list_routes(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List routes with their targets, as a gateway started now would know them."""
    plan = Rooms(open_home(home, as_json=as_json)).plan()
    rows = [
        {
            "route": route.name,
            "kind": route.kind,
            "targets": [f"{target.provider}/{target.model} × {target.weight:g}" for target in route.targets],
            "version": route.version,
        }
        for route in plan.routes
    ]
    print_rows(rows, ("route", "kind", "targets", "version"), as_json=as_json)
