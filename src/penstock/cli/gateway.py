"""`penstock gateway`: one worker alone, as the supervisor starts it."""

from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app
from penstock.main.instance import GATEWAY_PORT

with late_imports():
    from penstock.main import gateway_process

app = verb_app()


@app.command(epilog="Example: penstock gateway --home ./home --port 4600")
def gateway(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port; several workers may share it.")
    ] = GATEWAY_PORT,
) -> None:
    """Run one gateway worker alone; it needs no database, only the snapshot in the home."""
    gateway_process.run_gateway(open_home(home), host=host, port=port)
