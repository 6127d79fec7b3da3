"""`penstock engine`: one process alone, as the supervisor starts it."""

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.instance import ENGINE_PORT

with late_imports():
    from penstock.main import engine_process

app = verb_app()


@app.command(epilog="Example: penstock engine --home ./home --port 4603")
def engine(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = ENGINE_PORT,
    serve: Annotated[
        str | None,
        typer.Option(help="Host what this file in run/engines says, by its name, and nothing else."),
    ] = None,
) -> None:
    """Run the embedded engine alone: every local model, on loopback, for this installation only."""
    engine_process.run_engine(open_home(home), port=port, serve=serve)
