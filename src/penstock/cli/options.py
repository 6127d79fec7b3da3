"""Options that every command has, declared once."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.faults import DebugFlag
from penstock.spec.home import DEFAULT_ROOT, Home

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="PENSTOCK_HOME", help="Folder that holds everything of this Penstock."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_HOME = DEFAULT_ROOT


def open_home(folder: Path, *, as_json: bool = False) -> Home:
    """Return the layout of `folder` and note it, so that an error is told in the form that was asked for."""
    home = Home(root=folder.expanduser().absolute())
    DebugFlag.home = home
    DebugFlag.is_json = as_json
    return home


def noun_app(help_text: str) -> typer.Typer:
    """Return the Typer application of one noun, in the house form."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def verb_app() -> typer.Typer:
    """Return the Typer application of a single command such as `up`."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
