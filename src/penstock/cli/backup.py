"""`penstock backup`: everything of a home in one file, while it runs or not."""

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home, verb_app
from penstock.cli.output import print_json, print_record, printable
from penstock.cli.progress import ProgressLine

with late_imports():
    from penstock.main import backup as backups

app = verb_app()


@app.command(epilog="Example: penstock backup --out penstock-monday.tar")
def backup(
    *,
    out: Annotated[Path, typer.Option(help="The file to write; compressed if it ends in .gz.")],
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave out the owner's key and the master key.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write everything of this home into one file: tables, traces, artefacts, files, settings, keys."""
    opened = open_home(home, as_json=as_json)
    with ProgressLine("backup", quiet=as_json) as line:
        report = backups.back_up(opened, out, environ=os.environ, with_keys=not without_keys, tell=line.tell)
    if as_json:
        print_json(report)
        return
    print_record(
        {"written": report.path, "size_bytes": report.size_bytes, "files": report.n_files}, as_json=False
    )
    for note in report.notes:
        print(f"note: {printable(note)}")
