"""`penstock doctor`."""

import typer

from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, open_home, verb_app
from penstock.cli.output import print_rows

with late_imports():
    from penstock.main import doctor as examination

app = verb_app()


@app.command(epilog="Example: penstock doctor --home ./home")
def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Look at this home and say what is well, what is not, and what to do. Exit 1 if something is bad."""
    findings = examination.examine(open_home(home, as_json=as_json))
    rows = [vars(finding) for finding in findings]
    print_rows(rows, ("what", "verdict", "detail", "cure"), as_json=as_json)
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)
