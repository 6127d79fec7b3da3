"""`penstock restore`: a home from a backup."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import JsonOption, open_home, verb_app
from penstock.cli.output import print_json, print_record, printable, time_text
from penstock.cli.progress import ProgressLine

with late_imports():
    from penstock.main import restore as restoring

app = verb_app()


@app.command(epilog="Example: penstock restore penstock-monday.tar --home ./restored")
def restore(
    file: Annotated[Path, typer.Argument(help="What `penstock backup` wrote.")],
    *,
    home: Annotated[
        Path | None, typer.Option("--home", help="The new home; must not be there, or be empty.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check every file of the backup.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new home from a backup, after every byte was checked."""
    if (home is None) != check:
        raise InvalidInput("Say what to do with it.", hint="Name the new home with --home, or use --check.")
    with ProgressLine("check" if check else "restore", quiet=as_json) as line:
        if home is None:
            report = restoring.check_backup(file, tell=line.tell)
        else:
            report = restoring.restore(file, open_home(home, as_json=as_json).root, tell=line.tell)
    if as_json:
        print_json(report)
        return
    told = {
        "home": report.home or "only checked: every file is whole",
        "files": report.n_files,
        "size_bytes": report.size_bytes,
        "made": time_text(report.created_ns),
        "by": f"penstock {report.version}",
    }
    print_record(told, as_json=False)
    for note in report.notes:
        print(f"note: {printable(note)}")
    if report.home is not None:
        print(
            "note: what was erased after this backup was made is in it again: penstock privacy replay RECEIPT…"
        )
