"""`penstock apps`: one process alone, as the supervisor starts it."""

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.instance import APPS_PORT

with late_imports():
    from penstock.main import apps_process

app = verb_app()


@app.command(epilog="Example: penstock apps --home ./home --port 4602")
def apps(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = APPS_PORT,
) -> None:
    """Run the apps process alone: knowledge apps, on loopback, for this installation only."""
    apps_process.run_apps(open_home(home), port=port)
