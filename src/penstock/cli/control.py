"""`penstock control`: one process alone, as the supervisor starts it."""

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.instance import CONSOLE_PORT

with late_imports():
    from penstock.main import control_process

app = verb_app()


@app.command(epilog="Example: penstock control --home ./home --port 4601")
def control(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = CONSOLE_PORT,
) -> None:
    """Run the control process alone: REST API, console, OTLP, collector, job worker."""
    control_process.run_control(open_home(home), host=host, port=port)
