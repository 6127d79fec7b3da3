"""`penstock prompt`: versions of prompts, their aliases and differences, what they make of variables, files of git."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from penstock.base.errors import InvalidInput
from penstock.base.late import late_imports
from penstock.cli.options import DEFAULT_HOME, HomeOption, JsonOption, noun_app, open_home
from penstock.cli.output import print_json, print_record, print_rows, printable, time_text
from penstock.cli.prompt_files import add_file_commands
from penstock.cli.prompt_texts import (
    edit_text,
    read_history,
    read_variables,
    show_diff,
    show_preview,
    show_version,
    split_reference,
)
from penstock.main.control_client import ControlClient
from penstock.main.prompt_trial import ask_prompt
from penstock.prompts.files import write_prompt
from penstock.registry.alias_words import say_basis

with late_imports():
    from penstock.prompts import foreign_files
    from penstock.prompts import service as prompt_service

app = noun_app(
    "Prompts: list, show, create, edit, render, test, diff, history, move, rollback, import, export, uses."
)
Reference = Annotated[str, typer.Argument(help="Such as triage, triage@prod, triage@3.")]
NameArgument = Annotated[str, typer.Argument(help="Its name.")]
NoteOption = Annotated[str, typer.Option(help="What changed; kept with the version.")]
VariableOption = Annotated[
    list[str] | None,
    typer.Option("--var", "-v", help="NAME=VALUE, NAME=@FILE; JSON where the type asks for it."),
]
FromOption = Annotated[Path | None, typer.Option("--from", help="Variables from a JSON file.")]
RowOption = Annotated[str | None, typer.Option("--row", help="Variables from a row: dataset:NAME@3/ROW.")]
BASE = "/api/v1/prompts"


def client_of(home: Path, *, as_json: bool) -> ControlClient:
    """Return the way to the control process of a home."""
    return ControlClient(open_home(home, as_json=as_json))


@app.command("list", epilog="Example: penstock prompt list")
def list_prompts(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all prompts."""
    rows = client_of(home, as_json=as_json).get(BASE)["prompts"]
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "prompt": row["name"],
            "versions": row["n_versions"],
            "aliases": ", ".join(f"{alias} → {number}" for alias, number in sorted(row["aliases"].items())),
            "model": row["model"],
            "variables": row["variables"],
            "changed": time_text(row["changed_ns"]),
        }
        for row in rows
    ]
    columns = ("prompt", "versions", "aliases", "model", "variables", "changed")
    print_rows(shown, columns, as_json=False, empty="No prompts yet: penstock prompt create NAME --file FILE")


