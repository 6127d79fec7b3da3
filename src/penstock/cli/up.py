"""`penstock up`."""

from contextlib import suppress
from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.base.logs import configure_logs
from penstock.cli.options import DEFAULT_HOME, HomeOption, open_home, verb_app

with late_imports():
    from penstock.main import up as supervision

app = verb_app()


@app.command(epilog="Example: penstock up --home ./home --port 4600 --console-port 4601 --workers 2")
def up(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the gateway; 0 takes a free one.  [default: 4600]"),
    ] = None,
    console_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of console and API; 0 takes a free one.  [default: 4601]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Gateway processes.  [default: 1]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
) -> None:
    """Run everything on this home until ctrl-c: gateway, control and console, apps, engine.

    The owner's key is the only line of HOME/admin.key. Logs are in HOME/logs.
    """
    opened = open_home(home)
    configure_logs(level="error", process="supervisor")
    options = supervision.UpOptions(host=host, port=port, console_port=console_port, workers=workers)
    supervision.run_up(opened, options, _say)


def _say(line: str) -> None:
    with suppress(OSError):  # a reader that went away or a full disk must not end the instance
        print(line, flush=True)
