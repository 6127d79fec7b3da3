"""`penstock apps`: one process alone, as the supervisor starts it."""

from typing import Annotated

import typer

from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.apps_process import run_apps
from penstock.main.instance import APPS_PORT

app = verb_app()


@app.command(epilog="Example: penstock apps --home ./home --port 4602")
def apps(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = APPS_PORT,
) -> None:
    """Run the apps process alone: knowledge apps, on loopback, for this installation only."""
    run_apps(open_home(home), port=port)
