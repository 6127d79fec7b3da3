"""`penstock app`: apps that answer from knowledge, declared in a few lines. Works whether Penstock runs or not."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.apps.types import declaration_content
from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.objects import command_line_actor
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, time_text

with late_imports():
    from penstock.apps import declaring
    from penstock.apps import service as app_service
    from penstock.main import app_rooms, knowledge_rooms

app = noun_app("Apps that answer from knowledge: check, create, edit, list, show, diff, move, delete.")
FileArgument = Annotated[Path, typer.Argument(help="A .toml, .yaml or .json file.")]
Reference = Annotated[str, typer.Argument(help="Such as helpdesk, helpdesk@prod, helpdesk@3.")]
NoteOption = Annotated[str, typer.Option(help="What changed; kept with the version.")]
ReasonOption = Annotated[
    str | None, typer.Option(help="Why it answers from now on; without one `prod` stays where it is.")
]
MAX_FILE_BYTES = 1024 * 1024


@app.command(epilog="Example: penstock app check helpdesk.toml")
def check(file: FileArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Say what a file declares in full, and what it names that is not there. Changes nothing."""
    _, apps = _open(home, as_json=as_json)
    declaration, warnings = apps.check(_read(file), file=file.name)
    if as_json:
        print_json({"declaration": declaration_content(declaration), "warnings": warnings})
        return
    print_record(declaration_content(declaration), as_json=False)
    _warn(warnings)
    print(f"{file.name} declares the app {declaration.name!r}" + (" with warnings." if warnings else "."))


@app.command(epilog="Example: penstock app create helpdesk.toml")
def create(
    file: FileArgument,
    *,
    note: NoteOption = "",
    reason: ReasonOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version from a file. The first one answers at once; the same content again is the same version."""
    rooms, apps = _open(home, as_json=as_json)
    actor = command_line_actor()
    changed = apps.create(_read(file), actor=actor, note=note, reason=reason, file=file.name)
    _finish(rooms, changed, actor=actor, as_json=as_json)


@app.command(epilog="Example: penstock app edit helpdesk --reason 'Answers in German too'")
def edit(
    reference: Reference,
    *,
    note: NoteOption = "",
    reason: ReasonOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open a version in $EDITOR and make a new one of what you saved."""
    rooms, apps = _open(home, as_json=as_json)
    before = declaring.write_declaration(apps.get(reference).declaration)
    after = _edit_text(before)
    if after.strip() == before.strip():
        print_json({"changed": False}) if as_json else print("Nothing changed.")
        return
    actor = command_line_actor()
    told = declaring.parse_declaration(after, "the edited text.json")
    changed = apps.create(told, actor=actor, note=note, reason=reason, file="the edited text")
    _finish(rooms, changed, actor=actor, as_json=as_json)


@app.command("list", epilog="Example: penstock app list")
def list_apps(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List apps, each with the version that answers."""
    _, apps = _open(home, as_json=as_json)
    rows = [_row(version) for version in apps.list_apps()]
    columns = ("app", "knowledge", "model", "steps", "aliases", "changed")
    print_rows(rows, columns, as_json=as_json, empty="None yet: penstock app create FILE")


@app.command(epilog="Example: penstock app show helpdesk@3")
def show(
    reference: Reference,
    *,
    versions: Annotated[bool, typer.Option("--versions", help="All versions, newest first.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one version as a file would hold it, or list all versions."""
    _, apps = _open(home, as_json=as_json)
    if versions:
        rows = [{**_row(each), "note": each.note} for each in apps.list_versions(reference)]
        print_rows(rows, ("app", "aliases", "changed", "note"), as_json=as_json)
        return
    version = apps.get(reference)
    if as_json:
        print_json({**_row(version), "declaration": declaration_content(version.declaration)})
        return
    print(declaring.write_declaration(version.declaration), end="")


@app.command(epilog="Example: penstock app diff helpdesk@1 helpdesk@2")
def diff(
    before: Reference,
    after: Annotated[str, typer.Argument(help="The other version.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two versions."""
    _, apps = _open(home, as_json=as_json)
    rows = apps.diff(before, after)
    print_rows(rows, ("field", "before", "after"), as_json=as_json, empty="Nothing differs.")


@app.command(epilog="Example: penstock app move helpdesk@2 --alias prod --reason 'Better on the golden set'")
def move(
    reference: Reference,
    *,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "prod",
    reason: Annotated[str | None, typer.Option(help="Why; kept with the move.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version: `prod` answers as NAME, others as NAME@ALIAS."""
    rooms, apps = _open(home, as_json=as_json)
    told = apps.move(reference, alias, actor=command_line_actor(), reason=reason)
    rooms.take_up_alias(told)
    if as_json:
        print_json(told)
    else:
        print(f"{told.name}@{told.alias} is version {told.to_number}.")


@app.command(epilog="Example: penstock app delete helpdesk --reason 'Nobody asks it'")
def delete(
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the version that says so.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take an app out of service. Its versions stay: `app move NAME@NUMBER` brings it back."""
    rooms, apps = _open(home, as_json=as_json)
    actor = command_line_actor()
    changed = apps.delete(name, actor=actor, reason=reason)
    rooms.publish_snapshot(actor=actor, note=f"app {name} deleted")
    if as_json:
        print_json({"name": name, "version": changed.version.label, "deleted": True})
    else:
        print(f"{name} answers no more ({changed.version.label} says so).")


def _open(home: Path, *, as_json: bool) -> tuple[knowledge_rooms.KnowledgeRooms, app_service.AppService]:
    rooms = knowledge_rooms.KnowledgeRooms(open_home(home, as_json=as_json), keeps_running=True)
    return rooms, app_rooms.create_apps_service(rooms)


def _finish(
    rooms: knowledge_rooms.KnowledgeRooms, changed: app_service.Changed, *, actor: str, as_json: bool
) -> None:
    version = changed.version
    rooms.publish_snapshot(actor=actor, note=f"app {version.label}")
    if as_json:
        row = {**_row(version), "is_new": changed.is_new, "is_live": "prod" in version.aliases}
        print_json({**row, "warnings": list(version.warnings)})
        return
    _warn(version.warnings)
    if "prod" in version.aliases:
        print(f"{version.label} answers as model {version.name!r}.")
    else:
        how = f"penstock app move {version.label} --reason …"
        print(f"{version.label} is made; another version answers until you say {how}")


def _warn(warnings: Any) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _row(version: app_service.AppVersion) -> dict[str, Any]:
    declaration = version.declaration
    return {
        "app": version.label,
        "knowledge": declaration.knowledge,
        "model": declaration.model,
        "steps": ", ".join(declaration.steps),
        "aliases": ", ".join(version.aliases),
        "changed": time_text(version.created_ns),
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{file} is over {MAX_FILE_BYTES:,} bytes; no app is declared in that many.")
        return declaring.parse_declaration(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}.") from None


def _edit_text(text: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "app.json"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InvalidInput(f"The editor {editor!r} failed: {error}.", hint="Set EDITOR.") from None
        return file.read_text(encoding="utf-8")