@app.command(epilog="Example: penstock prompt show triage@prod")
def show(
    reference: Reference,
    *,
    versions: Annotated[bool, typer.Option("--versions", help="All versions, newest first.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one version as its file would read, or list all versions."""
    name, version = split_reference(reference)
    client = client_of(home, as_json=as_json)
    if versions:
        rows = client.get(f"{BASE}/{name}/versions")["versions"]
        for row in rows:
            row["created"] = time_text(row["created_ns"])
        print_rows(rows, ("number", "aliases", "created", "note", "stamp"), as_json=as_json)
        return
    found = client.get(f"{BASE}/{name}", version=version)
    if as_json:
        print_json(found)
    else:
        show_version(found)


@app.command(epilog="Example: penstock prompt create triage --file triage.prompt --note 'Shorter'")
def create(
    name: NameArgument,
    source: Annotated[Path | None, typer.Argument(help="A .prompt, .json or .txt file.")] = None,
    *,
    option: Annotated[Path | None, typer.Option("--file", "-f", help="The same, as an option.")] = None,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a version from a file. The same content again is the same version."""
    file = source or option
    if file is None or (source is not None and option is not None):
        raise InvalidInput("Name one file.", hint=f"penstock prompt create {name} {name}.prompt")
    client = client_of(home, as_json=as_json)
    found = foreign_files.read_file(str(file), _read(file))
    if len(found) != 1:
        raise InvalidInput(f"{file} holds {len(found)} prompts.", hint="Use `penstock prompt import`.")
    told = client.post(f"{BASE}/{name}/versions", {"content": _plain(found[0][1]), "note": note})
    _print_made(told, as_json=as_json)


@app.command(epilog="Example: penstock prompt edit triage  (in the editor that EDITOR names)")
def edit(
    reference: Reference,
    *,
    note: NoteOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open a version in $EDITOR and make a new one of what you saved."""
    name, version = split_reference(reference)
    client = client_of(home, as_json=as_json)
    found = client.get(f"{BASE}/{name}", version=version)
    before = write_prompt(prompt_service.read_content(found["content"]))
    content = edit_text(name, before)
    if content is None:
        print("Nothing changed.")
        return
    _print_made(
        client.post(f"{BASE}/{name}/versions", {"content": _plain(content), "note": note}), as_json=as_json
    )


@app.command(epilog="Example: penstock prompt render triage@prod -v mail='Where is my order?'")
def render(
    reference: Annotated[str, typer.Argument(help="Such as triage@3, or a file.")],
    *,
    var: VariableOption = None,
    source: FromOption = None,
    row: RowOption = None,
    history: Annotated[Path | None, typer.Option(help="Earlier messages, from a JSON file.")] = None,
    model: Annotated[str | None, typer.Option(help="Whose tokenizer counts.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a prompt makes of variables, and how many tokens that is. Asks no model."""
    client = client_of(home, as_json=as_json)
    asked, declared = _source(client, reference)
    told = client.post(
        f"{BASE}/render",
        {
            **asked,
            "variables": read_variables(client, declared, var, source, row),
            "history": read_history(history),
            "model": model,
        },
    )
    if as_json:
        print_json(told)
    else:
        show_preview(told)


@app.command("test", epilog="Example: penstock prompt test triage@2 -v mail='Where is my order?'")
def ask_once(
    reference: Reference,
    *,
    var: VariableOption = None,
    source: FromOption = None,
    row: RowOption = None,
    model: Annotated[str | None, typer.Option(help="Ask this model instead of the prompt's own.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ask a version once, through the gateway, and show answer, model and trace."""
    client = client_of(home, as_json=as_json)
    name, version = split_reference(reference)
    found = client.get(f"{BASE}/{name}", version=version)
    variables = read_variables(client, found["content"].get("variables", {}), var, source, row)
    told = ask_prompt(open_home(home, as_json=as_json), found["label"], variables, model=model)
    if as_json:
        print_json(told)
        return
    print(told["text"] or "(no text)")
    print_record({name: value for name, value in told.items() if name != "text"}, as_json=False)


@app.command(epilog="Example: penstock prompt diff triage@prod triage@latest")
def diff(
    before: Reference,
    after: Annotated[
        str, typer.Argument(help="The other version, or its number alone; the newest unless told.")
    ] = "",
    further: Annotated[str, typer.Argument(help="After a bare name: `NAME 1 2`.", show_default=False)] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show how two versions differ, turn by turn and word by word."""
    name, version = split_reference(before)
    if further and version is None:
        version, after = after, further
    if after and (after.isdigit() or after.startswith("@")):
        after = f"{name}@{after.removeprefix('@')}"
    other_name, other = split_reference(after or f"{name}@latest")
    if other_name != name:
        raise InvalidInput("These are versions of two prompts.", hint="Compare versions of one.")
    told = client_of(home, as_json=as_json).get(f"{BASE}/{name}/diff", before=version or "prod", after=other)
    if as_json:
        print_json(told)
    else:
        show_diff(told)


@app.command(epilog="Example: penstock prompt move triage@3 --alias prod --reason 'Better on the golden set'")
def move(
    reference: Reference,
    *,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "prod",
    reason: Annotated[str | None, typer.Option(help="Why; kept with the move.")] = None,
    gate: Annotated[str | None, typer.Option(help="A passing gate's verdict as evidence: its id.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version. `prod` needs a gate's verdict, or a reason to go without."""
    name, version = split_reference(reference)
    if version is None:
        raise InvalidInput(f"Say which version of {name}.", hint=f"Such as {name}@3 or {name}@latest.")
    body = {
        "version": version,
        "reason": reason,
        "override_reason": None if gate else reason,
        "evidence": {"gate": gate} if gate else None,
    }
    told = client_of(home, as_json=as_json).post(f"{BASE}/{name}/aliases/{alias}/move", body)
    print_record(_move_row(told), as_json=as_json)


@app.command(epilog="Example: penstock prompt rollback triage --alias prod")
def rollback(
    name: NameArgument,
    *,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = "prod",
    reason: Annotated[str | None, typer.Option(help="Why; kept with the move.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take back the last move of an alias. It answers as before at once."""
    body = {"reason": reason}
    told = client_of(home, as_json=as_json).post(f"{BASE}/{name}/aliases/{alias}/rollback", body)
    print_record(_move_row(told), as_json=as_json)


@app.command(epilog="Example: penstock prompt history triage --alias prod")
def history(
    name: NameArgument,
    *,
    alias: Annotated[str | None, typer.Option(help="Only this alias.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List who moved an alias, when, from where to where and why."""
    moves = client_of(home, as_json=as_json).get(f"{BASE}/{name}/history", alias=alias)["moves"]
    columns = ("alias", "from", "to", "actor", "moved", "basis", "reason")
    print_rows(map(_move_row, moves), columns, as_json=as_json, empty="No alias was moved yet.")


@app.command(epilog="Example: penstock prompt uses triage")
def uses(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show which routes, prompts and versions use a prompt, and its newest call."""
    told = client_of(home, as_json=as_json).get(f"{BASE}/{name}/uses")
    if as_json:
        print_json(told)
        return
    print_rows(told["uses"], ("kind", "name", "reference"), as_json=False, empty="Nothing names it yet.")
    last = told["last_call"]
    print(
        f"last call {time_text(last['time_ns'])}, trace {last['trace_id']}" if last else "It was never asked."
    )


add_file_commands(app)


def _source(client: ControlClient, reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
    path = Path(reference)
    if path.suffix and path.is_file():
        content = _plain(foreign_files.read_file(reference, _read(path))[0][1])
        return {"content": content}, content.get("variables", {})
    name, version = split_reference(reference)
    found = client.get(f"{BASE}/{name}", version=version)
    return {"prompt": found["label"]}, found["content"].get("variables", {})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from None


def _plain(content: Any) -> Any:
    return json.loads(msgspec.json.encode(content))


def _print_made(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    elif told["is_new"]:
        print(f"{told['label']} is made. Ask it as model {told['label']}.")
    else:
        print(f"{told['label']} holds this already.")


def _move_row(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": told["name"],
        "alias": told["alias"],
        "from": told["from_number"],
        "to": told["to_number"],
        "actor": told["actor"],
        "moved": time_text(told["moved_ns"]),
        "basis": say_basis(
            told.get("evidence"), is_override=told["is_override"], is_rollback=told.get("undoes") is not None
        ),
        "reason": printable(told["reason"]) if told.get("reason") else None,
    }
