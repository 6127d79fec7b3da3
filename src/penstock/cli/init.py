"""`penstock init`."""

from typing import Annotated

import typer

from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home, verb_app
from penstock.cli.output import print_json
from penstock.main.settings_template import write_template

app = verb_app()


@app.command(epilog="Example: penstock init --home ./home")
def init(
    home: HomeOption = DEFAULT_HOME,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented penstock.toml into the home; nothing in it is needed to begin."""
    opened = open_home(home, as_json=as_json)
    write_template(opened, force=force)
    if as_json:
        print_json({"path": str(opened.settings)})
    else:
        print(f"wrote {opened.settings}")
        print(f"next: penstock up --home {opened.root}")
