"""`penstock config`: the settings file, what would be published, and what was. Works whether Penstock runs or not."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import (
    CheckOption,
    NoteOption,
    change_record,
    command_line_actor,
    open_rooms,
    print_changes,
    print_draft,
)
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_rows, time_text

with late_imports():
    from penstock.deploy import configuration as configurations
    from penstock.deploy import history as snapshot_history
    from penstock.main import settings_report

app = noun_app("The configuration: check, show, plan, history, diff, rollback.")

VersionArgument = Annotated[int, typer.Argument(min=1, help="Number, from `penstock config history`.")]


@app.command(epilog="Example: penstock config check --home ./home")
def check(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Read penstock.toml and name every mistake with its line and a cure; exit 2 if there is one."""
    opened = open_home(home, as_json=as_json)
    report = settings_report.check_settings(opened)
    if as_json:
        print_json(report)
        return
    there = "is right" if report["exists"] else "is not there, which is fine"
    print(
        f"{report['path']} {there}: {report['n_providers']} providers and {report['n_routes']} routes of its own."
    )
    for warning in report["warnings"]:
        print(f"note: {warning}")


@app.command(epilog="Example: penstock config show --json")
def show(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Print the settings of the file in force, defaults included. Secrets are never in them."""
    values = settings_report.show_settings(open_home(home, as_json=as_json))
    if as_json:
        print_json(values)
        return
    for section, content in values.items():
        if isinstance(content, list):
            for number, item in enumerate(content, start=1):
                print(f"{section}[{number}] = {item}")
            continue
        for name, value in content.items():
            print(f"{section}.{name} = {value}")


@app.command(epilog="Example: penstock config plan --file ./next.toml")
def plan(
    file: Annotated[
        Path | None, typer.Option(help="A settings file to try in the place of the one in the home.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say what publishing would change, and publish nothing; exit 2 if it would be refused."""
    rooms = open_rooms(home, as_json=as_json)
    if file is None:
        print_draft(rooms.configuration.pending(), as_json=as_json)
        return
    if not file.is_file():
        raise InvalidInput(f"There is no file {file}.")
    after, planned = rooms.plan_file(file)
    before = rooms.configuration.published()
    changes = snapshot_history.compare(before, snapshot_history.describe_snapshot(after, ()))
    print_draft(configurations.Draft(changes=tuple(changes), warnings=planned.warnings), as_json=as_json)


@app.command(epilog="Example: penstock config history --limit 10")
def history(
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the configurations that were published, newest first."""
    rows = [
        {
            "version": version.number,
            "published": time_text(version.created_ns),
            "by": version.actor,
            "note": version.note,
            "digest": version.digest if as_json else version.digest[7:19],
        }
        for version in open_rooms(home, as_json=as_json).configuration.history(limit=limit)
    ]
    print_rows(rows, ("version", "published", "by", "note", "digest"), as_json=as_json, empty="None yet.")


@app.command(epilog="Example: penstock config diff 3 5")
def diff(
    before: Annotated[int | None, typer.Argument(min=1, help="Version to start from.")] = None,
    after: Annotated[
        int | None, typer.Argument(min=1, help="Version to compare with.  [default: what is there now]")
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="What is there now against what was published last.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say how two configurations differ, field by field."""
    configuration = open_rooms(home, as_json=as_json).configuration
    if pending:
        if before is not None:
            raise InvalidInput("--pending takes no version.")
        print_draft(configuration.pending(), as_json=as_json)
        return
    if before is None:
        raise InvalidInput("Which version?", hint="penstock config diff 3 5, or --pending")
    changes = configuration.diff(before, after)
    if as_json:
        print_json({"changes": [change_record(change) for change in changes]})
    else:
        print_changes(changes, nothing="no difference")


@app.command(epilog="Example: penstock config rollback 3")
def rollback(
    number: VersionArgument,
    *,
    note: NoteOption = "",
    check: CheckOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put the objects of the control tables back to those of a version; what the file keeps is named, not changed."""
    configuration = open_rooms(home, as_json=as_json).configuration
    if check:
        print_draft(configuration.check_rollback(number), as_json=as_json)
        return
    done = configuration.rollback(number, actor=command_line_actor(), note=note)
    if as_json:
        print_json(
            {
                "version": None if done.version is None else done.version.number,
                "restored": [change_record(change) for change in done.restored],
                "remaining": [change_record(change) for change in done.remaining],
            }
        )
        return
    print_changes(done.restored, nothing="nothing to put back")
    if done.remaining:
        print(f"still different from version {number}, and not kept in the control tables:")
        print_changes(done.remaining)
